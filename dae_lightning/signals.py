"""Ctrl-C and SIGTERM: the step in hand is finished and saved, then the run stops; a second one stops it at once."""

import signal
import sys
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal asked the run to stop. (No Exception: nobody is to go on, not even the other jobs of a sweep.)"""

    def __init__(self, signum: int, remark: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}{remark}")
        self.signum = signum
        self.status = 128 + signum  # what a shell reports of a process that a signal ended


def stop_at_once() -> None:
    """From now on a signal raises Interrupted where it finds the program: there is no step to finish."""
    for signum in SIGNALS:
        signal.signal(signum, _raise)


def _raise(signum: int, frame: FrameType | None) -> None:
    end_by_the_next()
    raise Interrupted(signum)


def end_by_the_next() -> None:
    """From now on a signal ends the process as it would any other."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_DFL)


class StopSignal:
    """Which signal has come, if any; training asks for it between steps.

    (Lightning 2.6 ends with status 0 on SIGTERM, #21623, and would break off a validation.)
    """

    def __init__(self, silent: bool = False) -> None:
        self.signum: int | None = None
        self.silent = silent

    def listen(self) -> None:
        """Take note of the signals from now on instead of being ended by them."""
        for signum in SIGNALS:
            signal.signal(signum, self._note)

    def raise_if_received(self) -> None:
        """Raises Interrupted."""
        if self.signum is not None:
            raise Interrupted(self.signum)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        end_by_the_next()
        if not self.silent:
            print(f"\n{signal.Signals(signum).name}: saving; once more stops at once", file=sys.stderr, flush=True)
