"""Which files of a folder are images, and where their denoised copies go. Free of torch."""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from dae_lightning.data.pictures import FORMATS
from dae_lightning.errors import ConfigError, DataError

PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*")  # what PNG, JPEG and TIFF files begin with
IDX = b"\0\0\x08\x03"  # bytes in three dimensions: images in the MNIST format; its labels have one
OTHERS = (".gif", ".webp", ".heic", ".avif", ".jp2")  # a person would miss them, were they passed over

Kind = Literal["picture", "idx"]


class ImageFile(NamedTuple):
    """One file to denoise."""

    source: Path
    target: Path
    kind: Kind


class ImageFiles(NamedTuple):
    """What there is to do."""

    files: list[ImageFile]
    skipped: dict[Path, str]  # what cannot be read, and why
    passed_over: int  # files that are no images, by content and by name


def find_images(images: str, output: str) -> ImageFiles:
    """The image file `images`, or those below that folder, and their places below the folder `output`.

    A file keeps its name and sub-folder. What is an image is seen from its content, and then from its name. Hidden
    files are passed over; links to folders are not followed.

    Raises:
        DataError: there is no such file or folder, or no image in it.
        ConfigError: `output` is a file, or a file below `images` would be overwritten.
    """
    source, folder = Path(images), Path(output)
    if not source.exists():
        raise DataError(f"images={images}: no such file or folder")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output={output}: is a file; give a folder")
    files: list[ImageFile] = []
    skipped: dict[Path, str] = {}
    passed_over = 0
    for file in _below(source, skipped) if source.is_dir() else [source]:
        try:
            kind = _kind(file)
        except OSError as error:
            skipped[file] = f"cannot be read ({error.strerror or error})"
            continue
        if kind is not None:
            base = source if source.is_dir() else source.parent
            files.append(ImageFile(file, folder / file.relative_to(base), kind))
        elif source.is_dir():
            passed_over += 1
        else:  # it was meant
            files.append(ImageFile(file, folder / file.name, "picture"))
    if not files and not skipped:
        raise DataError(f"images={images}: holds no PNG, JPEG, BMP or TIFF images, and no MNIST files")
    for _, target, _ in files:
        if target.exists() and target.resolve().is_relative_to(source.resolve()):
            raise ConfigError(f"output={output}: {target} is there, among the images; give another folder")
    return ImageFiles(files, skipped, passed_over)


def _below(folder: Path, skipped: dict[Path, str]) -> Iterator[Path]:
    """All files, sorted; folders that cannot be opened go to `skipped`."""

    def unreadable(error: OSError) -> None:
        skipped[Path(error.filename)] = f"cannot be opened ({error.strerror})"

    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def _kind(file: Path) -> Kind | None:
    """None for what is no image, by its first bytes and by its name."""
    if file.exists() and not file.is_file():  # a pipe would be waited for
        return None
    with file.open("rb") as opened:
        head = opened.read(16)
    if head.startswith(b"\x1f\x8b"):
        with suppress(gzip.BadGzipFile, zlib.error, EOFError), gzip.open(file) as packed:
            head = packed.read(4)
    if head.startswith(IDX) or "idx3-ubyte" in file.name:
        return "idx"
    bmp = head.startswith(b"BM") and head[6:10] == bytes(4)  # two letters alone may be any text
    if head.startswith(PICTURES) or bmp or file.suffix.lower() in (*FORMATS, *OTHERS):
        return "picture"
    return None
