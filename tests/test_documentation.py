"""README.md and docs/: their Python runs, their links lead somewhere."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from dae_lightning import DenoisingAutoencoder
from tests.conftest import Run, write_idx

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dae_lightning"
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks/README.md"]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_are_there(page: Path) -> None:
    places = re.findall(r"\]\((?!https?:)([^)#]+)\)|src=\"([^\"]+)\"", page.read_text())
    missing = [place for pair in places for place in pair if place and not (page.parent / place).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_are_there(page: Path) -> None:
    named = re.findall(r"`((?!\.hydra/)[\w./]+\.(?:py|md|yaml))`", page.read_text())
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
def test_the_notebook_runs_from_top_to_bottom(downloaded: None, tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks("docs/notebook.md"):
        exec(block.replace("max_epochs=100", "max_epochs=2"), names)
    assert torch.equal(names["unchanged"], names["train"][:5])
    assert not torch.equal(names["noisy"], names["unchanged"])
    assert len(names["losses"].values) == 2
    assert (names["model"].latent, names["strong"].latent) == (256, 192)
    assert names["strong"].noise.settings() == {"kind": "gaussian", "mean": 0, "sigma": 6}
    for file in ("loss.png", "train.png", "test.png", "strong.png"):
        assert (tmp_path / file).is_file()


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
