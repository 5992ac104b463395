"""One process at a time in a folder. The system itself takes the lock back when its holder ends, however it ends."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout  # it comes with torch

from dae_lightning.errors import FolderInUseError
from dae_lightning.files import making


@contextmanager
def sole_use(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold the folder's lock; where another process holds it, `wait` as long as that lives, or refuse.

    A folder that is as empty at the end as it was before, as after a start that failed, keeps no trace of it.

    Raises:
        FolderInUseError: names the holder.
    """
    path = folder / ".lock"
    lock = FileLock(path)
    holder = folder / ".lock.holder"  # a file of its own: taking a lock may empty the lock's
    with making(folder):
        try:
            lock.acquire(timeout=0.2)  # seconds, far longer than `is_held` takes to ask
        except Timeout:
            if not wait:
                raise FolderInUseError(f"{folder}: in use by {_read(holder)}") from None
            print(f"waiting for {_read(holder)} in {folder}", file=sys.stderr)
            lock.acquire()
        try:
            since = datetime.now().astimezone().isoformat(" ", "seconds")
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}")
            yield
        finally:
            holder.unlink(missing_ok=True)
            # while it is held: whoever waits for it then finds it without a name, and asks again. (Windows removes no
            # open file; there the release removes it)
            if os.name == "posix" and [*folder.iterdir()] == [path]:
                path.unlink()
            lock.release()


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder's lock; one that was killed left its name there, but holds nothing."""
    if not (folder / ".lock.holder").exists():
        return False
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except (Timeout, OSError):  # another user's folder cannot be asked, and is believed
        return True
    lock.release()
    return False


def _read(holder: Path) -> str:
    with suppress(OSError):  # for an instant it may have no name yet
        return holder.read_text() or "another process"
    return "another process"
