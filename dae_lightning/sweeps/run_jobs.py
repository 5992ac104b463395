"""The jobs of a multirun, each in a process of its own: one that is killed, as by the kernel for its memory, takes no
other with it. The process is forked once everything a job needs is imported; its outcome is what it writes in job.json.
"""

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TextIO

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dae_lightning import config
from dae_lightning.cli.hydra_app import one_line, plain, settings_of
from dae_lightning.cli.run_folders import to_resume
from dae_lightning.errors import ConfigError, DivergenceError, Pruned, UserError
from dae_lightning.locks import sole_use
from dae_lightning.signals import RELAY, SIGNALS, STOP, STOPPING, Interrupted, stop_at_once
from dae_lightning.sweeps.jobs import Job, duration, folder_of

FORKS = hasattr(os, "fork") and sys.platform != "darwin"  # whose frameworks do not survive it; else one process for all
TO_PARENT = {*SIGNALS, getattr(signal, "SIGUSR2", signal.SIGTERM)}  # SLURM preempts a job of submitit by SIGUSR2

Prepare = Callable[[config.Train], None]
Fit = Callable[[DictConfig, config.Train, Path, Path | None, int | None], float]
Work = Callable[[], Job]


def run(cfg: DictConfig, folder: Path, prepare: Prepare, fit: Fit) -> float:
    """What Hydra calls for a job, in the folder made for it: its value; NaN where it failed, which stops no other.

    (Were the error raised, Hydra would leave out the callbacks at the end of the sweep.) `prepare` does what later jobs
    need too; `fit` trains in a folder from a checkpoint, if there is one, as this trial of a search, if it is one.

    Raises:
        Interrupted: a signal stops the whole sweep.
    """
    try:
        return _run(cfg, folder, prepare, fit)
    except Interrupted:
        if not side_by_side():  # else the other jobs save, and the sweep's own process reports it
            raise
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exception(error)
        tell(f"error: {HydraConfig.get().sweep.subdir}: {one_line(error, config.Train)}", sys.stderr)
    finally:
        with suppress(OSError):  # a folder that holds nothing
            folder.rmdir()
    return math.nan


def _run(cfg: DictConfig, named: Path, prepare: Prepare, fit: Fit) -> float:
    """Skip a finished job, resume one that was interrupted, and start one that failed again."""
    overrides, beside = list(HydraConfig.get().overrides.task), side_by_side()
    trial: int | None = HydraConfig.get().sweeper.get("trial")
    trials = [] if trial is None else [trial]
    launcher = _serve() if beside else None
    RELAY.raise_if_received()
    if (Path(HydraConfig.get().sweep.dir) / STOPPING).exists():
        raise Interrupted(STOP)
    try:
        settings = settings_of(cfg)
    except (ConfigError, OmegaConfBaseException) as error:
        if (there := Job.read(named)) is None or there.config is None:  # else it holds a job with valid settings
            Job(named, overrides, None, trials=trials).ended("failed", one_line(error, config.Train)).write()
        raise
    folder = folder_of(plain(cfg), named, Path(HydraConfig.get().sweep.dir))
    earlier = Job.read(folder)
    if earlier is not None and earlier.status != "failed":
        trials = sorted({*earlier.trials, *trials})
    if earlier is not None and earlier.status == "finished" and (folder / "results.json").is_file():
        replace(earlier, overrides=overrides, trials=trials).write()  # the grid may have grown, and the names with it
        tell(f"{folder.name}: finished before, skipped", sys.stdout)
        return math.nan if earlier.value is None else earlier.value

    prepare(settings)
    RELAY.raise_if_received()
    if beside:
        tell(f"{folder.name}: begun", sys.stdout)
    with sole_use(folder):
        if (earlier := Job.read(folder)) is not None and earlier.status == "failed":
            for checkpoint in (folder / "checkpoints").glob("*.ckpt"):
                checkpoint.unlink()
        last = to_resume("auto" if earlier else None, folder)
        job = Job(folder, overrides, plain(cfg), trials=trials)
        job.write()

    def work() -> Job:
        with sole_use(folder):
            ended = _outcome(job, lambda: fit(cfg, settings, folder, last, trial))
            ended.write()
        return ended

    ended = _in_a_process(job, work, launcher) if FORKS else work()
    if ended.status == "interrupted":
        RELAY.raise_if_received()
    if ended.status == "pruned":
        tell(f"{folder.name}: {ended.error}, pruned", sys.stdout)
        return math.nan
    if ended.status != "finished":
        raise UserError(ended.error or ended.status)
    if beside:
        tell(f"{folder.name}: finished in {duration(time.time() - job.started)}", sys.stdout)
    return math.nan if ended.value is None else ended.value


