"""The disk is full, or may no longer be written to: an error that names the file, the old one intact, no litter."""

import ctypes
import errno
import multiprocessing
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dae_lightning.model.checkpoint import read_checkpoint, write_checkpoint
from dae_lightning.training import run as training
from dae_lightning.training.many_steps import ManySteps
from tests.conftest import Settings
from tests.faults.kills import differing_bits, outcome
from tests.faults.processes import Training, before, small


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


CONTENT = {"hyper_parameters": {}, "state_dict": {}}


@pytest.mark.parametrize(
    ("seam", "number"),
    [
        ("Path.open", errno.EROFS),  # a read-only folder
        ("Path.open", errno.EACCES),
        ("os.fsync", errno.ENOSPC),  # where the room is only asked for at the end
        ("os.replace", errno.EACCES),  # permission lost half-way
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_named_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seam: str, number: int
) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint(CONTENT | {"step": 1}, path)

    def fails(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "the temporary file")

    monkeypatch.setattr(f"dae_lightning.files.{seam}", fails)
    with pytest.raises(OSError, match=f"{os.strerror(number)}: '{path}'"):
        write_checkpoint(CONTENT | {"step": 2}, path)
    monkeypatch.undo()
    assert read_checkpoint(path)["step"] == 1
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
    read_checkpoint(last)


def obey_permissions() -> None:
    """Those of files hold for this process from now on, root's too: it gives up its capabilities."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, none) == 0


def fill_up(_: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # room for metrics.csv, not for a checkpoint


def lose_permission(folder: Path) -> None:
    folder.chmod(0o555)


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
@pytest.mark.parametrize(("fault", "reason"), [(fill_up, "File too large"), (lose_permission, "Permission denied")])
def test_the_command_ends_with_one_line_and_a_run_that_goes_on_loses_no_bit(
    tmp_path: Path, idx_root: Path, fault: Callable[[Path], None], reason: str
) -> None:
    checkpoints, saved = tmp_path / "run" / "checkpoints", tmp_path / "saved"

    def break_disk() -> None:
        shutil.copytree(checkpoints, saved)
        fault(checkpoints)

    def prepare() -> None:
        obey_permissions()
        before(ManySteps, "loss", break_disk, nth=20)  # in the second of two epochs of 15 steps

    command = small(idx_root, "trainer.enable_progress_bar=false", "resume=auto")
    run = Training(tmp_path, *command, "hydra.run.dir=run", prepare=prepare)
    assert run.status() == 1
    assert run.said.splitlines()[-1].startswith(f"error: {checkpoints}/")
    assert f".ckpt: {reason}; hydra.run.dir=PATH puts the output elsewhere" in run.said.splitlines()[-1]
    assert "Traceback" not in run.said
    checkpoints.chmod(0o755)
    assert files(saved) == {saved / path.name: content for path, content in files(checkpoints).items()}
    assert Training(tmp_path, *command, "hydra.run.dir=run").status() == 0
    assert Training(tmp_path, *command, "hydra.run.dir=whole").status() == 0
    assert differing_bits(outcome(tmp_path / "run"), outcome(tmp_path / "whole")) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_a_read_only_folder_is_named_at_once(tmp_path: Path, idx_root: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    run = Training(tmp_path, *small(idx_root, "hydra.run.dir=closed/run"), prepare=obey_permissions)
    assert run.status() == 1
    assert run.said == "error: closed/run: Permission denied; hydra.run.dir=PATH puts the output elsewhere\n"
