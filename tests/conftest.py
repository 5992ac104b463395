"""What the tests share: the real configuration, small data in MNIST files, and runs of both."""

import gzip
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# as the commands do, before torch is imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # the tests train side by side
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from PIL import Image

from dae_lightning import config
from dae_lightning.cli.hydra_app import CONF, checked
from dae_lightning.training.run import train

torch.set_num_threads(1)  # tensors here are so small that threads only wait for each other
# before torch.export or ONNX: a first backward() after those starts threads, and no process forked later can train
torch.ones(1, requires_grad=True).backward()

collect_ignore = [] if find_spec("optuna") else ["test_search.py"]  # the extra [search]

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
Settings = Callable[..., config.Train]
Run = Callable[..., Path]


def write_idx(path: Path, values: torch.Tensor) -> None:
    """uint8 values as an MNIST file, gzipped where the name says so."""
    header = struct.pack(f">BBBB{values.dim()}I", 0, 0, 8, values.dim(), *values.shape)
    content = header + values.numpy().tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--left", action="store_true", help="only tests that did not pass in an earlier run (.ci/run)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--left"):
        passed = set(config.cache.get("passed", []))
        items[:] = [item for item in items if item.nodeid not in passed]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    passed = {report.nodeid for report in terminalreporter.stats.get("passed", []) if report.when == "call"}
    config.cache.set("passed", sorted(passed.union(config.cache.get("passed", []))))


@pytest.fixture(scope="session")
def idx_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """130 training and 40 test images of 12x12: blurred blobs, so that there is something to learn."""
    return write_blobs(tmp_path_factory.mktemp("idx"))


def write_blobs(root: Path) -> Path:
    """The small data, in `root`."""
    generator = torch.Generator().manual_seed(0)
    for prefix, count in (("train", 130), ("t10k", 40)):
        coarse = torch.rand(count, 1, 4, 4, generator=generator)
        images = torch.nn.functional.interpolate(coarse, (12, 12), mode="bilinear")[:, 0]
        write_idx(root / f"{prefix}-images-idx3-ubyte.gz", (images * 255).to(torch.uint8))
        write_idx(root / f"{prefix}-labels-idx1-ubyte", torch.arange(count).remainder(10).to(torch.uint8))
    return root


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of different sizes: overlapping rectangles of soft light, grey or coloured."""
    root = tmp_path_factory.mktemp("photographs")
    for number in range(12):
        random = np.random.default_rng(number)
        height, width = random.integers(24, 50, 2)
        pixels = np.full((height, width), random.uniform(50, 200))
        for _ in range(8):
            (top, bottom), (left, right) = np.sort(random.integers(0, height, 2)), np.sort(random.integers(0, width, 2))
            pixels[top:bottom, left:right] = np.linspace(*random.uniform(20, 235, 2), right - left)
        image = Image.fromarray(pixels.astype(np.uint8)).convert("RGB" if number % 4 == 0 else "L")
        image.save(root / f"{number}.{('png', 'tif', 'bmp')[number % 3]}")
    return root


@pytest.fixture
def settings(idx_root: Path) -> Settings:
    """The shipped configuration with the small data and `overrides`, checked."""

    return lambda *overrides: compose_small(idx_root, *overrides)


def compose_small(idx_root: Path, *overrides: str) -> config.Train:
    """The shipped configuration with the small data and `overrides`, checked."""
    small = ["data=idx", f"data.root={idx_root}", "batch_size=8", "latent=6", "trainer=cpu", "examples=3"]
    small += ["trainer.max_epochs=2", "steps_per_execution=4", "trainer.enable_progress_bar=false"]
    groups = {override.split("=")[0] for override in overrides}
    small = [override for override in small if override.split("=")[0] not in groups]
    if "data" in groups:
        small = [override for override in small if not override.startswith("data.")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return checked(compose("train", [*small, *overrides]), config.Train)


@pytest.fixture
def run(settings: Settings, tmp_path: Path) -> Run:
    """Train with `overrides` in a folder of its own below tmp_path, from `checkpoint` on if there is one."""

    def trained(name: str, *overrides: str, checkpoint: Path | None = None) -> Path:
        train(settings(*overrides), tmp_path / name, checkpoint)
        return tmp_path / name

    return trained


def weights(folder: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    """The weights in a run folder's checkpoint."""
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints" / name, weights_only=True)["state_dict"]
    return state


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; where either is not installed, the tests skip."""
    api = pytest.importorskip("playwright.sync_api")
    if (chromium := next(filter(None, map(shutil.which, CHROMIUM)), None)) is None:
        pytest.skip("needs Chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()
