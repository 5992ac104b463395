"""A file is written whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from dae_lightning.files import keep, replace_text, replacing


def test_what_is_kept_outlives_its_replacement_whoever_was_killed_before(tmp_path: Path) -> None:
    path = tmp_path / "last"
    keep(path, "previous")
    assert list(tmp_path.iterdir()) == []
    replace_text(path, "1")
    keep(path, "previous")
    keep(path, "previous")  # a writer was killed in front of the replacement: both names are one file's
    replace_text(path, "2")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"last": "2", "previous": "1"}


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_text(path, "old")
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines([b"half of the n", None])  # type: ignore[list-item]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    replace_text(tmp_path / "folder" / "ours", "text")
    assert stat.S_IMODE(os.stat(tmp_path / "folder" / "ours").st_mode) == stat.S_IMODE(
        os.stat(tmp_path / "usual").st_mode
    )
