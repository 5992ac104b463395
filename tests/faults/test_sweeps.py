"""A multirun whose jobs fail, or are killed: the others run, it is told at once, and the status at the end is not 0."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dae_lightning.locks import sole_use
from dae_lightning.signals import STOPPING
from dae_lightning.sweeps import run_jobs
from dae_lightning.training import run as training
from dae_lightning.training.many_steps import FusedAdam
from tests.faults.kills import differing_bits, outcome
from tests.faults.processes import Training, before, small


def sweep(
    tmp_path: Path,
    idx_root: Path,
    fault: Callable[[], object] = lambda: None,
    *more: str,
    prepare: Callable[[], object] = lambda: None,
) -> Training:
    """Three jobs; the process of the second meets the fault where its training begins."""
    train = training.train

    def faulty(settings: Any, *args: Any) -> float:
        if settings.seed == 1:
            fault()
        return train(settings, *args)

    def arrange() -> None:
        training.train = faulty
        prepare()

    grid = ("seed=0,1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}", "hydra.sweep.subdir=job_${seed}")
    every = ("trainer.max_epochs=1", "checkpoint.every_n_steps=2", *more)
    return Training(tmp_path, "-m", *small(idx_root, *grid, *every), prepare=arrange)


def done(tmp_path: Path) -> list[str]:
    return sorted(path.parent.name for path in (tmp_path / "sweep").glob("*/results.json"))


def recorded(tmp_path: Path, job: str) -> tuple[str, str | None]:
    """A job's status and error."""
    record = json.loads((tmp_path / "sweep" / job / "job.json").read_text())
    return record["status"], record["error"]


def broken() -> None:
    raise RuntimeError("a bug\nin two lines")


def kill(signum: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), signum)


LONG = "trainer.max_epochs=100000"
KILLED = "killed by signal 9 (SIGKILL); out of memory?"


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        (lambda: sys.exit(0), "failed", "exited with status 0"),
        (lambda: os._exit(0), "interrupted", "exited with status 0"),
        (broken, "failed", "a bug in two lines"),
        (kill, "interrupted", KILLED),
    ],
    ids=["exits", "ends", "raises", "killed"],
)
def test_a_job_that_fails_or_exits_or_is_killed_stops_no_other_and_is_no_success(
    tmp_path: Path, idx_root: Path, fault: Callable[[], object], status: str, reason: str
) -> None:
    training = sweep(tmp_path, idx_root, fault)
    assert training.status() == 1
    assert done(tmp_path) == ["job_0", "job_2"]
    told = training.said.index(f"error: job_1: {reason}\n")
    assert told < training.said.index("checkpoints, metrics, results: " + str(tmp_path / "sweep" / "job_2"))
    assert training.said.count(reason.splitlines()[0]) == 1
    assert training.said.endswith("error: 1 of the jobs failed\n")
    assert recorded(tmp_path, "job_1") == (status, reason)
    assert not list(tmp_path.rglob(".failed*"))


@pytest.mark.parametrize(
    ("values", "failed", "reason"),
    [
        ("optim.lr=1e18,1e-3", "1e+18_2.0", "the loss of step "),
        ("noise.sigma=-1,1", "0.001_-1", "noise.sigma=-1: must be at least 0"),
    ],
    ids=["diverges", "out of range"],
)
def test_a_mistake_in_one_job_is_one_line_and_its_own(
    tmp_path: Path, idx_root: Path, values: str, failed: str, reason: str
) -> None:
    folders = (f"hydra.sweep.dir={tmp_path / 'sweep'}", "hydra.sweep.subdir=${optim.lr}_${noise.sigma}")
    training = Training(tmp_path, "-m", *small(idx_root, values, "trainer.max_epochs=5", *folders))
    assert training.status() == 1
    assert f"error: {failed}: {reason}" in training.said
    assert "Traceback" not in training.said
    assert len(done(tmp_path)) == 1
    assert recorded(tmp_path, failed)[0] == "failed"


def test_a_job_that_is_refused_its_folder_is_no_success_either(tmp_path: Path, idx_root: Path) -> None:
    folders = (f"hydra.sweep.dir={tmp_path / 'sweep'}", "hydra.sweep.subdir=job_${hydra.job.num}")
    for seeds, status in ("0,1", 0), ("2,1", 1):
        training = Training(tmp_path, "-m", *small(idx_root, f"seed={seeds}", "trainer.max_epochs=1", *folders))
        assert training.status() == status, training.said
    assert "holds a job with another seed" in training.said
    assert training.said.endswith("error: 1 of the jobs failed\n")


def test_a_job_whose_settings_have_changed_since_it_finished_is_no_success(tmp_path: Path, idx_root: Path) -> None:
    """As after an edit of conf/: the folder's job.json says "finished", of the settings before."""
    assert sweep(tmp_path, idx_root).status() == 0
    record = tmp_path / "sweep" / "job_1" / "job.json"
    job = json.loads(record.read_text())
    job["config"]["noise"]["mean"] = 0.5
    record.write_text(json.dumps(job))
    again = sweep(tmp_path, idx_root)
    assert again.status() == 1
    assert "holds a job with another noise.mean" in again.said
    assert again.said.endswith("error: 1 of the jobs failed\n")


