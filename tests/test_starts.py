"""What a command leaves behind: nothing of a start that failed; and on the way, no open file is replaced."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.processes import Training, small


def below(folder: Path) -> set[str]:
    """All that lies in a folder, but what `Training` keeps there."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} - {"said.txt"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("latent=0", "latent=0: must be at least 1"),
        ("data.root=nowhere/images", "nowhere/images: no such folder"),
        ("resume=last", "resume=last: no checkpoint in "),
        ("trainer.accelerator=gpu", "trainer.accelerator=gpu"),
        ("trainer=ddp trainer.devices=2 data.root=nowhere", "nowhere: no such folder"),
    ],
)
@pytest.mark.parametrize("folder", ["", "hydra.run.dir=new/run", "hydra.run.dir=there/run"])
def test_nothing_stays_of_a_start_that_failed(
    tmp_path: Path, idx_root: Path, wrong: str, message: str, folder: str
) -> None:
    (tmp_path / "there").mkdir()
    start = Training(tmp_path, *small(idx_root, *wrong.split(), *folder.split()))
    assert start.status() == 1, start.said
    assert message in start.said
    assert below(tmp_path) == {"there"}


def test_a_failed_start_in_a_folder_with_other_files_leaves_those_alone(tmp_path: Path, idx_root: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch()
    start = Training(tmp_path, *small(idx_root, "data.root=nowhere", "hydra.run.dir=mine"))
    assert start.status() == 1, start.said
    assert below(tmp_path) <= {"mine", "mine/notes", "mine/.lock"}


def test_no_file_is_replaced_or_removed_while_it_is_open(tmp_path: Path, idx_root: Path) -> None:
    """(Windows refuses it.)"""

    def watch() -> None:
        def no_open_file(event: str, arguments: tuple[Any, ...]) -> None:
            if event in ("os.rename", "os.remove"):
                paths = {os.path.realpath(path) for path in arguments[:2] if isinstance(path, (str, os.PathLike))}
                paths = {path for path in paths if not path.endswith(".lock")}  # which filelock removes on Windows
                descriptors = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
                if any(os.path.realpath(descriptor) in paths for descriptor in descriptors):
                    print("OPEN", event, *arguments)

        sys.addaudithook(no_open_file)

    def watched(*arguments: str) -> str:
        training = Training(tmp_path, *arguments, prepare=watch)
        assert training.status() == 0, training.said
        return training.said

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("there is no list of open files")
    run = ("hydra.run.dir=run", "figures=true", "checkpoint.every_n_steps=2")
    said = watched(*small(idx_root, *run))
    said += watched("resume=run", "trainer.max_epochs=3")
    for seeds in ("seed=0", "seed=0,1"):
        said += watched("-m", *small(idx_root, seeds, "hydra.sweep.dir=sweep"))
    assert "OPEN" not in said
