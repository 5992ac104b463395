"""Where a sweep's jobs run: on all cores (joblib), by submitit on this machine, and by SLURM, of which stand-ins run
what submitit gives to `sbatch`. Slow, for every worker imports torch."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from dae_lightning.threads import usable_cpus
from tests.faults.kills import differing_bits, outcome
from tests.faults.processes import Training, small

ROOT = Path(__file__).parent.parent
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
PATIENCE = 300.0  # seconds


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_launcher_that_is_not_installed_is_named_with_its_extra(tmp_path: Path, launcher: str) -> None:
    def nothing_is_installed() -> None:
        sys.path[:] = []

    run = Training(tmp_path, "-m", f"hydra/launcher={launcher}", "seed=0,1", prepare=nothing_is_installed)
    assert run.status() == 1
    plugin = f"hydra-{launcher.split('_')[0]}-launcher"
    needed = f"{plugin} is not installed; pip install 'dae_lightning[sweep]'"
    assert run.said == f"error: hydra/launcher={launcher}: {needed}\n"


class Sweep:
    """`python train.py -m` in a folder, with short names for the jobs' folders."""

    def __init__(self, folder: Path, idx_root: Path, *arguments: str, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.log = folder / "sweep", folder / "said.txt"
        places = (f"hydra.sweep.dir={self.folder}", "hydra.sweep.subdir=${seed}")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), "-m", *small(idx_root, *places, *arguments)],
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def status(self) -> int:
        self.wait_until(lambda: self.process.poll() is not None)
        return self.process.wait()

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            ended, late = self.process.poll() is not None, time.monotonic() > deadline
            if condition():  # looked at last, for it may come true with the end
                return
            if ended or late:
                with suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                raise AssertionError(f"{'ended' if ended else 'still at work'}:\n{self.said}")
            time.sleep(0.01)

    def began(self, job: str) -> bool:
        """Whether a job has come to its first checkpoint."""
        return (self.folder / job / "checkpoints" / "last.ckpt").exists()

    def job(self, job: str) -> str:
        """A job's status."""
        return str(json.loads((self.folder / job / "job.json").read_text())["status"])


@pytest.mark.slow
def test_jobs_side_by_side_give_the_bits_of_jobs_one_after_the_other(tmp_path: Path, idx_root: Path) -> None:
    jobs = ("seed=0,1,2,3", "trainer.max_epochs=2")
    beside = Sweep(tmp_path / "beside", idx_root, *JOBLIB, *jobs, OMP_NUM_THREADS="1")
    serial = Sweep(tmp_path / "serial", idx_root, *jobs, OMP_NUM_THREADS="1")
    assert beside.status() == 0, beside.said
    assert serial.status() == 0, serial.said
    for seed in "0123":
        assert differing_bits(outcome(beside.folder / seed), outcome(serial.folder / seed)) == 0
        assert f"{seed}: begun\n" in beside.said
        assert f"{seed}: finished in " in beside.said
    assert "epoch 1/2" not in beside.said  # but in the jobs' logs
    assert "epoch 1/2" in (beside.folder / "0" / "train.log").read_text()
    assert "Warning" not in beside.said
    again = Sweep(tmp_path / "beside", idx_root, *JOBLIB, *jobs)
    assert again.status() == 0, again.said
    assert again.said.count("finished before, skipped") == 4


@pytest.mark.slow
@pytest.mark.parametrize("said_by_the_user", [{}, {"OMP_NUM_THREADS": "2"}])
def test_workers_share_the_cores_unless_told_otherwise(
    tmp_path: Path, idx_root: Path, said_by_the_user: dict[str, str]
) -> None:
    share = max(1, pytest.importorskip("joblib").cpu_count() // 2)
    threads = int(said_by_the_user.get("OMP_NUM_THREADS", share))
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    os.environ.pop("OMP_NUM_THREADS", None)
    try:
        # so wide a network that every thread pays
        jobs = ("seed=0,1", "trainer.max_epochs=1", "latent=20000")
        sweep = Sweep(tmp_path, idx_root, *JOBLIB, *jobs, **said_by_the_user)
        assert sweep.status() == 0, sweep.said
    finally:
        os.environ |= environment
    for seed in "01":
        device = json.loads((sweep.folder / seed / "results.json").read_text())["device"]
        assert device == f"cpu ({threads} threads)"


@pytest.mark.slow
def test_side_by_side_a_job_that_fails_or_is_killed_stops_no_other(tmp_path: Path, idx_root: Path) -> None:
    sweep = Sweep(tmp_path, idx_root, *JOBLIB, "seed=0,1,-2,3", "trainer.max_epochs=60")
    sweep.wait_until(lambda: sweep.began("1"))
    os.kill(pid(sweep.folder / "1"), signal.SIGKILL)
    assert sweep.status() == 1, sweep.said
    assert [sweep.job(name) for name in ("0", "1", "-2", "3")] == ["finished", "interrupted", "failed", "finished"]
    assert "error: 2 of the jobs failed\n" in sweep.said
    assert sweep.said.count("must be at least 0") == sweep.said.count("error: -2: seed=-2: must be at least 0") == 1
    assert "error: 1: killed by signal 9 (SIGKILL); out of memory?\n" in sweep.said
    assert "Traceback" not in sweep.said


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["all processes, SIGINT", "one, SIGTERM"])
def test_a_signal_stops_all_workers_and_every_job_saves(tmp_path: Path, idx_root: Path, signum: signal.Signals) -> None:
    sweep = Sweep(tmp_path, idx_root, *JOBLIB, "seed=0,1,2,3", "trainer.max_epochs=100000")
    sweep.wait_until(lambda: sweep.began("0") and sweep.began("1"))
    if signum == signal.SIGINT:
        os.killpg(sweep.process.pid, signum)
    else:
        sweep.process.send_signal(signum)
    assert sweep.status() == 128 + signum, sweep.said
    assert [sweep.job(name) for name in "01"] == ["interrupted", "interrupted"]
    assert not (sweep.folder / "2").exists()
    goes_on = f"continue with the same command and hydra.sweep.dir={sweep.folder}"
    assert sweep.said.endswith(f"stopped by {signum.name}; {goes_on}\n")
    assert "Traceback" not in sweep.said


