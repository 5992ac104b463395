"""Ctrl-C and SIGTERM: the step in hand is finished and saved, then the run stops; a second one stops it at once."""

import signal
import sys
from types import FrameType


class Interrupted(BaseException):
    """A signal asked the run to stop, and it did so with everything saved. (No Exception: nobody is to go on.)"""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.status = 128 + signum  # what a shell reports of a process that a signal ended


class StopSignal:
    """Which signal has come, if any; training asks for it between steps.

    (Lightning 2.6 ends with status 0 on SIGTERM, #21623, and would break off a validation.)
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def listen(self) -> None:
        """Take note of the signals from now on instead of being ended by them."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._note)

    def raise_if_received(self) -> None:
        """Raises Interrupted."""
        if self.signum is not None:
            raise Interrupted(self.signum)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        print(f"\n{signal.Signals(signum).name}: saving; once more stops at once", file=sys.stderr, flush=True)
