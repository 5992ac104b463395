"""The processes that train one model together: which one this is, and starting them. Imports torch only to start them.

They are told by torchrun's environment variables or SLURM's; `launch` starts them with torch's own launcher.
"""

import logging
import multiprocessing
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NamedTuple

from dae_lightning import errors, threads
from dae_lightning.errors import ConfigError, LostRankError, TrainingError, UserError
from dae_lightning.signals import SIGNALS, Interrupted, end_by_the_next, handle, stop_at_once


class Rank(NamedTuple):
    """Of `size` processes the one numbered `number`, and `local` among those on its machine. Number 0 alone writes."""

    number: int = 0
    size: int = 1
    local: int = 0

    @classmethod
    def of_this_process(cls) -> "Rank | None":
        """None where nobody has started several."""
        if by_torchrun():
            names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        elif int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # srun sets it; sbatch, which starts one, does not
            names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        else:
            return None
        return cls(*(int(os.environ[name]) for name in names))


def by_torchrun() -> bool:
    """Whether torchrun started this process, or `launch`, which uses the same launcher."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch(size: int, task: Callable[..., float], *args: object) -> float:
    """Start `size` ranks on this machine, as `torchrun --standalone` does; what `task(*args)` returns in the first.

    They are forked, so this process must not have computed with torch yet: OpenMP and CUDA do not survive a fork.
    A signal is passed on to all ranks, which have 30 seconds to save. When one fails or dies, the others are ended.

    Raises:
        UserError: what the first rank to fail raised, or how it ended.
        Interrupted: a signal came, to this process or to a rank.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        raise ConfigError("trainer.strategy=ddp: this system cannot fork; start it under torchrun")
    import torch
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):  # errors are reported here, in one line
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    # Lightning too reads the variable, and would set another number if it were not there
    threads.leave_the_number()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // size)))
    told: list[int] = []

    def pass_on(signum: int, frame: FrameType | None) -> None:
        told.append(signum)
        end_by_the_next()
        for process in multiprocessing.active_children():
            with suppress(ProcessLookupError):
                os.kill(process.pid or 0, signum)

    def rank(*args: object) -> float:
        return _run(task, told, *args)

    handle(pass_on, *SIGNALS)
    try:
        with TemporaryDirectory() as logs:
            configuration = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=size,
                run_id="dae",
                rdzv_backend="c10d",
                rdzv_endpoint="127.0.0.1:0",
                local_addr="127.0.0.1",
                max_restarts=0,
                start_method="fork",
                logs_specs=DefaultLogsSpecs(log_dir=logs),
                # its handler raises an exception wherever Python is, which may be where exceptions are ignored
                signals_to_handle="SIGHUP,SIGQUIT",
            )
            value: float = elastic_launch(configuration, record(rank))(*args)[0]
            return value
    except ChildFailedError as error:
        raise Interrupted(told[0]) if told else _reason(*error.get_first_failure()) from None
    finally:
        stop_at_once()


def _run(task: Callable[..., float], told: list[int], *args: object) -> float:
    """In the new process: run the task, unless a signal came before there was a process to pass it on to."""
    import torch

    os.setsid()  # Ctrl-C in a terminal reaches the parent alone, which passes it on
    try:
        stop_at_once()
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        if told:
            raise Interrupted(told[0])
        return task(*args)
    except Interrupted as stop:
        sys.exit(stop.status)
    except OSError as error:
        raise TrainingError(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error
    finally:
        end_by_the_next()  # raised after this point, Interrupted would be shown with its traceback


def _reason(rank: int, failure: Any) -> UserError | Interrupted:
    """Why a rank failed, from its exit status and from what `record` wrote."""
    if failure.exitcode < 0:
        return LostRankError(f"rank {rank} was ended by {failure.signal_name()}")
    if failure.exitcode - 128 in SIGNALS:
        return Interrupted(failure.exitcode - 128)
    told = failure.error_file_data.get("message")
    if not isinstance(told, dict):
        return LostRankError(f"rank {rank} ended with status {failure.exitcode}")
    name, _, text = told["message"].partition(": ")
    kind: type[UserError] | None = getattr(errors, name, None)
    if kind is not None:
        return kind(text)
    print(told["extraInfo"]["py_callstack"], end="", file=sys.stderr)
    return TrainingError(f"rank {rank}: {name}: {text}")
