"""Finding the image files to denoise. Free of torch, so that a wrong folder is reported at once."""

import gzip
import os
import zlib
from pathlib import Path
from typing import NamedTuple

from dae_lightning.data.pictures import FORMATS
from dae_lightning.errors import ConfigError, DataError

IDX = b"\0\0\x08\x03"  # bytes in three dimensions: images in the MNIST format, whose labels have one
UNSUPPORTED = (".gif", ".webp", ".heic", ".avif", ".jp2")  # reported as skipped, not silently passed over


class ImageFile(NamedTuple):
    """One file to denoise."""

    source: Path
    target: Path
    is_idx: bool  # a file in the MNIST format, else a picture


class ImageFiles(NamedTuple):
    """What there is to do."""

    files: list[ImageFile]
    skipped: dict[Path, str]  # folders that cannot be opened, and why
    passed_over: int  # files that are not images


def find_images(images: str, output: str) -> ImageFiles:
    """The image file `images`, or those below that folder, and their targets below the folder `output`.

    A file keeps its name and sub-folder. Pictures are recognised by suffix, files in the MNIST format by content.
    Hidden files are ignored; links to folders are not followed.

    Raises:
        DataError: there is no such file or folder, or no image in it.
        ConfigError: `output` is a file, or a file below `images` would be overwritten.
    """
    source, folder = Path(images), Path(output)
    if not source.exists():
        raise DataError(f"images={images}: no such file or folder")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output={output}: is a file; give a folder")
    if source.is_dir():
        base, (found, skipped) = source, _below(source)
    else:
        base, found, skipped = source.parent, [source], {}
    files = []
    for file in found:
        is_idx = _is_idx(file)
        if is_idx or _is_picture(file) or file == source:  # a single file was meant, whatever its name
            files.append(ImageFile(file, folder / file.relative_to(base), is_idx))
    if not files and not skipped:
        raise DataError(f"images={images}: holds no PNG, JPEG, BMP or TIFF images, and no MNIST files")
    for _, target, _ in files:
        if target.exists() and target.resolve().is_relative_to(source.resolve()):
            raise ConfigError(f"output={output}: would overwrite {target}, one of the images; give another folder")
    return ImageFiles(files, skipped, len(found) - len(files))


def _below(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """All files, sorted, and the folders that cannot be opened."""
    files: list[Path] = []
    skipped: dict[Path, str] = {}

    def skip(error: OSError) -> None:
        skipped[Path(error.filename)] = f"cannot be opened ({error.strerror})"

    for place, folders, names in os.walk(folder, onerror=skip):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(place, name) for name in sorted(names) if not name.startswith(".")]
    return files, skipped


def _is_picture(file: Path) -> bool:
    irregular = file.exists() and not file.is_file()  # reading a pipe would wait for a writer
    return file.suffix.lower() in (*FORMATS, *UNSUPPORTED) and not irregular


def _is_idx(file: Path) -> bool:
    """By content, or by MNIST's own file names, so that a damaged file is reported."""
    if not file.is_file() or _is_picture(file):
        return False
    if "idx3-ubyte" in file.name:
        return True
    try:
        with file.open("rb") as plain:
            head = plain.read(4)
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(file) as packed:
                head = packed.read(4)
    except (gzip.BadGzipFile, zlib.error, EOFError):
        return False
    except OSError:
        return True  # reading it again will report why it cannot be read
    return head == IDX
