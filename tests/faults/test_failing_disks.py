"""The disk is full, or may no longer be written to: an error that names the file, the old one intact, no litter."""

import errno
import multiprocessing
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from dae_lightning import training
from dae_lightning.archive import read_archive, write_archive
from tests.conftest import Settings


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("seam", "number"),
    [
        ("tempfile.NamedTemporaryFile", errno.EROFS),  # a read-only folder
        ("tempfile.NamedTemporaryFile", errno.EACCES),
        ("os.fsync", errno.ENOSPC),  # where the room is only asked for at the end
        ("os.replace", errno.EACCES),  # permission lost half-way
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_named_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seam: str, number: int
) -> None:
    path = tmp_path / "last.ckpt"
    write_archive({"step": 1}, path)

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "the temporary file")

    monkeypatch.setattr(f"dae_lightning.files.{seam}", fails)
    with pytest.raises(OSError, match=f"{os.strerror(number)}: '{path}'"):
        write_archive({"step": 2}, path)
    monkeypatch.undo()
    assert read_archive(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fills_up_in_a_training_loses_nothing(settings: Settings, tmp_path: Path) -> None:
    training.train(settings(), tmp_path)
    before = files(tmp_path / "checkpoints")
    last = tmp_path / "checkpoints" / "last.ckpt"
    ours, theirs = multiprocessing.Pipe()

    def child() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # room for metrics.csv, not for a checkpoint
        try:
            training.train(settings("trainer.max_epochs=3"), tmp_path, last)
        except OSError as error:
            theirs.send(str(error))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert ours.poll(), "no error"
    assert "last.ckpt'" in (said := ours.recv()) or "best.ckpt'" in said
    assert "File too large" in said
    assert files(tmp_path / "checkpoints") == before
    read_archive(last)
