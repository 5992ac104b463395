"""What the tags of a TIFF file say of its pixels, some of which Pillow decodes wrongly without an error."""

from collections.abc import Mapping
from typing import IO, Any

from PIL.TiffImagePlugin import PREFIXES, ImageFileDirectory_v2, TiffImageFile
from PIL.TiffTags import lookup

from dae_lightning.errors import DataError

SUBFILE, OLD_SUBFILE, SUB_IFDS, DNG_VERSION = 254, 255, 330, 50706
BITS, COMPRESSION, PHOTOMETRIC, PLANAR, SAMPLE_FORMAT, SUBSAMPLING = 258, 259, 262, 284, 339, 530

WHITE_IS_ZERO, YCBCR = 0, 6
SENSOR = (32803, 34892)  # a camera's raw data: a mosaic, and linear values
RAW = "is a camera's raw file, or begins with a preview of its picture; export it as PNG or JPEG"

Tags = Mapping[int, Any]


def check(image: TiffImageFile) -> None:
    """Refuse what would be decoded into other values, or as another picture, than the file means.

    Raises:
        DataError: a camera's raw file, several pictures, or numbers that are not unsigned.
    """
    tags = image.tag_v2
    if DNG_VERSION in tags or (_reduced(tags) and (SUB_IFDS in tags or image.is_animated)):
        raise DataError(RAW)
    bits, raw = max(tags.get(BITS, (1,))), tags.get(COMPRESSION, 1) == 1
    planar = raw and bits > 8 and tags.get(PLANAR) == 2
    packed = raw and tags.get(PHOTOMETRIC) == YCBCR and tags.get(SUBSAMPLING, (2, 2)) != (1, 1)
    if bits > 16 or planar or packed or not {1, 4}.issuperset(tags.get(SAMPLE_FORMAT, ())):  # 1 and 4 are unsigned
        raise DataError(unreadable(tags))
    if (frames := 1 + _further_pages(image)) > 1:
        raise DataError(f"holds {frames} frames; give them as single images")


def unidentified(file: IO[bytes]) -> str | None:
    """Why Pillow does not know this file, if it is a TIFF file."""
    file.seek(0)
    header = file.read(8)
    if not header.startswith(tuple(PREFIXES)):
        return None
    tags = ImageFileDirectory_v2(header + file.read(8) if header[2] == 43 else header)
    file.seek(tags.next)
    tags.load(file)
    return RAW if tags.get(PHOTOMETRIC) in SENSOR else unreadable(tags)


def unreadable(tags: Tags) -> str:
    """Why a picture is refused: `is a TIFF whose pixels cannot be read (BitsPerSample 32, ...); save it as PNG`."""
    telling = [tag for tag in (BITS, SAMPLE_FORMAT, PHOTOMETRIC, PLANAR, COMPRESSION) if tag in tags]
    values = ", ".join(f"{lookup(tag).name} {str(tags[tag]).strip('(,)')}" for tag in telling)
    return f"is a TIFF whose pixels cannot be read ({values}); save it as PNG"


def white_is_zero(image: TiffImageFile) -> bool:
    """Whether Pillow has left the inversion to its caller, as it does for more than 8 bits."""
    return image.mode.startswith("I") and image.tag_v2.get(PHOTOMETRIC, WHITE_IS_ZERO) == WHITE_IS_ZERO


def _further_pages(image: TiffImageFile) -> int:
    """Pages after the first that are pictures of their own, rather than smaller copies."""
    count = 0
    for number in range(1, image.n_frames):
        image.seek(number)
        count += not _reduced(image.tag_v2)
    image.seek(0)
    return count


def _reduced(tags: Tags) -> bool:
    return bool(tags.get(SUBFILE, 0) & 1) or tags.get(OLD_SUBFILE) == 2
