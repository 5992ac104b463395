"""Checkpoints: what they hold, which one is meant, what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dae_lightning import DenoisingAutoencoder, GaussianNoise
from dae_lightning.cli.run_folders import find_checkpoint
from dae_lightning.errors import CheckpointError
from dae_lightning.model.autoencoder import load_model
from dae_lightning.model.checkpoint import read_checkpoint
from tests.conftest import Run


def test_a_checkpoint_holds_plain_values_and_knows_its_noise_shape_latent_and_data(
    run: Run, tmp_path: Path, idx_root: Path
) -> None:
    folder = run("run", "noise=masking", "latent=5")
    shutil.move(folder, tmp_path / "moved")
    best = find_checkpoint(tmp_path / "moved")
    model = load_model(best)
    assert (model.input_shape, model.latent) == ((12, 12), 5)
    assert model.noise.settings() == {"kind": "masking", "probability": 0.5}
    assert not model.training
    assert read_checkpoint(best)["data"] == {
        "kind": "idx",
        "root": str(idx_root),
        "seed": 0,
        "val_size": None,
    }
    again = DenoisingAutoencoder.load_from_checkpoint(best, weights_only=True)
    assert torch.equal(again.network.encoder.weight, model.network.encoder.weight)


def test_a_run_folder_means_its_best_checkpoint_else_its_last(run: Run) -> None:
    held = run("held")
    assert find_checkpoint(held) == held / "checkpoints" / "best.ckpt"
    (held / "checkpoints" / "best.ckpt").unlink()
    assert find_checkpoint(str(held)) == held / "checkpoints" / "last.ckpt"
    (held / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(CheckpointError, match="no checkpoints/best.ckpt or last.ckpt in it"):
        find_checkpoint(held)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no checkpoint", b"\x80\x02."])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{path}: damaged, or not a checkpoint") as error:
        load_model(path)
    assert "\n" not in str(error.value)


def test_a_whole_file_that_torch_refuses_is_not_called_damaged(tmp_path: Path) -> None:
    model = DenoisingAutoencoder(6, 2, GaussianNoise())
    state = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    torch.save(state | {"callbacks": {"mine": {"best": np.float64(0.3)}}}, tmp_path / "model.ckpt")
    with pytest.raises(
        CheckpointError, match=r"model.ckpt: cannot be loaded with weights_only=True \(.*numpy"
    ) as error:
        load_model(tmp_path / "model.ckpt")
    assert "damaged" not in str(error.value)
    torch.save(
        state | {"callbacks": {"mine": {"best": torch.tensor(0.3, dtype=torch.float64)}}}, tmp_path / "model.ckpt"
    )
    assert torch.equal(load_model(tmp_path / "model.ckpt").network.encoder.weight, model.network.encoder.weight)


def test_a_truncated_or_foreign_checkpoint_is_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    whole = (run("run") / "checkpoints" / "last.ckpt").read_bytes()
    path = tmp_path / "model.ckpt"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged, or not a checkpoint"):
        load_model(path)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of a denoising autoencoder"):
        load_model(path)
    foreign = torch.load(run("run") / "checkpoints" / "last.ckpt", weights_only=True)
    foreign["hyper_parameters"]["latent"] = 9
    torch.save(foreign, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this model") as error:
        load_model(path)
    assert "\n" not in str(error.value)
