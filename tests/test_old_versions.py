"""A run folder that version 0.1 left behind, before the package was rebuilt: its checkpoint must go on being of use."""

import shutil
from pathlib import Path

import pytest
import torch

from dae_lightning import Denoiser
from dae_lightning.cli import commands
from dae_lightning.model.checkpoint import read_checkpoint

OLD = Path(__file__).parent / "data" / "run_of_0_1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "run"))


def command(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", [name, *arguments])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    getattr(commands, name)()


def test_it_denoises(old: Path) -> None:
    denoiser = Denoiser.load(old)
    weights = torch.load(old / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    images = torch.rand(2, 28, 28)
    code = torch.nn.functional.leaky_relu(
        images.flatten(1) @ weights["encoder.weight"].T + weights["encoder.bias"], 0.3
    )
    expected = torch.sigmoid(code @ weights["decoder.weight"].T + weights["decoder.bias"])
    torch.testing.assert_close(denoiser(images), expected.view(2, 28, 28))


def test_it_is_evaluated(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command("evaluate", monkeypatch, f"checkpoint={old}", "sigmas=[2]", "methods=[noisy]", f"output={old}/evaluation")
    assert (old / "evaluation" / "evaluation.csv").read_text().count("\n") > 2


def test_it_resumes(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command("train", monkeypatch, f"resume={old}", "trainer.max_epochs=4")
    resumed = read_checkpoint(old / "checkpoints" / "last.ckpt")
    assert resumed["batches_seen"] == 28  # four epochs of seven batches
    before = (OLD / "metrics.csv").read_text().splitlines()
    rows = (old / "metrics.csv").read_text().splitlines()
    assert rows[: len(before)] == before
    assert len(rows) == len(before) + 1
