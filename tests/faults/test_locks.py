"""Two runs, one folder: the second is refused at once and told by whom; a killed run's lock is not in the way."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dae_lightning.errors import FolderInUseError
from dae_lightning.locks import sole_use
from tests.faults.processes import Training, small

ENDLESS = "trainer.max_epochs=1000000"
NO_TORCH = "import sys; sys.modules['torch'] = None; from dae_lightning.cli import commands; commands.train()"


@pytest.fixture
def endless(tmp_path: Path, idx_root: Path) -> Training:
    """A training in tmp_path/run that has come as far as its first checkpoint."""
    training = Training(tmp_path / "first", *small(idx_root, ENDLESS, f"hydra.run.dir={tmp_path / 'run'}"))
    training.wait_until(lambda: (tmp_path / "run" / "checkpoints" / "last.ckpt").exists())
    return training


def test_the_second_run_is_refused_before_torch_is_imported_and_told_by_whom(
    tmp_path: Path, endless: Training, idx_root: Path
) -> None:
    folder = tmp_path / "run"
    recorded = (folder / ".hydra" / "config.yaml").read_text()
    refused = (
        f"error: {folder}: in use by process {endless.pid} on {socket.gethostname()} "
        r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d" + "\n"
    )
    for arguments in (
        [f"hydra.run.dir={folder}", *small(idx_root, "latent=5")],
        [f"hydra.run.dir={folder}", *small(idx_root, "resume=auto")],
        [f"resume={folder}"],
    ):
        answer = subprocess.run(
            [sys.executable, "-c", NO_TORCH, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 1
        assert re.fullmatch(refused, answer.stderr), answer.stderr
    # the refused ones have not written over the first one's settings
    assert (folder / ".hydra" / "config.yaml").read_text() == recorded
    endless.kill()


def test_a_killed_runs_lock_is_not_in_the_way(tmp_path: Path, endless: Training) -> None:
    endless.kill()
    assert (tmp_path / "run" / ".lock.holder").exists()
    rows = len((tmp_path / "run" / "metrics.csv").read_text().splitlines())
    again = Training(tmp_path / "second", f"resume={tmp_path / 'run'}", f"trainer.max_epochs={rows + 2}")
    assert again.status() == 0, again.said
    assert not (tmp_path / "run" / ".lock.holder").exists()


def test_a_folder_is_free_again_when_its_user_is_done_or_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), sole_use(tmp_path):
        raise KeyError
    with sole_use(tmp_path):
        assert (tmp_path / ".lock.holder").read_text().startswith(f"process {os.getpid()} on ")
    assert {path.name for path in tmp_path.iterdir()} <= {".lock"}


def test_whoever_holds_a_folder_and_has_not_said_so_yet_is_another_process(tmp_path: Path) -> None:
    with sole_use(tmp_path):
        (tmp_path / ".lock.holder").unlink()
        program = (
            f"from pathlib import Path; from dae_lightning.locks import sole_use; sole_use(Path({str(tmp_path)!r}))"
            ".__enter__()"
        )
        answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert FolderInUseError.__name__ in answer.stderr
    assert f"{tmp_path}: in use by another process" in answer.stderr
