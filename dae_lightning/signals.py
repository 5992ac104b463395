"""Ctrl-C and SIGTERM: the step in hand is finished and saved, then the run stops; a second one stops it at once."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import active_children
from pathlib import Path
from types import FrameType

SIGNALS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)  # that stop this process
DEAF_TO: tuple[int, ...] = ()
STOP = getattr(signal, "SIGUSR1", signal.SIGTERM)  # in which a process passes them on to those that work for it


class Interrupted(BaseException):
    """A signal asked the run to stop. (No Exception: nobody is to go on, not even the other jobs of a sweep.)"""

    def __init__(self, signum: int, remark: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}{remark}")
        self.signum = signum
        self.status = 128 + signum  # what a shell reports of a process that a signal ended


def stop_at_once() -> None:
    """From now on a signal raises Interrupted where it finds the program: there is no step to finish."""
    _answer(_raise)


def _answer(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for signum in SIGNALS:
        signal.signal(signum, handler)
    for signum in DEAF_TO:
        signal.signal(signum, signal.SIG_IGN)


def _raise(signum: int, frame: FrameType | None) -> None:
    end_by_the_next()
    raise Interrupted(signum)


def end_by_the_next() -> None:
    """From now on a signal ends the process as it would any other."""
    _answer(signal.SIG_DFL)


def listen_to_parent() -> None:
    """Stop at what the parent passes on, and at nothing else.

    (Ctrl-C goes to all processes of a terminal, SLURM's signals to all of a job; heard twice they stop at once.)
    """
    global SIGNALS, DEAF_TO
    SIGNALS, DEAF_TO = (STOP,), (*SIGNALS, signal.SIGUSR2)  # SIGUSR2: of SLURM by way of submitit


class Relay:
    """The signal that stops a sweep, passed on to the processes that work for it."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self.sweep: Path | None = None  # its folder, in the process of the sweep itself

    def listen(self, *signals: int) -> None:
        """From now on a signal does not stop this process: it waits for the others to save, then asks here."""
        for signum in signals:
            signal.signal(signum, self._pass_on)

    def raise_if_received(self) -> None:
        """Raises Interrupted."""
        if self.signum is not None:
            again = f"; go on with the same command and hydra.sweep.dir={self.sweep}"
            raise Interrupted(self.signum, again if self.sweep else "")

    def _pass_on(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            signal.signal(signum, signal.SIG_DFL)
        elif self.sweep:
            _tell_that_it_saves(signum)
        self.signum = self.signum or signum
        for process in active_children():
            with suppress(ProcessLookupError):
                os.kill(process.pid or 0, STOP)


RELAY = Relay()


class StopSignal:
    """Which signal has come, if any; training asks for it between steps.

    (Lightning 2.6 ends with status 0 on SIGTERM, #21623, and would break off a validation.)
    """

    def __init__(self, silent: bool = False) -> None:
        self.signum: int | None = None
        self.silent = silent

    def listen(self) -> None:
        """Take note of the signals from now on instead of being ended by them."""
        _answer(self._note)

    def raise_if_received(self) -> None:
        """Raises Interrupted."""
        if self.signum is not None:
            raise Interrupted(self.signum)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        end_by_the_next()
        if signum != STOP and not self.silent:  # or the process of the sweep, or the first rank, has told
            _tell_that_it_saves(signum)


def _tell_that_it_saves(signum: int) -> None:
    print(f"\n{signal.Signals(signum).name}: saving; once more stops at once", file=sys.stderr, flush=True)
