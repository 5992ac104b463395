"""README.md and docs/: their Python runs, their links lead somewhere."""

import re
from pathlib import Path

import pytest
import torch

from dae_lightning import DenoisingAutoencoder
from tests.conftest import Run

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks/README.md"]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_are_there(page: Path) -> None:
    places = re.findall(r"\]\((?!https?:)([^)#]+)\)|src=\"([^\"]+)\"", page.read_text())
    missing = [place for pair in places for place in pair if place and not (page.parent / place).exists()]
    assert not missing


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", ["README.md", "docs/using.md"])
def test_a_checkpoint_is_used_as_it_is_written(page: str, run: Run) -> None:
    folder = run("run", "data=glyphs", "data.train_size=60", "data.test_size=20")
    block = blocks(page)[0].replace("outputs/...", str(folder))
    names: dict[str, torch.Tensor] = {}
    exec(block, names)
    assert names["denoised"].shape == (8, 28, 28)


def test_a_loss_and_a_noise_of_ones_own(tmp_path: Path) -> None:
    names: dict[str, type[DenoisingAutoencoder]] = {"DenoisingAutoencoder": DenoisingAutoencoder}
    _, loss, noise = blocks("docs/extending.md")
    exec(loss, names)
    exec(noise, names)
    clean = torch.rand(3, 28, 28)
    speckled = names["model"].noise(clean)  # type: ignore[operator]
    assert not torch.equal(speckled, clean)
    assert torch.equal(speckled == 0, clean == 0)
    model = names["Mse"]((28, 28), 4, names["Speckle"](0.5)).eval()  # type: ignore[call-arg, arg-type]
    torch.testing.assert_close(model.loss(clean, clean), (model(clean) - clean).square().mean())
    torch.save({"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}, tmp_path / "model.ckpt")
    again = DenoisingAutoencoder.load_from_checkpoint(tmp_path / "model.ckpt", noise=names["Speckle"](0.5)).eval()
    assert torch.equal(again(clean), model(clean))
