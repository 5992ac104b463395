"""Image files of photographs, which keep what they have: grey or colour, 8 or 16 bits, EXIF data. Free of torch."""

from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from dae_lightning.data import deep_colour, tiff
from dae_lightning.data.pictures import (
    OPTIONS,
    bits_of,
    decoded,
    grey_values,
    kind_of,
    open_image,
    opened,
    picture,
    pixels,
)
from dae_lightning.files import replacing

# EXIF tags of a photograph, rather than of how its pixels are stored: what it shows, with what and when it was taken,
# by whom, its resolution; and two directories of more of them
KEPT = (*range(270, 273), 282, 283, 296, 305, 306, 315, 316, 33432, *range(0x9C9B, 0x9CA0), *deep_colour.DIRECTORIES)

Samples = NDArray[Any]  # uint8 or uint16


class Photograph(NamedTuple):
    """A decoded file of any size, upright."""

    values: Samples  # (H, W) or (3, H, W)
    format: str
    notes: list[str]
    exif: bytes  # without the orientation, which has been applied


def read_photograph(path: Path) -> Photograph:
    """Decode a file, recognised by its content, as grey or RGB as it is, and of 16 bits if it has more than 8.

    Where transparency or a colour profile has to be applied, 16 bits become 8, with a note.

    Raises:
        DataError: as `read_picture`.
    """
    with opened(path) as (file, image):
        deep, kind = bits_of(image) > 8, kind_of(image)
        mode = "L" if "grey" in kind or "1-bit" in kind else "RGB"
        eight, format, notes = decoded(image, mode)
        values: Samples = pixels(eight)
        if deep and len(notes) == 1 and (samples := _deep(file)) is not None:  # only the depth was converted
            values, notes = samples, []
        return Photograph(values, format, notes, _kept_exif(file, notes))


def write_photograph(path: Path, values: Samples, format: str, exif: bytes) -> None:
    """Write (H, W) or (3, H, W): uint8, or uint16 as PNG or TIFF, and in other formats as uint8."""
    if values.dtype == np.uint16 and format not in deep_colour.FORMATS:
        values = (values / 257).round().astype(np.uint8)
    with replacing(path) as file:
        if values.dtype == np.uint16 and values.ndim == 3:
            deep_colour.write(file, values.transpose(1, 2, 0), format, exif)
        else:
            picture(values).save(file, format=format, exif=exif, **OPTIONS.get(format, {}))


def _deep(file: IO[bytes]) -> NDArray[np.uint16] | None:
    """Pixels (H, W) or (3, H, W) of more than 8 bits, upright, scaled to 16; None where Pillow cannot give them."""
    image = open_image(file)
    if not image.mode.startswith("I"):
        colour = deep_colour.read(file)
        return None if colour is None else np.ascontiguousarray(colour.transpose(2, 0, 1))
    inverted, highest = isinstance(image, TiffImageFile) and tiff.white_is_zero(image), 2 ** bits_of(image) - 1
    values = grey_values(ImageOps.exif_transpose(image), highest, inverted)
    return (values * 65535).round().astype(np.uint16)


def _kept_exif(file: IO[bytes], notes: list[str]) -> bytes:
    """What EXIF data say of the photograph."""
    try:
        said, kept = open_image(file).getexif(), Image.Exif()
        for tag in KEPT:
            if tag in said:
                kept[tag] = dict(said.get_ifd(tag)) if tag in deep_colour.DIRECTORIES else said[tag]
        return kept.tobytes() if len(kept) else b""
    except Exception:  # of many types, as in damaged pictures; these are whole
        notes.append("EXIF data left out, since they are damaged")
        return b""
