"""docs/lesson.py: it runs as a notebook and as a script, draws what it talks about, and what it says is so."""

import base64
import importlib.util
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

jupytext = pytest.importorskip("jupytext")

ROOT = Path(__file__).parent.parent
LESSON = ROOT / "docs/lesson.py"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "LESSON_DATA"} | {"PYTHONPATH": str(ROOT)}
FIGURES = re.findall(r'^show\("(\w+)"', LESSON.read_text(), re.MULTILINE)

FACTS = """json.dumps({
    "written_loss": written_loss, "difference": difference, "lowest": lowest,
    "losses": losses, "strong_losses": strong_losses, "trapped_loss": trapped_loss,
    "model": model_psnr, "trapped": trapped_psnr, "at_2": at_2,
    "curves": {name: dict(curve.points) for name, curve in (curves | every_curve).items()},
    "adds_noise": [adds_noise(each) for each in (model, written, trapped)],
    "share": share, "lost": lost.item(), "by_loss": by_loss, "averaged": averaged, "by_latent": by_latent, "told": told,
})"""

Facts = dict[str, Any]


def cells() -> list[Any]:
    return list(jupytext.read(LESSON).cells)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The lesson as a notebook, executed on letters, with one more cell that prints the facts."""
    pytest.importorskip("ipykernel")
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    lesson = jupytext.read(LESSON)
    lesson.cells.append(nbformat.v4.new_code_cell(f"import json; print({FACTS})"))
    folder = tmp_path_factory.mktemp("notebook")
    nbclient.NotebookClient(lesson, timeout=900, resources={"metadata": {"path": str(folder)}}).execute(env=ENVIRONMENT)
    return lesson


@pytest.fixture(scope="module", params=["letters, in a notebook", "Fashion-MNIST, as a script"])
def facts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Facts:
    if "letters" in request.param:
        executed = request.getfixturevalue("notebook")
        return json.loads(executed.cells[-1].outputs[0]["text"])  # type: ignore[no-any-return]
    if "DAE_TEST_DATA" not in os.environ:
        pytest.skip("DAE_TEST_DATA names no folder of real images")
    folder = tmp_path_factory.mktemp("script")
    program = (
        f"import runpy, json; names = runpy.run_path({str(LESSON)!r}); print(eval({FACTS!r}, names | {{'json': json}}))"
    )
    environment = ENVIRONMENT | {"LESSON_DATA": os.environ["DAE_TEST_DATA"], "MPLBACKEND": "agg"}
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, check=True, text=True, stdout=subprocess.PIPE
    )
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"lesson_{name}.png" for name in FIGURES)
    return json.loads(ended.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_its_links_lead_somewhere_and_its_cells_are_short() -> None:
    text = "\n".join(cell.source for cell in cells() if cell.cell_type == "markdown")
    slugs = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)", text, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= slugs
    assert all((LESSON.parent / file).is_file() for file in re.findall(r"\]\((\w+\.md)\)", text))
    exercises, solutions = (re.findall(rf"{mark}\*\*Exercise (\d)", text) for mark in ("> ", "(?<!> )"))
    assert exercises == solutions == ["1", "2", "3", "4", "5", "6"]
    assert max(len(cell.source.splitlines()) for cell in cells() if cell.cell_type == "code") <= 40


def test_after_every_figure_a_sentence_says_what_to_look_at() -> None:
    main = cells()[: next(place for place, cell in enumerate(cells()) if cell.source.startswith("## Solutions"))]
    text = [cell.source for cell in main if cell.cell_type == "markdown" or "\nshow(" in f"\n{cell.source}"]
    for place, source in enumerate(text):
        if source.startswith("show(") or "\nshow(" in source:
            assert any("**Look at**" in later for later in text[place : place + 4]), source


def test_the_written_out_model_is_a_module_of_25_lines() -> None:
    (model,) = (cell.source for cell in cells() if "class WrittenOut(" in cell.source)
    assert len(model.strip().splitlines()) <= 25


@pytest.mark.parametrize("installed", [True, False], ids=["with the package", "without it"])
def test_the_installation_names_the_torch_that_is_there(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    (cell,) = (cell.source for cell in cells() if '"pip"' in cell.source)
    calls: list[list[str]] = []
    found = importlib.util.find_spec
    missing = () if installed else ("dae_lightning",)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else found(name))
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    exec(cell, {})
    kept = [f"torch=={version('torch')}", f"torchvision=={version('torchvision')}"]
    assert calls == ([] if installed else [[sys.executable, "-m", "pip", "install", "--quiet", "..", *kept]])


@pytest.mark.slow
def test_the_notebook_shows_every_figure_and_no_warning(notebook: Any) -> None:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == len(FIGURES)
    assert all(min(Image.open(BytesIO(base64.b64decode(picture))).size) > 100 for picture in pictures)
    assert [output["text"] for output in outputs if output.get("name") == "stderr"] == []


@pytest.mark.slow
def test_the_written_out_model_is_ours(facts: Facts) -> None:
    assert facts["difference"] < 1e-5
    assert facts["written_loss"] == pytest.approx(facts["losses"][0]["train/loss"], abs=0.01)
    assert facts["adds_noise"] == [True, True, False]


@pytest.mark.slow
def test_the_losses_fall_and_stay_above_the_floor(facts: Facts) -> None:
    curve = [row["train/loss"] for row in facts["losses"]]
    assert facts["lowest"] < curve[-1] < curve[0]
    last = facts["losses"][-1]
    assert last["val/denoising/bce"] == pytest.approx(last["train/loss"], abs=0.02)  # they stay together
    assert last["val/reconstruction/bce"] < last["val/denoising/bce"]
    assert facts["strong_losses"][-1]["train/loss"] > curve[-1] + 0.05


@pytest.mark.slow
def test_a_model_that_never_saw_noise_looks_better_and_is_worse(facts: Facts) -> None:
    assert facts["trapped_loss"] < facts["losses"][-1]["train/loss"]
    assert facts["trapped"]["reconstruction"] > facts["model"]["reconstruction"] + 3
    assert facts["trapped"]["denoising"] < facts["at_2"]["mean image"] < facts["model"]["denoising"]


@pytest.mark.slow
def test_the_model_lies_between_floors_and_ceiling(facts: Facts) -> None:
    ranked = ["mean image", "Wiener", "our model", "posterior mean"]
    assert sorted(facts["at_2"], key=facts["at_2"].get) == ranked


@pytest.mark.slow
def test_the_wrong_noise_costs_most_and_one_model_suits_all(facts: Facts) -> None:
    two, six, every = (
        facts["curves"][name] for name in ("trained at sigma 2", "trained at sigma 6", "one model for every sigma")
    )
    mean, clipped = facts["curves"]["mean image"], facts["curves"]["the noisy picture, clipped"]
    assert two["6.0"] < mean["6.0"]
    assert clipped["0.1"] > max(two["0.1"], six["0.1"])
    assert min(every[sigma] - clipped[sigma] for sigma in every) > 0
    assert min(every["2.0"] - two["2.0"], every["6.0"] - six["6.0"]) > -0.5
    assert min(every[sigma] - two[sigma] for sigma in every if sigma != "2.0") > 0


@pytest.mark.slow
def test_the_solutions_find_what_the_text_says(facts: Facts) -> None:
    assert facts["lost"] == pytest.approx(0.3, abs=0.01)
    assert facts["share"] == pytest.approx(1 / 8, abs=0.002)
    assert facts["by_loss"]["Squared"] == pytest.approx(facts["by_loss"]["DenoisingAutoencoder"], abs=0.5)
    assert facts["averaged"]["2"] == pytest.approx(facts["model"]["denoising"], abs=0.05)
    assert facts["averaged"]["2"] > facts["averaged"]["6"] + 1
    few, some, many = (facts["by_latent"][latent] for latent in ("8", "32", "256"))
    assert all(many[task] - some[task] < some[task] - few[task] for task in many)
    assert facts["told"]["2.0"] > max(facts["told"]["0.5"], facts["told"]["6.0"])
