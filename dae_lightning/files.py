"""Whole files or none: what is written here is either the new file, complete and on disk, or the old one."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

PARTIAL = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that takes the place of `path` at the end; on an exception `path` stays as it was.

    Raises:
        OSError: it cannot be written; the error names `path`, and not the temporary file or none.
    """
    try:
        with _temporary(path) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o666 & ~_umask())  # temporary files are private; this one is not
            os.replace(file.name, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _temporary(path: Path) -> Iterator[Any]:
    """A file in the same folder, since a rename is atomic only within one file system; gone on an exception."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL, delete=False) as file:
        try:
            yield file
        except BaseException:
            os.unlink(file.name)
            raise


def replace_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def keep(path: Path, name: str) -> None:
    """Give the file at `path` a second name beside it, in the place of what bears that: it outlives its replacement.

    It costs no copy; on a file system without hard links, as where there is no such file, nothing is kept.
    """
    link = path.with_name(f".{name}{PARTIAL}")
    with suppress(OSError):
        os.link(path, link)
        os.replace(link, path.with_name(name))
        link.unlink(missing_ok=True)  # between two names of one file a rename does nothing


def remove_partial(folder: Path) -> None:
    """Remove what writers that were killed have left below a folder in which nobody writes now."""
    for left in folder.rglob(f".*{PARTIAL}"):
        left.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut; where folders cannot be opened (Windows), there is no such call."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
