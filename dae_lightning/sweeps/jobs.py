"""The jobs of a multirun: none twice, each in a process of its own, and what became of it in its folder's job.json.

A process of its own, forked once all that a job needs is imported: one that is killed, as by the kernel for its memory,
takes no other with it. job.json:

    overrides   what the sweep sets in this job
    config      its settings, whole; null where they were not even right
    status      running, finished, failed or interrupted; a "running" one whose `.lock` nobody holds was killed
    error       null or one line
    value       what the sweeper gets of a finished one
    started     Unix time
    seconds     from there to its end; null while it runs
"""

import json
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dae_lightning.cli.run_folders import to_resume
from dae_lightning.errors import CheckpointError, LostRankError, UserError
from dae_lightning.files import replace_text
from dae_lightning.locks import sole_use
from dae_lightning.signals import RELAY, SIGNALS, STOP, Interrupted, listen_to_parent, stop_at_once

WITHOUT_EFFECT = (
    "resume",
    "checkpoint",
    "steps_per_execution",
    "cuda_graph",
    "trainer.enable_progress_bar",
)  # settings on which no result depends
HEARTBEAT = 0.2  # seconds between two looks whether the parent lives
FORKS = hasattr(os, "fork") and sys.platform != "darwin"  # whose frameworks do not survive it; else one process for all

Train = Callable[[Path, Path | None], float]  # in a folder, from a checkpoint on if there is one
Answer = tuple[str, str | None, float | None]  # status, error, value

HELD = ExitStack()  # by the process of the sweep, until it ends


class OneSweep(Callback):
    """Before the first job: no other sweep is in the folder, and a signal goes to those at work."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        try:
            HELD.enter_context(sole_use(folder))
        except UserError as error:
            sys.exit(f"error: {error}")  # Hydra would make a warning of it
        except OSError:
            return  # the sweeper meets it too, and is heard
        RELAY.sweep = folder
        launcher = config.hydra.launcher
        if "submitit" not in launcher._target_:  # its jobs are no children of this process
            RELAY.listen(*SIGNALS)
        if (threads := os.environ.get("OMP_NUM_THREADS")) and "joblib" in launcher._target_:
            os.environ.setdefault("MKL_NUM_THREADS", threads)  # joblib sets it, and torch follows it and not the other
        if launcher.get("batch_size") == "auto":  # joblib would hand out long jobs by the dozen, behind skipped ones
            launcher.batch_size = "1"


@dataclass(frozen=True)
class Job:
    """One job of a multirun; `one_line` is what a user has to know of an error."""

    folder: Path
    overrides: list[str]
    config: dict[str, Any] | None
    one_line: Callable[[BaseException], str]

    def run(self, prepare: Callable[[], None], train: Train) -> float:
        """What `train` returns, or returned when the job was finished before; `prepare` is of use to later jobs too.

        An interrupted job goes on, one that failed starts anew.

        Raises:
            UserError: it failed, exited or was killed.
            Interrupted: a signal stops the whole sweep.
        """
        if side_by_side():
            _serve()
        RELAY.raise_if_received()
        name, earlier = self.folder.name, read(self.folder) or {}
        if earlier.get("status") == "finished" and (self.folder / "results.json").is_file():
            if earlier["overrides"] != self.overrides:  # the grid has grown, and the names with it
                _write(self.folder, earlier | {"overrides": self.overrides})
            tell(f"{name}: finished before, skipped", sys.stdout)
            return _number(earlier["value"])

        prepare()
        RELAY.raise_if_received()
        begun = time.monotonic()
        if side_by_side():
            tell(f"{name}: begun", sys.stdout)
        status, error, value = self._in_a_process(train) if FORKS else self._alone(train)
        if status == "interrupted":
            RELAY.raise_if_received()
        if status != "finished":
            raise UserError(error or status)
        if side_by_side():
            tell(f"{name}: finished in {time.monotonic() - begun:.0f} s", sys.stdout)
        return _number(value)

    def record(self, status: str, error: str | None = None, value: float | None = None, since: float = 0) -> None:
        """Write job.json."""
        now = time.time()
        ran = {"started": since or now, "seconds": None if status == "running" else now - (since or now)}
        of_it = {"status": status, "error": error, "value": value if math.isfinite(_number(value)) else None}
        _write(self.folder, {"overrides": self.overrides, "config": self.config} | of_it | ran)

    def _in_a_process(self, train: Train) -> Answer:
        fork = multiprocessing.get_context("fork")
        ours, theirs = fork.Pipe(duplex=False)
        process = fork.Process(target=self._work, args=(train, theirs, os.getpid()))
        process.start()
        theirs.close()
        try:
            answer: Answer = ours.recv()
        except EOFError:
            process.join()
            answer = self._died(process.exitcode or 0)
        except BaseException:  # of a signal that is not relayed: submitit's, which then requeues the job
            os.kill(process.pid or 0, STOP)
            process.join()
            raise
        process.join()
        return answer

    def _died(self, status: int) -> Answer:
        """Its process ended without a word."""
        error = f"exited with status {status}"
        if status < 0:
            error = f"killed by signal {-status} ({signal.Signals(-status).name})"
            error += "; out of memory?" if -status == signal.SIGKILL else ""
        with sole_use(self.folder):
            self.record("interrupted", error, since=(read(self.folder) or {}).get("started", 0))
        return "interrupted", error, None

    def _work(self, train: Train, answer: Any, parent: int) -> None:
        """In the job's own process."""
        listen_to_parent()
        stop_at_once()
        threading.Thread(target=_stop_without, args=(parent,), daemon=True).start()
        if side_by_side():
            log = (self.folder / "train.log").open("a", buffering=1)
            sys.stdout = sys.stderr = log
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        answer.send(self._alone(train))

    def _alone(self, train: Train) -> Answer:
        """Train in this process, alone in the folder, and record what becomes of it."""
        began = time.time()
        try:
            with sole_use(self.folder):
                earlier = read(self.folder)
                if earlier is not None and earlier["status"] == "failed":
                    for checkpoint in (self.folder / "checkpoints").glob("*.ckpt"):
                        checkpoint.unlink()
                last = to_resume("auto" if earlier else None, self.folder)
                self.record("running", since=began)
                answer = self._told(lambda: train(self.folder, last))
                self.record(*answer, since=began)
                return answer
        except (UserError, OSError) as error:
            return "failed", self.one_line(error), None

    def _told(self, train: Callable[[], float]) -> Answer:
        try:
            RELAY.raise_if_received()  # in the instant of the fork
            return "finished", None, train()
        except Interrupted as stop:
            RELAY.signum = RELAY.signum or stop.signum
            return "interrupted", None, None
        except LostRankError as error:  # as where the job itself is killed
            return "interrupted", self.one_line(error), None
        except SystemExit as end:
            return "failed", f"exited with status {end.code}", None
        except Exception as error:
            if not isinstance(error, UserError):
                traceback.print_exception(error)
            return "failed", self.one_line(error), None


