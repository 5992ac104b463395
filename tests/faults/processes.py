"""`python train.py` in a process forked from this one, which has imported everything: a start costs no 10 seconds."""

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dae_lightning.cli import commands

FORK: Any = multiprocessing.get_context("fork")
PATIENCE = 60.0  # seconds; what takes longer hangs


class Training:
    """A command line that runs in `cwd`; `prepare` is called in the process first, to arrange the fault."""

    def __init__(self, cwd: Path, *arguments: str, prepare: Callable[[], object] = lambda: None) -> None:
        cwd.mkdir(parents=True, exist_ok=True)
        self._said = cwd / "said.txt"
        self._process = FORK.Process(target=_command, args=(cwd, self._said, arguments, prepare))
        self._process.start()

    @property
    def pid(self) -> int:
        pid: int = self._process.pid
        return pid

    @property
    def said(self) -> str:
        """All that came on stdout and stderr so far."""
        return self._said.read_text() if self._said.exists() else ""

    def status(self) -> int:
        """Wait for its end: the exit status, negative where a signal ended it."""
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            raise AssertionError(f"still running: {self.said}")
        status: int = self._process.exitcode
        return status

    def send(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def kill(self) -> None:
        """As `kill -9` does."""
        self.send(signal.SIGKILL)
        self._process.join()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that it does while it runs."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self._process.is_alive(), self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.005)


def _command(cwd: Path, said: Path, arguments: tuple[str, ...], prepare: Callable[[], object]) -> None:
    os.chdir(cwd)
    sys.stdout = sys.stderr = said.open("w", buffering=1)
    for stream in (1, 2):  # what the processes that it starts write to
        os.dup2(sys.stdout.fileno(), stream)
    sys.argv = ["train.py", *arguments]
    prepare()
    commands.train()


def small(idx_root: Path, *more: str) -> list[str]:
    """The arguments of a small training."""
    return [
        *("trainer=cpu", "data=idx", f"data.root={idx_root}", "latent=4", "batch_size=8", "steps_per_execution=2"),
        *("figures=false", "trainer.max_epochs=2", *more),
    ]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def torchrun(number: int, port: int, size: int = 2) -> dict[str, str]:
    """What a worker of torchrun finds, without an agent that keeps the store."""
    ranks = {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(size), "GROUP_RANK": "0"}
    return ranks | {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def before(owner: Any, name: str, act: Callable[[], object], nth: int = 1) -> None:
    """Do something in front of the n-th call of a function, in this process."""
    original, calls = getattr(owner, name), 0

    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            act()
        return original(*args, **kwargs)

    setattr(owner, name, called)
