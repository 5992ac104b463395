"""A file is written whole or not at all, whatever it is called."""

import os
import stat
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from PIL import Image

from dae_lightning import config
from dae_lightning.errors import DataError, escape_on_stdout, printable
from dae_lightning.files import keep, replace_text, replacing
from dae_lightning.inference.files import denoise, find_images
from tests.test_images import save_model


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


NAMES = (
    *(b"f\xfcr.png", b"\x8e\xca\x90^.png", "写真.png".encode(), b"a" * 251 + b".png"),
    *(b"new\nline.png", b"\x1b[31mred.png"),
)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_files_of_any_name_are_denoised_or_named_and_nothing_but_text_reaches_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    save_model(tmp_path / "model.ckpt", (6, 4))
    (tmp_path / "in").mkdir()
    for name in NAMES:
        with open(os.path.join(os.fsencode(tmp_path / "in"), name), "wb") as file:
            Image.new("L", (4, 6), 90).save(file, "PNG")
        if len(name) < 200:
            with open(os.path.join(os.fsencode(tmp_path / "in"), b"bad " + name), "wb") as file:
                file.write(b"\x89PNG nothing")
    raw = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(raw, encoding=encoding, write_through=True))
    escape_on_stdout()
    settings = config.Denoise(
        checkpoint=str(tmp_path / "model.ckpt"), images=str(tmp_path / "in"), output=str(tmp_path / "out"),
        resize=False, corrupt=True, sigma=None, seed=0, device="cpu",
    )  # fmt: skip
    with pytest.raises(DataError, match=r"^5 of 11 files skipped, as listed above$"):
        denoise(settings, tmp_path / "model.ckpt", find_images(settings.images, settings.output))
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == sorted(NAMES)
    said = raw.getvalue().decode(encoding)
    assert said.count("\n") == 7
    assert "\x1b" not in said
    assert "bad new\\nline.png holds no PNG" in said
    assert "bad f\\udcfcr.png holds no PNG" in said
    assert ("bad 写真.png" if encoding == "utf-8" else "bad \\u5199\\u771f.png") in said


def test_an_error_is_one_printable_line_whatever_file_it_names() -> None:
    assert str(DataError("a\nb\x1b[31m: no such file")) == "a\\nb\\x1b[31m: no such file"
    assert printable("photo 写真.png") == "photo 写真.png"
