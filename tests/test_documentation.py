"""README.md and docs/: their Python and their commands run, their links lead somewhere, the reference is not stale."""

import csv
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from PIL import Image

import dae_lightning
from dae_lightning import DenoisingAutoencoder, schema
from dae_lightning.cli.hydra_app import CONF, checked
from dae_lightning.config import Denoise, Evaluate, Export, Train, Trainer
from dae_lightning.evaluation.evaluate import evaluate
from dae_lightning.sweeps.summary import summarize
from tests.conftest import Run, write_idx
from tests.test_sweeps import write_job, write_plan

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dae_lightning"
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks/README.md"]

NOT_RUN = "# not run by the tests: "  # in a block, with the reason
RUN_BY_THE_GATE = "python -m pip install -e"  # .ci/run reads these from the README
# a test below, or in test_export.py or test_photographs.py, runs them
PYTHON = {"README.md", "docs/using.md", "docs/extending.md", "docs/photographs.md"}


def blocks(page: str, language: str = "python") -> list[str]:
    """The fenced blocks of a page in a language, without those that are marked as not run."""
    found = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [block for block in found if NOT_RUN not in block]


def commands(page: str) -> list[str]:
    """The commands in a page's blocks, in order, without their remarks."""
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [shlex.join(words) for line in lines if (words := shlex.split(line, comments=True))]


NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
COMMANDS = {page: found for page in NAMES if (found := commands(page))}