def folder_of(config: dict[str, Any], named: Path, sweep: Path) -> Path:
    """The folder of the job with these settings: the one so named, or where a grid with other names has it.

    Raises:
        CheckpointError: what lies in the one so named is another job's.
    """
    here = read(named)
    if here is not None and not differing(here["config"], config):
        return named
    for path in sorted(sweep.glob("*/job.json")):
        there = read(path.parent)
        if there is not None and not differing(there["config"], config):
            return path.parent
    if here is not None and here["config"] is not None:
        keys = ", ".join(differing(here["config"], config))
        raise CheckpointError(f"{named}: holds a job with another {keys}; another hydra.sweep.dir starts anew")
    if here is None and (named / "job.json").exists():
        raise CheckpointError(f"{named / 'job.json'}: cannot be read; without that folder the job runs anew")
    if (named / "checkpoints" / "last.ckpt").exists():
        raise CheckpointError(f"{named}: holds a run that is no job of a sweep; another hydra.sweep.dir starts anew")
    return named


def read(folder: Path) -> dict[str, Any] | None:
    """A folder's job.json; None where there is none, or none that can be read."""
    try:
        record = json.loads((folder / "job.json").read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and {"overrides", "config", "status", "value"} <= record.keys() else None


def differing(recorded: Any, config: Any, key: str = "") -> list[str]:
    """The keys of settings that differ, but for those on which no result depends."""
    if key in WITHOUT_EFFECT:
        return []
    if key == "data.root" and isinstance(recorded, str) and isinstance(config, str):  # however it is written
        recorded, config = os.path.abspath(recorded), os.path.abspath(config)
    if isinstance(recorded, dict) and isinstance(config, dict):
        within = f"{key}." if key else ""
        names = sorted(recorded.keys() | config.keys())
        return [one for name in names for one in differing(recorded.get(name), config.get(name), within + name)]
    return [] if recorded == config else [key]


def tell(line: str, stream: TextIO) -> None:
    """Print a line in one piece: others may be printing theirs."""
    stream.write(f"{line}\n")
    stream.flush()


def side_by_side() -> bool:
    """Whether a launcher's workers run the jobs, several at once."""
    return not HydraConfig.get().launcher._target_.endswith(".BasicLauncher")


@cache
def _serve() -> None:
    """Once in every worker, before torch is imported."""
    if RELAY.sweep:  # this is the process of the sweep itself, the only worker of n_jobs=1
        return
    launcher = HydraConfig.get().launcher
    if "submitit" in launcher._target_:  # joblib does likewise
        os.environ.setdefault("OMP_NUM_THREADS", str(launcher.cpus_per_task or 1))
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes by way of the parent
    RELAY.listen(STOP, signal.SIGTERM)
    threading.Thread(target=_end_without, args=(os.getppid(),), daemon=True).start()


def _end_without(parent: int) -> None:
    """Of a worker: its job saves and stops first."""
    _stop_without(parent)
    while multiprocessing.active_children():
        time.sleep(HEARTBEAT)
    os._exit(1)


def _stop_without(parent: int) -> None:
    """Wait for the parent's end, however it ends, then save and stop."""
    while os.getppid() == parent:
        time.sleep(HEARTBEAT)
    os.kill(os.getpid(), STOP)


def _write(folder: Path, record: dict[str, Any]) -> None:
    replace_text(folder / "job.json", json.dumps(record, indent=2) + "\n")


def _number(value: float | None) -> float:
    return math.nan if value is None else value
