"""The package's own shape, read from its imports (those inside functions included)."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import dae_lightning

ROOT = Path(dae_lightning.__file__).parent
LAYERS, LINES = 9, 250
OUTSIDE_THE_MODEL = ("training", "evaluation", "inference", "sweeps", "cli", "data")


def module_name(path: Path) -> str:
    return ".".join(("dae_lightning", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@cache
def imports(module: str) -> frozenset[str]:
    """The package's modules that this one imports, anywhere in its code."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return frozenset(name for name in found & MODULES.keys() if name != "dae_lightning" and len(name.split(".")) > 1)


def test_imports_go_one_way() -> None:
    layers: dict[str, int] = {}  # one more than the highest that a module imports
    inside = {module: imports(module) for module in MODULES if module != "dae_lightning"}
    for module in TopologicalSorter(inside).static_order():  # raises CycleError
        layers[module] = 1 + max((layers[name] for name in inside[module]), default=0)
    assert max(layers.values()) <= LAYERS, layers


def test_the_model_knows_nothing_of_what_is_built_on_it() -> None:
    for module in MODULES:
        if module.startswith("dae_lightning.model."):
            above = {name for name in imports(module) if name.split(".")[1] in OUTSIDE_THE_MODEL}
            assert not above, module
    code = "import sys, dae_lightning.model.autoencoder; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    for folder in OUTSIDE_THE_MODEL:
        assert f"dae_lightning.{folder}" not in loaded.stdout.split()


def test_no_module_is_longer_than_a_person_reads_at_a_time() -> None:
    long = {module: lines for module, path in MODULES.items() if (lines := len(path.read_text().splitlines())) > LINES}
    assert not long