def test_a_signal_saves_the_job_at_work_and_stops_the_sweep_which_then_goes_on(tmp_path: Path, idx_root: Path) -> None:
    whole = sweep(tmp_path / "whole", idx_root)
    stopped = sweep(
        tmp_path, idx_root, lambda: before(FusedAdam, "update", lambda: os.kill(os.getppid(), signal.SIGTERM), 5)
    )
    assert stopped.status() == 143
    assert done(tmp_path) == ["job_0"]
    assert recorded(tmp_path, "job_1")[0] == "interrupted"
    assert not (tmp_path / "sweep" / "job_2").exists()
    folder = tmp_path / "sweep"
    assert (folder / STOPPING).exists()
    assert stopped.said.endswith(f"stopped by SIGTERM; continue with the same command and hydra.sweep.dir={folder}\n")
    again = sweep(tmp_path, idx_root)
    assert again.status() == 0, again.said
    assert "job_0: finished before, skipped\n" in again.said
    assert not (folder / STOPPING).exists()
    assert whole.status() == 0
    for job in "job_0", "job_1", "job_2":
        assert differing_bits(outcome(folder / job), outcome(tmp_path / "whole" / "sweep" / job)) == 0


def test_whoever_works_for_a_sweep_that_is_stopping_begins_no_job(tmp_path: Path, idx_root: Path) -> None:
    """A launcher may start a worker after the signal, which it has not received."""
    folder = tmp_path / "sweep"
    stopped = sweep(tmp_path, idx_root, (folder / STOPPING).touch)
    assert stopped.status() != 0
    assert done(tmp_path) == ["job_0", "job_1"]
    assert not (folder / "job_2").exists()


def test_signals_that_reach_the_job_itself_too_count_once(tmp_path: Path, idx_root: Path) -> None:
    """Ctrl-C goes to all processes of a terminal."""

    def both() -> None:
        for pid in os.getppid(), os.getpid():
            os.kill(pid, signal.SIGINT)

    stopped = sweep(tmp_path, idx_root, lambda: before(FusedAdam, "update", both, 5))
    assert stopped.status() == 130
    assert recorded(tmp_path, "job_1")[0] == "interrupted"
    assert (tmp_path / "sweep" / "job_1" / "checkpoints" / "last.ckpt").is_file()


def test_when_the_sweep_is_killed_its_job_saves_and_stops(tmp_path: Path, idx_root: Path) -> None:
    folder = tmp_path / "sweep"
    killed = sweep(tmp_path, idx_root, lambda: None, "seed=1", LONG)
    killed.wait_until((folder / "job_1" / "checkpoints" / "last.ckpt").exists)
    killed.kill()
    with sole_use(folder / "job_1", wait=True):
        assert recorded(tmp_path, "job_1")[0] == "interrupted"


def test_of_two_sweeps_in_one_folder_the_second_is_refused(tmp_path: Path, idx_root: Path) -> None:
    first = sweep(tmp_path, idx_root, lambda: None, LONG)
    first.wait_until((tmp_path / "sweep" / "job_0" / "checkpoints" / "last.ckpt").exists)
    second = Training(tmp_path / "second", "-m", *small(idx_root, "seed=3,4", f"hydra.sweep.dir={tmp_path / 'sweep'}"))
    assert second.status() == 1
    assert second.said.startswith(f"error: {tmp_path / 'sweep'}: in use by process {first.pid} on ")
    assert second.said.count("\n") == 1
    first.send(signal.SIGTERM)
    assert first.status() == 143


@pytest.mark.parametrize("axis", ["noise.sigma=", "seed=range(0,0)", "seed=glob(*)", "noise=glob(z*)"])
def test_an_empty_axis_is_one_line_before_any_job_runs(tmp_path: Path, idx_root: Path, axis: str) -> None:
    empty = Training(tmp_path, "-m", "latent=4,8", axis)
    assert empty.status() == 1
    assert empty.said == f"error: {axis}: has no value to sweep over; give {axis.split('=')[0]}=A,B,...\n"
    assert not (tmp_path / "outputs").exists()


def test_where_processes_do_not_fork_the_jobs_share_one(tmp_path: Path, idx_root: Path) -> None:
    def end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def one_process() -> None:
        run_jobs.FORKS = False

    for fault, status in (broken, 1), (lambda: before(FusedAdam, "update", end, 5), 143):
        training = sweep(tmp_path, idx_root, fault, prepare=one_process)
        assert training.status() == status, training.said
        assert recorded(tmp_path, "job_1")[0] == {1: "failed", 143: "interrupted"}[status]
        assert done(tmp_path) == ["job_0", "job_2"]
