"""Resuming from a checkpoint that is whole, but lacks what a training needs: one line, and nothing is written."""

from pathlib import Path

import pytest
import torch

from dae_lightning.errors import CheckpointError
from dae_lightning.training import run as training
from tests.conftest import Settings
from tests.faults.mutations import rewritten


@pytest.mark.parametrize("lost", ["callbacks", "data", "optimizer_states", "epoch_loss"])
def test_a_checkpoint_without_its_training_state_is_refused_in_one_line(
    settings: Settings, tmp_path: Path, lost: str
) -> None:
    training.train(settings(), tmp_path)
    last = tmp_path / "checkpoints" / "last.ckpt"
    tree = torch.load(last, weights_only=True)
    del tree[lost]
    rewritten(tree, last)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=f"^{last}: cannot be resumed") as error:
        training.train(settings("trainer.max_epochs=3"), tmp_path, last)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
