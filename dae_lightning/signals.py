"""Ctrl-C and SIGTERM: the current step is finished and saved, then the run stops; a second one stops it at once."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import active_children
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPING = ".stopping"  # in the folder of a sweep that a signal stops
STOP = getattr(signal, "SIGUSR1", signal.SIGTERM)  # from a process to those that work for it


class Interrupted(BaseException):
    """A signal asked the run to stop. (Not an Exception: the other jobs of a sweep have to stop too.)"""

    def __init__(self, signum: int, remark: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}{remark}")
        self.signum = signum
        self.status = 128 + signum  # what a shell reports of a process that a signal ended

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a traceback's place: where a notebook was stopped is of no interest."""
        return [str(self)]


def stop_at_once() -> None:
    """From now on a signal raises Interrupted wherever the program is: there is no step to finish."""
    handle(_raise)


@contextmanager
def stopping_at_once() -> Iterator[None]:
    """For a whole command: Interrupted would be shown with its traceback where nothing catches it any more."""
    stop_at_once()
    try:
        yield
    finally:
        end_by_the_next()


def end_by_the_next() -> None:
    """From now on a signal ends the process as it would any other; in a notebook, Ctrl-C ends the cell alone."""
    handle(signal.SIG_DFL)
    if hasattr(sys, "ps1"):  # an interactive session
        handle(signal.default_int_handler, signal.SIGINT)


def _raise(signum: int, frame: FrameType | None) -> None:
    while signum == signal.SIGINT and frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            # Ctrl-C while an import runs would leave half a module, on which libraries then fail: wait until it is done
            again = threading.Timer(0.1, os.kill, (os.getpid(), signum))
            again.daemon = True
            again.start()
            return
        frame = frame.f_back
    end_by_the_next()
    raise Interrupted(signum)


def handle(handler: Callable[[int, FrameType | None], None] | signal.Handlers, *signals: int) -> None:
    """Let `handler` answer these signals, by default all; in a thread that is not the main one nothing changes."""
    if threading.current_thread() is threading.main_thread():  # Python allows it in no other
        for signum in signals or (*SIGNALS, STOP):
            signal.signal(signum, handler)


class StopSignal:
    """The signal that has come, if any; a training asks for it between steps. It is passed on to child processes.

    (By itself, Lightning 2.6 ends with status 0 on SIGTERM, #21623, and would break off a validation.)
    """

    def __init__(self, silent: bool = False) -> None:
        self.signum: int | None = None
        self.silent = silent
        self.sweep: Path | None = None  # in the process of a sweep itself, its folder

    def listen(self, *signals: int) -> None:
        """From now on take note of these signals, by default of all, instead of being ended by them."""
        handle(self._note, *signals)

    def raise_if_received(self) -> None:
        """Raises Interrupted."""
        if self.signum is not None:
            raise Interrupted(self.signum)

    def pass_on(self) -> None:
        for process in active_children():
            with suppress(ProcessLookupError):
                os.kill(process.pid or 0, STOP)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        end_by_the_next()
        if self.sweep is not None:  # for a launcher's workers that start later
            (self.sweep / STOPPING).touch()
        if signum != STOP and not self.silent:  # else the sweep's own process, or the first rank, prints it
            print(f"\n{signal.Signals(signum).name}: saving; once more stops at once", file=sys.stderr, flush=True)
        self.pass_on()


RELAY = StopSignal()  # of a process that waits for the jobs of a sweep
