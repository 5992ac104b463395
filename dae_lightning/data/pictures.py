"""One image file: read as a person sees it, and written whole or not at all. Free of torch."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dae_lightning.errors import DataError
from dae_lightning.files import replacing

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
OPTIONS: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95, "subsampling": 0}}  # hardly any loss
MOST_PIXELS = 2**26  # more than cameras take; memory is set aside on a header's word, which may be anything
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
KINDS = {
    "1": "1-bit",
    "L": "grey",
    "RGB": "colour",
    "P": "palette",
    "LA": "grey with alpha",
    "RGBA": "colour with alpha",
}


class Picture(NamedTuple):
    """A decoded file, 8-bit grey (mode L) or RGB, upright."""

    image: Image.Image
    format: str  # of the file's content, whatever its name: a value of FORMATS
    notes: list[str]  # what was done to it on the way, as a person should know


def mode_of(input_shape: tuple[int, ...]) -> str | None:
    """Pillow's mode of a model's images: L for (H, W) and (1, H, W), RGB for (3, H, W), None for other shapes."""
    if len(input_shape) == 2 or (len(input_shape) == 3 and input_shape[0] == 1):
        return "L"
    return "RGB" if len(input_shape) == 3 and input_shape[0] == 3 else None


def pixels(image: Image.Image) -> Bytes:
    """(H, W) of an image of mode L, (3, H, W) of mode RGB."""
    array = np.array(image, dtype=np.uint8)
    return array if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def picture(array: Bytes) -> Image.Image:
    """The image whose pixels are (H, W), (1, H, W) or (3, H, W)."""
    if array.ndim == 3:
        array = array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))
    return Image.fromarray(array)


def read_picture(path: Path, mode: str, size: tuple[int, int] | None) -> Picture:
    """Decode a file, by its content, into `mode` L or RGB.

    `size` (width, height) is what it must have; what has another, or more than MOST_PIXELS, is refused by its
    header, before any pixel is decoded. None allows any.

    Raises:
        DataError: it cannot be read, or is not one image of 8 or 16 bits; the message leaves out the path.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of is refused here, or done with a note
            # not by name: Pillow 13 would map an uncompressed TIFF that lies on its side into the wrong shape
            with path.open("rb") as file, Image.open(file, formats=sorted(set(FORMATS.values()))) as image:
                _check_header(image, size)
                return _decode(image, mode, size)
    except DataError:
        raise
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        raise DataError("is empty" if empty else "holds no PNG, JPEG, BMP or TIFF image") from None
    except Image.DecompressionBombError:
        raise DataError(f"is enormous; {MOST_PIXELS:,} pixels can be read") from None
    except Exception as error:  # damaged files make Pillow raise errors of many types
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise DataError(f"cannot be read ({reason})") from error


def write_picture(path: Path, image: Image.Image, format: str) -> None:
    """Write an image of mode L or RGB."""
    with replacing(path) as file:
        image.save(file, format=format, **OPTIONS.get(format, {}))


def resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Stretched to `size` (width, height); Lanczos' filter, which also averages where it shrinks."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def wrong_size(came: tuple[int, int], size: tuple[int, int]) -> str:
    """Why images of another size are refused."""
    return f"is {_by(came)} pixels, the model takes {_by(size)}; resize=true resizes it there and back"


def _check_header(image: Image.Image, size: tuple[int, int] | None) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise DataError(f"is enormous, {_by(image.size)}; {MOST_PIXELS:,} pixels can be read")
    # it may lie on its side until EXIF turns it
    if size is not None and sorted(image.size) != sorted(size):
        raise DataError(wrong_size(image.size, size))
    # a phone's MPO is a JPEG with previews behind it, not an animation
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise DataError(f"holds {frames} frames; give them as single images")
    if image.mode == "F" or (image.mode == "I" and not _sixteen_bits(image)):
        raise DataError("has 32 bits a pixel, of unknown range; give 8 or 16")


def _decode(image: Image.Image, mode: str, size: tuple[int, int] | None) -> Picture:
    came, sixteen = image.mode, _sixteen_bits(image)
    format = "JPEG" if image.format == "MPO" else str(image.format)
    notes = []
    image = ImageOps.exif_transpose(image)
    if size is not None and image.size != size:
        raise DataError(wrong_size(image.size, size))
    if image.mode.startswith("I"):  # 16 bits, of which Pillow's own conversion would cut what is above 255
        image = picture((np.array(image) / 257).round().astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if np.array(image.getchannel("A")).min() < 255:
            notes.append("transparency laid on white")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if came != mode or sixteen:
        kind = ("16-bit " if sixteen else "") + ("grey" if came.startswith("I") else KINDS.get(came, came))
        notes.append(f"{kind} converted to 8-bit {KINDS[mode]}")
    return Picture(image.convert(mode), format, notes)


def _sixteen_bits(image: Image.Image) -> bool:
    """By the header; of 16-bit colour Pillow decodes the upper 8 bits without a word."""
    return ";16" in image.mode or ";16" in str(getattr(image, "tile", ""))


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
