"""Whole files or none: what is written here is either the new file, complete and on disk, or the old one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

PARTIAL = ".partial"


@contextmanager
def making(folder: Path) -> Iterator[None]:
    """Make a folder and those it lies in; at the end, those that were made here and hold nothing are removed again."""
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for place in new:
            with suppress(OSError):  # it holds something, or is gone
                place.rmdir()


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that takes the place of `path` at the end; on an exception `path` stays as it was.

    Raises:
        OSError: it cannot be written; the error names `path`, not the temporary file.
    """
    # in the same folder, since a rename is atomic only within one file system; short, however long the name is
    temporary = path.with_name(f".{uuid4().hex}{PARTIAL}")
    try:
        with making(path.parent):
            try:
                with temporary.open("xb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)  # after closing: Windows replaces no open file
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            if os.name == "posix":  # so that the rename survives a power cut; Windows cannot open folders
                descriptor = os.open(path.parent, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def replace_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def keep(path: Path, name: str) -> None:
    """Give the file at `path` a second name beside it, which outlives the file's replacement.

    This costs no copy. Where there is no such file, or no hard links on this file system, nothing is kept.
    """
    link = path.with_name(f".{name}{PARTIAL}")
    with suppress(OSError):
        os.link(path, link)
        os.replace(link, path.with_name(name))
        link.unlink(missing_ok=True)  # between two names of one file a rename does nothing


def remove_partial(folder: Path) -> None:
    """Remove what killed writers have left below a folder in which nobody writes now."""
    for left in folder.rglob(f".*{PARTIAL}"):
        left.unlink(missing_ok=True)