def _in_a_process(job: Job, work: Work, launcher: int | None) -> Job:
    process = multiprocessing.get_context("fork").Process(target=_work, args=(work, job.folder))
    # none is lost in the instant of the fork, and those of TO_PARENT never reach the job: Ctrl-C goes to all processes
    # of a terminal, SLURM's signals to all of a job; received twice they would stop it at once
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, TO_PARENT | {STOP})
    try:
        RELAY.raise_if_received()
        process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        while not wait([process.sentinel], timeout=1 if launcher else None):
            if os.getppid() != launcher:  # the sweep was killed
                RELAY.pass_on()
                process.join()
                os._exit(1)
        process.join()
    except BaseException:  # of a signal that is not relayed: submitit's, which then requeues the job
        if process.pid is not None:
            RELAY.pass_on()
            process.join()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    ended = Job.read(job.folder)
    if ended is not None and ended.status in ("finished", "pruned", "failed", "interrupted"):
        return ended
    status = process.exitcode or 0
    error = f"exited with status {status}"
    if status < 0:
        error = f"killed by signal {-status} ({signal.Signals(-status).name})"
        error += "; out of memory?" if -status == signal.SIGKILL else ""
    ended = job.ended("interrupted", error)
    with sole_use(job.folder):
        ended.write()
    return ended


def _work(work: Work, folder: Path) -> None:
    """In the job's own process."""
    stop_at_once()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {STOP})
    threading.Thread(target=_stop_without_parent, daemon=True).start()
    if side_by_side():
        log = (folder / "train.log").open("a", buffering=1)
        sys.stdout = sys.stderr = log
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    try:
        work()
    except Interrupted as stop:
        sys.exit(stop.status)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")


def _stop_without_parent() -> None:
    """Once the parent has ended, however it ended, save and stop."""
    parent: Any = multiprocessing.parent_process()
    wait([parent.sentinel])
    os.kill(os.getpid(), STOP)


def _outcome(job: Job, train: Callable[[], float]) -> Job:
    try:
        return job.ended("finished", value=train())
    except Interrupted as stop:
        RELAY.signum = RELAY.signum or stop.signum
        return job.ended("interrupted")
    except Pruned as end:
        return job.ended("pruned", str(end), end.value)
    except SystemExit as end:
        return job.ended("failed", f"exited with status {end.code}")
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exception(error)
        ended = job.ended("failed", one_line(error, config.Train))
        return replace(ended, diverged=isinstance(error, DivergenceError))


def tell(line: str, stream: TextIO) -> None:
    """Print a line in one piece: others may be printing theirs."""
    stream.write(f"{line}\n")
    stream.flush()


def side_by_side() -> bool:
    """Whether a launcher's workers run the jobs, several at once."""
    return not HydraConfig.get().launcher._target_.endswith(".BasicLauncher")


@cache
def _serve() -> int | None:
    """Once in every worker, before torch is imported; the process that it works for, if it ends with that."""
    if RELAY.sweep:  # this is the process of the sweep itself, the only worker of n_jobs=1
        return None
    launcher = HydraConfig.get().launcher
    if "submitit" in launcher._target_:
        os.environ.setdefault("OMP_NUM_THREADS", str(launcher.cpus_per_task or 1))  # joblib does likewise
        RELAY.listen(STOP, signal.SIGTERM)
    else:
        RELAY.listen(STOP)
        if FORKS:
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # Ctrl-C comes by way of the parent
    return os.getppid()
