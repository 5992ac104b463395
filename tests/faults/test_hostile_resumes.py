"""The state of a training from a stranger: one clear error before the training begins, or a training that ends."""

from pathlib import Path

import pytest
import torch

from dae_lightning.errors import CheckpointError
from dae_lightning.training import run as training
from tests.conftest import Settings
from tests.faults.mutations import mutated_values, rewritten

SAVED = {"hparams_name", "pytorch-lightning_version", "data"}  # not restored


@pytest.mark.parametrize("optim", ["adam", "adam_onecycle"])
@pytest.mark.parametrize("epoch", ["end", "middle"])
def test_a_changed_training_state_is_refused_or_trained_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optim: str, epoch: str
) -> None:
    monkeypatch.setattr(training, "draw", lambda *_: None)
    begun = settings(f"optim={optim}", "steps_per_execution=2", "checkpoint.every_n_steps=6")
    last = tmp_path / "checkpoints" / "last.ckpt"
    if epoch == "middle":
        with monkeypatch.context() as patch:  # an epoch's end is never saved
            patch.setattr("dae_lightning.training.checkpoints.Checkpoints.on_train_epoch_end", lambda *_: None)
            training.train(begun, tmp_path)
    else:
        training.train(begun, tmp_path)
    good = torch.load(last, weights_only=True)
    assert (good["epoch_loss"][1] > 0) == (epoch == "middle")

    refused = 0
    for _, changed in mutated_values({name: good[name] for name in good if name not in SAVED}, 70):
        rewritten(changed | {name: good[name] for name in SAVED}, last)
        try:
            training.train(begun, tmp_path, last)
        except CheckpointError as error:
            assert str(last) in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
    assert refused > 50


def test_nothing_is_written_by_a_training_that_is_refused(settings: Settings, tmp_path: Path) -> None:
    training.train(settings(), tmp_path)
    last = tmp_path / "checkpoints" / "last.ckpt"
    tree = torch.load(last, weights_only=True)
    tree["callbacks"]["History"]["rows"] *= 2
    rewritten(tree, last)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match="rows is not a list of the 2 epochs behind"):
        training.train(settings("trainer.max_epochs=3"), tmp_path, last)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
