"""What a command tells its user in one line: the key or the file, what came, what would be right."""

import sys
from io import TextIOWrapper


def printable(text: object) -> str:
    """A text that may hold names of files, as a terminal may get it.

    Line breaks and other control characters are escaped, and so are bytes that were no text.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def escape_on_stdout() -> None:
    """From now on, characters that the encoding of stdout lacks are escaped there, as they are on stderr."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class UserError(Exception):
    """A mistake that the user can mend; commands print its text as one line, without a traceback."""

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(UserError, ValueError):
    """A setting that is unknown, of the wrong type or out of range."""


class DataError(UserError):
    """Image files that are absent, damaged, or do not belong together."""


class CheckpointError(UserError):
    """A checkpoint or run folder that is absent, damaged, or of another model."""


class SweepError(UserError):
    """A folder that is no multirun's, or one in which no job has begun."""


class FolderInUseError(UserError):
    """A run folder in which another process is at work."""


class TrainingError(UserError):
    """A training that cannot start or continue: no such device, a loss that is not finite."""


class DivergenceError(TrainingError):
    """A loss or weights that are not finite."""


class Pruned(Exception):
    """A search ends a training that is hopeless, which is nobody's mistake. `value` is its best score so far."""

    def __init__(self, value: float, epoch: int, epochs: int) -> None:
        super().__init__(f"hopeless after epoch {epoch} of {epochs}")
        self.value = value


class LostRankError(TrainingError):
    """One of several processes that train together has died, or does not answer."""


class ExportError(UserError):
    """A model that cannot be exported, or that would not compute the same there."""
