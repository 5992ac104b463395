"""16 bits a sample in colour, PNG and TIFF: of such files Pillow decodes the upper 8 bits, and writes none.

Pillow is asked for the upper bytes, and then, by the name of the other byte order, for the lower ones.
"""

import struct
import sys
import zlib
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from dae_lightning.data.pictures import open_image

FORMATS = ("PNG", "TIFF")
DIRECTORIES = (0x8769, 0x8825)  # EXIF tags that hold more tags: EXIF's own, GPS
LOWER = {  # Pillow's name of the samples in a file -> the name under which it takes the lower bytes for the upper ones
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B" if sys.byteorder == "little" else "RGB;16L",
}

Samples = np.ndarray[Any, np.dtype[np.uint16]]  # (H, W, 3)


def read(file: IO[bytes]) -> Samples | None:
    """The pixels of a file, upright; None if Pillow does not know its samples by one of the names above."""
    lower: Any
    upper, lower = open_image(file), open_image(file)
    tiles = []
    for tile in lower.tile:
        name, *rest = (tile.args,) if isinstance(tile.args, str) else tile.args
        if name not in LOWER:
            return None
        tiles.append(tile._replace(args=(LOWER[name], *rest) if rest else LOWER[name]))
    lower.tile = tiles
    values = np.array(ImageOps.exif_transpose(upper)).astype(np.uint16)
    values <<= 8
    values |= np.array(ImageOps.exif_transpose(lower))
    return values


def write(file: IO[bytes], values: Samples, format: str, exif: bytes) -> None:
    """Write (H, W, 3) as one of FORMATS, with EXIF data as `PIL.Image.Exif.tobytes` gives them, or none."""
    if format == "PNG":
        _write_png(file, values, exif)
    else:
        _write_tiff(file, values, exif)


def _write_png(file: IO[bytes], values: Samples, exif: bytes) -> None:
    height, width, _ = values.shape
    rows = np.zeros((height, 1 + 6 * width), np.uint8)  # the filter of each row, then its bytes
    rows[:, 0] = 2  # each byte less the one above
    rows[:, 1:] = np.frombuffer(values.astype(">u2").tobytes(), np.uint8).reshape(height, -1)
    rows[1:, 1:] -= rows[:-1, 1:].copy()
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)}
    chunks |= {b"eXIf": exif.removeprefix(b"Exif\0\0")} if exif else {}
    chunks |= {b"IDAT": zlib.compress(rows.tobytes()), b"IEND": b""}
    file.write(b"\x89PNG\r\n\x1a\n")
    for kind, data in chunks.items():
        file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))


def _write_tiff(file: IO[bytes], values: Samples, exif: bytes) -> None:
    height, width, channels = values.shape
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    said = Image.Exif()
    said.load(exif)
    for tag in said:
        tags[tag] = dict(said.get_ifd(tag)) if tag in DIRECTORIES else said[tag]
    tags[256], tags[257], tags[258] = width, height, (16,) * channels  # size, bits a sample
    tags[259], tags[262], tags[277], tags[284] = 1, 2, channels, 1  # not compressed, RGB, not in planes
    tags[273], tags[278], tags[279] = 0, height, values.nbytes  # one strip, which follows
    file.write(b"II*\0" + struct.pack("<I", 8) + tags.tobytes(8))
    file.write(values.astype("<u2").tobytes())
