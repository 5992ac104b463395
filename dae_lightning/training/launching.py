"""Several processes on this machine that train together, and a parent that looks after them as torchrun would.

They are forked from functions: the command line is read once, by the parent, which holds the run folder's lock too. So
a sweep's jobs can each have their own.
"""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from dae_lightning.errors import ConfigError, LostRankError, TrainingError, UserError
from dae_lightning.signals import SIGNALS, STOP, Interrupted, end_by_the_next, stop_at_once

HANDLED = (*SIGNALS, STOP)
GRACE = 5.0  # seconds in which the others may end by themselves when one has failed or was told to stop


def launch(size: int, task: Callable[[], float]) -> float:
    """What `task` returns in the first of `size` processes, each of which finds its rank where torchrun puts it.

    When one fails or dies, the others are ended. When this process dies, they end themselves.

    Raises:
        UserError: what one of them raised, or which one was ended by what.
        Interrupted: a signal came, here or there.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        raise ConfigError("trainer.strategy=ddp: this system cannot fork; start it under torchrun")
    fork: Any = multiprocessing.get_context("fork")
    listener = socket.create_server(("127.0.0.1", 0))
    given = {
        "TORCHELASTIC_RUN_ID": f"dae-{os.getpid()}",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(listener.getsockname()[1]),
        "WORLD_SIZE": str(size),
        "GROUP_RANK": "0",
    }
    threads = max(1, torch.get_num_threads() // size)
    processes, answers, handlers = [], [], {signum: signal.getsignal(signum) for signum in HANDLED}
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # until somebody can do what they ask for
    try:
        for number in range(size):
            answer, told = fork.Pipe(duplex=False)
            environment = given | {"RANK": str(number), "LOCAL_RANK": str(number)}
            process = fork.Process(target=_run, args=(task, environment, threads, told), name=f"rank {number}")
            # by a thread of its own: forked, one that has used OpenMP waits for ever for its helpers (libgomp)
            forking = threading.Thread(target=process.start)
            forking.start()
            forking.join()
            told.close()
            processes.append(process)
            answers.append(answer)
        _pass_on_signals(processes)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        # in the parent, behind the forks: the store is a thread
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
        _await(processes)
        del store
        failed = [process for process in processes if process.exitcode]
    finally:
        for process in processes:
            process.kill()
            process.join()
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    return _outcome(failed, [_received(answer) for answer in answers])


def _run(task: Callable[[], float], environment: dict[str, str], threads: int, told: Any) -> None:
    """In the new process."""
    try:
        os.setsid()  # Ctrl-C in a terminal reaches the parent alone, which passes it on
        stop_at_once()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        os.environ.update(environment)
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(threads)
            os.environ["OMP_NUM_THREADS"] = str(threads)  # or Lightning sets another number
        told.send(task())
    except Interrupted as stop:
        sys.exit(stop.status)
    except Exception as error:
        if not isinstance(error, (UserError, OSError)):
            traceback.print_exception(error)
            error = TrainingError(f"rank {environment['RANK']}: {type(error).__name__}: {error}")
        told.send(error)
        sys.exit(1)


def _end_with_parent() -> None:
    parent: Any = multiprocessing.parent_process()
    wait([parent.sentinel])
    os._exit(1)


def _pass_on_signals(processes: list[Any]) -> None:
    def pass_on(signum: int, frame: FrameType | None) -> None:
        end_by_the_next()  # and the ranks end with us
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, signum)

    for signum in HANDLED:
        signal.signal(signum, pass_on)


def _await(processes: list[Any]) -> None:
    """Wait for the end of all; no longer once one has died, or one has failed and the others had time to hear of it."""
    running, deadline = {process.sentinel: process for process in processes}, None
    while running:
        ended = wait(list(running), None if deadline is None else max(0, deadline - time.monotonic()))
        for sentinel in ended:
            process = running.pop(sentinel)
            process.join()
            if process.exitcode:
                deadline = deadline or time.monotonic() + (GRACE if process.exitcode > 0 else 0)
        if not ended:
            return


def _received(answer: Any) -> float | Exception | None:
    try:
        told: float | Exception = answer.recv()
    except EOFError:  # it had no time to answer
        return None
    return told


def _outcome(failed: list[Any], answers: list[Any]) -> float:
    """What came of it, once all have ended."""
    if not failed:
        return float(answers[0])
    for process in failed:
        if process.exitcode < 0:
            raise LostRankError(f"{process.name} was ended by {signal.Signals(-process.exitcode).name}")
    for process in failed:
        if process.exitcode - 128 in HANDLED:
            raise Interrupted(process.exitcode - 128)
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    errors.append(LostRankError(f"{failed[0].name} ended with status {failed[0].exitcode}"))
    # what went wrong first, and not that the others missed that rank
    raise min(errors, key=lambda error: isinstance(error, LostRankError))
