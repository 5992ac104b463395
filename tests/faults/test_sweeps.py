"""A multirun whose jobs fail: the others run, the failure is told at once, and the status at the end is not 0."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dae_lightning import training
from tests.faults.processes import Training, before, small


def sweep(tmp_path: Path, idx_root: Path, fault: Callable[[], object]) -> Training:
    """Three jobs, the second of which meets the fault."""
    jobs = ("seed=0,1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}", "hydra.sweep.subdir=job_${hydra.job.num}")
    return Training(
        tmp_path,
        "-m",
        *small(idx_root, *jobs, "trainer.max_epochs=1"),
        prepare=lambda: before(training, "train", fault, 2),
    )


def done(tmp_path: Path) -> list[str]:
    return sorted(path.parent.name for path in (tmp_path / "sweep").glob("*/results.json"))


def broken() -> None:
    raise RuntimeError("a bug\nin two lines")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(lambda: sys.exit(0), "exited with status 0"), (broken, "a bug in two lines")],
    ids=["exits", "raises"],
)
def test_a_job_that_fails_or_exits_stops_no_other_and_is_no_success(
    tmp_path: Path, idx_root: Path, fault: Callable[[], object], reason: str
) -> None:
    training = sweep(tmp_path, idx_root, fault)
    assert training.status() == 1
    assert done(tmp_path) == ["job_0", "job_2"]
    told = training.said.index(f"error: job_1: {reason}\n")
    assert told < training.said.index("checkpoints, metrics, results and figures: " + str(tmp_path / "sweep" / "job_2"))
    assert training.said.endswith("error: 1 of the jobs failed: job_1\n")


def test_a_diverging_job_is_one_line(tmp_path: Path, idx_root: Path) -> None:
    jobs = ("optim.lr=1e18,1e-3", f"hydra.sweep.dir={tmp_path / 'sweep'}", "hydra.sweep.subdir=lr_${optim.lr}")
    training = Training(tmp_path, "-m", *small(idx_root, *jobs, "trainer.max_epochs=5"))
    assert training.status() == 1
    assert "error: lr_1e+18: the loss of step " in training.said
    assert "Traceback" not in training.said
    assert done(tmp_path) == ["lr_0.001"]


def test_ctrl_c_stops_the_whole_sweep(tmp_path: Path, idx_root: Path) -> None:
    training = sweep(tmp_path, idx_root, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert training.status() == 130
    assert done(tmp_path) == ["job_0"]
    assert not (tmp_path / "sweep" / "job_2").exists()
    assert training.said.endswith("stopped by SIGINT\n")


def test_a_sweep_that_is_killed_is_no_success(tmp_path: Path, idx_root: Path) -> None:
    """The jobs run in one process: the rest of them do not run."""
    assert sweep(tmp_path, idx_root, lambda: os.kill(os.getpid(), signal.SIGKILL)).status() == -signal.SIGKILL
    assert done(tmp_path) == ["job_0"]