@pytest.mark.slow
def test_a_killed_sweep_leaves_no_worker_behind(tmp_path: Path, idx_root: Path) -> None:
    sweep = Sweep(tmp_path, idx_root, *JOBLIB, "seed=0,1", "trainer.max_epochs=100000")
    sweep.wait_until(lambda: sweep.began("0") and sweep.began("1"))
    jobs = [pid(sweep.folder / name) for name in "01"]
    processes = jobs + [parent(job) for job in jobs]
    sweep.process.kill()
    sweep.process.wait()
    deadline = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{process}").exists() for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [sweep.job(name) for name in "01"] == ["interrupted", "interrupted"]


@pytest.mark.slow
def test_submitit_runs_the_jobs_and_a_preempted_one_goes_on_from_its_checkpoint(tmp_path: Path, idx_root: Path) -> None:
    jobs = ("seed=0,-1", "trainer.max_epochs=60")
    sweep = Sweep(tmp_path, idx_root, "hydra/launcher=submitit_local", *jobs, OMP_NUM_THREADS="1")
    sweep.wait_until(lambda: sweep.began("0"))
    job = pid(sweep.folder / "0")
    for process in parent(job), job:  # SLURM tells every process of a job
        os.kill(process, signal.SIGUSR2)
    assert sweep.status() == 1, sweep.said
    assert "failed: seed=-1: seed=-1: must be at least 0\n" in sweep.said
    assert sweep.said.endswith("error: 1 of the jobs failed\n"), sweep.said
    assert sweep.job("0") == "finished"
    assert "Requeued job" in "".join(path.read_text() for path in (sweep.folder / ".submitit").glob("*/*.out"))
    assert "1 threads" in json.loads((sweep.folder / "0" / "results.json").read_text())["device"]
    serial = Sweep(tmp_path / "serial", idx_root, "seed=0", "trainer.max_epochs=60", OMP_NUM_THREADS="1")
    assert serial.status() == 0, serial.said
    assert differing_bits(outcome(sweep.folder / "0"), outcome(serial.folder / "0")) == 0


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_search_asks_for_as_many_trials_as_there_are_workers_and_waits_for_them(
    tmp_path: Path, idx_root: Path, launcher: str
) -> None:
    pytest.importorskip("optuna")
    from dae_lightning.sweeps.study import open_storage, open_study

    two = {"joblib": "n_jobs=2", "submitit_local": f"cpus_per_task={max(1, usable_cpus() // 2)}"}[launcher]
    where = (f"hydra/launcher={launcher}", f"hydra.launcher.{two}", "hydra.sweep.subdir=${latent}")
    what = ("hydra/sweeper=search", "latent=int(interval(2,400))", "hydra.sweeper.trials=3", "trainer.max_epochs=2")
    sweep = Sweep(tmp_path, idx_root, *where, *what, OMP_NUM_THREADS="1")
    assert sweep.status() == 0, sweep.said
    trials = open_study(open_storage(sweep.folder)).get_trials()
    assert all(len(trial.intermediate_values) == 2 for trial in trials)
    first, second, third = ((trial.datetime_start, trial.datetime_complete) for trial in trials)
    assert (second[0] < first[1]) == (launcher == "joblib" or usable_cpus() > 1)
    assert third[0] > second[1]
    assert "[sweep] 3 done, 0 left of 3\n" in sweep.said


SBATCH = '#!/bin/sh\ncp "$1" {script}.partial && mv {script}.partial {script} && echo Submitted batch job 12\n'
SRUN = '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do case $1 in --output|--error) shift;; esac; shift; done; exec "$@"\n'
SLURM = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "14"}
SLURM |= {"SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "localhost"}
SLURM |= dict.fromkeys(["SLURM_NODEID", "SLURM_PROCID", "SLURM_LOCALID"], "0")


@pytest.mark.slow
def test_the_script_that_slurm_gets_runs_a_job(tmp_path: Path, idx_root: Path) -> None:
    script, path = tmp_path / "script.sh", f"{tmp_path}:{os.environ['PATH']}"
    for name, text in ("sbatch", SBATCH.format(script=script)), ("srun", SRUN):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    queue = ("hydra/launcher=submitit_slurm", "hydra.launcher.partition=cpu", "hydra.launcher.cpus_per_task=2")
    sweep = Sweep(tmp_path, idx_root, *queue, "seed=0,1", "trainer.max_epochs=1", PATH=path)
    submitted = sweep.folder / ".submitit" / "12_1" / "12_1_submitted.pkl"
    sweep.wait_until(lambda: script.exists() and submitted.exists())
    sweep.process.send_signal(signal.SIGTERM)  # nobody needs to wait for SLURM
    assert sweep.status() == 143, sweep.said
    asked = [line.removeprefix("#SBATCH --") for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"array=0-1%2", "cpus-per-task=2", "partition=cpu", "signal=USR2@120", "open-mode=append"} <= set(asked)
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment |= SLURM | {"PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", script], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sweep.job("1") == "finished"
    assert "2 threads" in json.loads((sweep.folder / "1" / "results.json").read_text())["device"]


def pid(folder: Path) -> int:
    """The process that trains in a folder."""
    return int((folder / ".lock.holder").read_text().split()[1])


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
