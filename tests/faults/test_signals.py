"""Ctrl-C and SIGTERM at any moment: saved, said how to go on, the shell's status; a second one stops at once."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dae_lightning.data.datamodule import ImageDataModule
from dae_lightning.training import run as training
from dae_lightning.training.many_steps import FusedAdam, ManySteps
from tests.faults.kills import differing_bits, outcome
from tests.faults.processes import Training, before, small

EPOCHS = "trainer.max_epochs=3"


def raising(signum: signal.Signals, owner: Any, name: str, nth: int = 1) -> Callable[[], None]:
    """A process that gets a signal in front of the n-th call of a function."""
    return lambda: before(owner, name, lambda: os.kill(os.getpid(), signum), nth)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, idx_root: Path) -> list[bytes]:
    """The outcome of a run that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    run = Training(folder, *small(idx_root, EPOCHS, f"hydra.run.dir={folder / 'run'}"))
    assert run.status() == 0, run.said
    return outcome(folder / "run")


@pytest.mark.parametrize(
    ("signum", "owner", "name", "nth"),
    [
        (signal.SIGTERM, FusedAdam, "update", 1),
        (signal.SIGINT, FusedAdam, "update", 20),
        (signal.SIGTERM, ManySteps, "validation_step", 2),
        (signal.SIGINT, ManySteps, "validation_step", 3),
        (signal.SIGINT, ManySteps, "on_train_epoch_end", 1),
        (signal.SIGTERM, torch, "save", 2),
        (signal.SIGINT, os, "replace", 5),
        (signal.SIGTERM, training, "report", 1),
    ],
    ids=["first step", "step", "validation", "last validation", "epoch's end", "checkpoint", "its rename", "test"],
)
def test_a_signal_loses_nothing(
    tmp_path: Path, idx_root: Path, whole: list[bytes], signum: signal.Signals, owner: Any, name: str, nth: int
) -> None:
    folder = tmp_path / "run"
    arguments = small(idx_root, EPOCHS, f"hydra.run.dir={folder}", "checkpoint.every_n_steps=4")
    stopped = Training(tmp_path, *arguments, prepare=raising(signum, owner, name, nth))
    assert stopped.status() == 128 + signum, stopped.said
    assert stopped.said.endswith(f"stopped by {signum.name}; everything is saved, continue with resume={folder}\n")
    assert "Traceback" not in stopped.said
    assert not list(folder.rglob(".*.partial"))
    again = Training(tmp_path, f"resume={folder}")
    assert again.status() == 0, again.said
    assert differing_bits(outcome(folder), whole) == 0


@pytest.mark.parametrize(
    ("signum", "name"),
    [(signal.SIGINT, "prepare_data"), (signal.SIGTERM, "setup"), (signal.SIGTERM, "train_dataloader")],
)
def test_a_signal_before_the_first_step_stops_at_once(
    tmp_path: Path, idx_root: Path, signum: signal.Signals, name: str
) -> None:
    folder = tmp_path / "run"
    stopped = Training(
        tmp_path, *small(idx_root, f"hydra.run.dir={folder}"), prepare=raising(signum, ImageDataModule, name)
    )
    assert stopped.status() == 128 + signum, stopped.said
    assert stopped.said.splitlines()[-1] == f"stopped by {signum.name}"
    assert "Traceback" not in stopped.said
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(tmp_path: Path, idx_root: Path, signum: signal.Signals) -> None:
    """The first one comes within a step that takes a minute."""
    folder, within = tmp_path / "run", tmp_path / "within"

    def dawdle() -> None:
        within.touch()
        for _ in range(600):
            time.sleep(0.1)

    begin = time.monotonic()
    arguments = small(idx_root, f"hydra.run.dir={folder}")
    run = Training(tmp_path, *arguments, prepare=lambda: before(ManySteps, "loss", dawdle, 20))
    run.wait_until(within.exists)
    run.send(signum)
    run.wait_until(lambda: f"{signum.name}: saving; once more stops at once" in run.said)
    run.send(signum)
    assert run.status() == -signum  # of which a shell makes 130 and 143
    assert time.monotonic() - begin < 30
    again = Training(tmp_path, f"resume={folder}")
    assert again.status() == 0, again.said