def test_every_block_is_in_a_language_that_is_run_or_in_none() -> None:
    for page in NAMES:
        fences = re.findall(r"^```(.*)\n(?:.|\n)*?^```", (ROOT / page).read_text(), re.MULTILINE)
        assert {fence for fence in fences if not fence.startswith("{")} <= {"python", "bash", "text", ""}, page
    assert {page for page in NAMES if blocks(page)} == PYTHON
    programs = {command.split()[0] for found in COMMANDS.values() for command in found}
    assert programs == {"python", "dae-train", "dae-denoise", "dae-evaluate", "dae-export", "dae-summarize"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_are_there(page: Path) -> None:
    places = re.findall(r"\]\((?!https?:)([^)#]+)\)|<img src=\"([^\"]+)\"", page.read_text())
    missing = [place for pair in places for place in pair if place and not (page.parent / place).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_are_there(page: Path) -> None:
    named = re.findall(r"`((?!\.hydra/|multirun\.yaml)[\w./]+\.(?:py|md|yaml))`", page.read_text())
    missing = [name for name in named if not any((folder / name).exists() for folder in (ROOT, PACKAGE, page.parent))]
    assert not missing


def test_the_readme_is_short_and_maps_every_folder_of_the_package() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    folders = {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")}
    assert set(re.findall(r"^  (\w+)/ ", text, re.MULTILINE)) == folders


@pytest.mark.parametrize("page", ["README.md", "docs/using.md"])
def test_a_checkpoint_is_used_as_it_is_written(page: str, run: Run) -> None:
    folder = run("run", "data=glyphs", "data.train_size=60", "data.test_size=20")
    block = blocks(page)[0].replace("outputs/...", str(folder))
    names: dict[str, torch.Tensor] = {}
    exec(block, names)
    assert names["denoised"].shape == (8, 28, 28)


@pytest.fixture
def downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current directory in which torchvision finds a small Fashion-MNIST and downloads nothing."""
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        write_idx(raw / f"{split}-images-idx3-ubyte", torch.randint(256, (64, 28, 28), dtype=torch.uint8))
        write_idx(raw / f"{split}-labels-idx1-ubyte", torch.arange(64, dtype=torch.uint8) % 10)
    monkeypatch.chdir(tmp_path)


STOCK_WARNINGS = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*number of training batches",
    "ignore:.*have no `val_dataloader`",
    "ignore:.*`tensorboardX` has been removed",
)


@STOCK_WARNINGS
def test_the_page_on_extending_runs_from_top_to_bottom(downloaded: None, tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    stock, *own = blocks("docs/extending.md")
    exec(stock, names)
    assert names["model"].batches_seen == 2
    for block in own:
        exec(block, names)
    assert isinstance(names["Momentum"]((28, 28), 4, names["GaussianNoise"]()).configure_optimizers(), torch.optim.SGD)
    clean = torch.rand(3, 28, 28)
    speckled = names["model"].noise(clean)
    assert not torch.equal(speckled, clean)
    assert torch.equal(speckled == 0, clean == 0)
    model = names["Mse"]((28, 28), 4, names["Speckle"](0.5)).eval()
    torch.testing.assert_close(model.loss(clean, clean), (model(clean) - clean).square().mean())
    torch.save({"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}, tmp_path / "model.ckpt")
    again = DenoisingAutoencoder.load_from_checkpoint(tmp_path / "model.ckpt", noise=names["Speckle"](0.5)).eval()
    assert torch.equal(again(clean), model(clean))


# --- commands -------------------------------------------------------------------------------------------------------

SCHEMAS: dict[str, type[schema.Settings]] = {"train": Train, "denoise": Denoise, "evaluate": Evaluate, "export": Export}
STANDS_FOR = {"NAME": "fast_sigma2", "noise.sigma=S": "noise.sigma=1"}  # in commands that the text mentions


def mentioned() -> Iterator[str]:
    """Every command of the blocks and within the text."""
    for page in NAMES:
        yield from COMMANDS.get(page, [])
        for command in re.findall(r"(?<!`)`((?:python train\.py|dae-\w+) [^`]+)`", (ROOT / page).read_text()):
            for name, value in STANDS_FOR.items():
                command = command.replace(name, value)
            yield " ".join(command.split())


# a plugin is imported for good, which other tests need not know; dae-summarize has no keys
WITHOUT = ("plugins=", "-m pip", "resume=", "dae-summarize", "--config-dir")
MENTIONED = sorted({command for command in mentioned() if not any(part in command for part in WITHOUT)})


@pytest.mark.parametrize("command", MENTIONED)
def test_the_keys_of_a_command_are_there_and_their_values_right(command: str) -> None:
    program, *words = shlex.split(command)
    values = [word for word in words if "=" in word and not word.startswith("hydra")]
    # one job of a sweep
    single = [word if "[" in word else INTERVAL.sub(r"\1", word).split(",")[0] for word in values]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        name = "train" if program == "python" else program.removeprefix("dae-")
        checked(compose(name, single), SCHEMAS[name])


INTERVAL = re.compile(r"(?<==).*interval\(([^,]+),.*")  # of a search; its lower end
SMALL = ["trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.enable_progress_bar=false", "examples=2"]
GLYPHS = ["data.train_size=60", "data.test_size=20"]


def quick(words: list[str]) -> list[str]:
    """A training's arguments for few and small jobs: a sweep's first axis keeps two values, the others one."""
    small, kept = list[str](), 2
    for word in words:
        if re.fullmatch(r"[\w./]+=[^\[(]*,.*", word):
            key, _, values = word.partition("=")
            small.append(f"{key}={','.join(values.split(',')[:kept])}")
            kept = 1
        else:
            small.append(word)
    if any(word.startswith("resume=") for word in words):
        return [*small, "trainer.max_epochs=2"]
    if not any(word.startswith("data=") for word in words):
        small.append("data=glyphs")
    if "hydra/sweeper=search" in words:
        small.append("hydra.sweeper.trials=2")
    return [*small, *GLYPHS * ("data=glyphs" in small), *SMALL]


def call(name: str, *arguments: str, folder: Path) -> str:
    """What a command that must succeed says, called in a folder."""
    program = [sys.executable, "-c", f"from dae_lightning.cli.main import {name}; {name}()", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"dae-{shlex.join([name, *arguments])}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", COMMANDS)
def test_the_commands_of_a_page_run_one_after_the_other(page: str, tmp_path: Path, idx_root: Path) -> None:
    if missing := [
        name for name in ("onnxscript", "optuna", "hydra_plugins.hydra_joblib_launcher") if not installed(name)
    ]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    call("train", *quick(["noise=gaussian_range", "network=sigma_aware", "hydra.run.dir=run"]), folder=tmp_path)
    (tmp_path / "photos").mkdir()
    Image.new("L", (28, 28), 90).save(tmp_path / "photos" / "photo.png")
    places = {"RUN_FOLDER": "run", "PHOTOS": "photos", "DIR": str(idx_root)}
    for command in COMMANDS[page]:
        if not command.startswith(RUN_BY_THE_GATE):
            program, *words = shlex.split(command)
            words = [re.sub(r"\b(RUN_FOLDER|PHOTOS|DIR)\b", lambda name: places[name[0]], word) for word in words]
            if program in ("python", "dae-train"):
                call("train", *quick(words[program == "python" :]), folder=tmp_path)
            else:
                call(program.removeprefix("dae-"), *words, folder=tmp_path)


def installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False


def test_the_gate_runs_the_commands_that_install() -> None:
    gate = (ROOT / ".ci/run").read_text()
    assert "readme '^python -m pip install -e" in gate
    assert "sphinx -q -W" in gate


# --- the reference --------------------------------------------------------------------------------------------------

REFERENCE = runpy.run_path(str(ROOT / "docs" / "reference.py"))["PAGES"]


@pytest.mark.parametrize("page", REFERENCE)
def test_the_reference_is_what_the_schema_the_yaml_and_help_say(page: str) -> None:
    assert (ROOT / "docs" / page).read_text() == REFERENCE[page](), "stale: run python docs/reference.py"


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        elif key not in ("defaults", "kind"):
            yield prefix + key


def test_every_key_is_in_the_reference_with_its_meaning() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    keys = {f"trainer.{flag}" for flag in Trainer.model_fields}
    for file in CONF.glob("*.yaml"):
        keys |= {key for key in leaves(yaml.safe_load(file.read_text())) if not key.startswith("hydra.")}
    for file in CONF.glob("*/*.yaml"):
        values = leaves(yaml.safe_load(file.read_text()))
        keys |= {key if file.parent.name == "experiment" else f"{file.parent.name}.{key}" for key in values}
        assert f"`{file.parent.name}={file.stem}`" in page or f"| `{file.stem}` |" in page
    for key in keys:
        said = re.search(rf"^### `{re.escape(key)}`\n\n(.*)\\\n\*.+\*$", page, re.MULTILINE)
        assert said, key
        assert len(said[1].rpartition("`: ")[2]) > 3, f"{key} has no meaning: a comment at its line in conf/"


def test_every_public_name_is_in_the_api() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    assert {name for name in dae_lightning.__all__ if name != "__version__"} <= set(
        re.findall(r"dae_lightning\.(\w+)", page)
    )


def undescribed(folder: Path) -> list[str]:
    """The files below a folder, their columns and their keys that docs/files.md does not name."""
    page = (ROOT / "docs" / "files.md").read_text()
    names: list[str] = []
    for file in filter(Path.is_file, folder.rglob("*")):
        names.append(str(file.relative_to(folder)))
        if file.suffix == ".csv":
            names += next(csv.reader(file.read_text().splitlines()))
        if file.suffix == ".json":
            names += json.loads(file.read_text())
    return [name for name in names if f"`{name}`" not in page]


def test_every_file_and_column_of_a_run_and_its_evaluation_is_described(run: Run, tmp_path: Path) -> None:
    folder = run("run", "data.val_size=10")
    values = yaml.safe_load((CONF / "evaluate.yaml").read_text()) | {
        "data": None,
        "methods": ["noisy"],
        "sigmas": [2.0],
    }
    known = {key: value for key, value in values.items() if key in Evaluate.model_fields}
    settings = schema.check(Evaluate, known | {"output": "", "checkpoint": str(folder)}, "")
    evaluate(settings, {str(folder): folder / "checkpoints" / "last.ckpt"}, tmp_path / "evaluation")
    assert undescribed(folder) + undescribed(tmp_path / "evaluation") == []


def test_every_file_and_column_of_a_sweep_is_described(tmp_path: Path) -> None:
    write_plan(tmp_path, "latent=2,4")
    for latent in (2, 4):
        job = write_job(tmp_path, f"latent={latent}")
        assert undescribed(job) == []
    summarize(tmp_path)
    assert set(undescribed(tmp_path)) <= {
        "latent",
        *(f"latent={n}/{name}" for n in (2, 4) for name in ("job.json", "results.json")),
    }


# --- the rest -------------------------------------------------------------------------------------------------------


def test_the_citation_and_the_changelog_name_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == dae_lightning.__version__
    assert f"## {dae_lightning.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
