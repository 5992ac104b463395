"""Decoding and writing image files, for training and for inference. Free of torch."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dae_lightning.errors import DataError
from dae_lightning.files import replacing

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
OPTIONS: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95, "subsampling": 0}}  # almost lossless
MOST_PIXELS = 2**26  # more than cameras take; a damaged header may declare any size, and Pillow allocates that much
KINDS = {"L": "grey", "LA": "grey", "RGB": "colour", "RGBA": "colour", "1": "1-bit", "P": "palette"}

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


class Picture(NamedTuple):
    """A decoded file, 8-bit grey (mode L) or RGB, upright."""

    image: Image.Image
    format: str  # of the file's content, whatever its name: a value of FORMATS
    notes: list[str]  # conversions that the user should know of


def mode_of(input_shape: tuple[int, ...]) -> str | None:
    """Pillow's mode of a model's images: L for (H, W) and (1, H, W), RGB for (3, H, W), None for other shapes."""
    if len(input_shape) == 2:
        return "L"
    return {1: "L", 3: "RGB"}.get(input_shape[0]) if len(input_shape) == 3 else None


def pixels(image: Image.Image) -> Bytes:
    """(H, W) of an image of mode L, (3, H, W) of mode RGB."""
    array = np.array(image, dtype=np.uint8)
    return array if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def picture(array: Bytes) -> Image.Image:
    """The image whose pixels are (H, W), (1, H, W) or (3, H, W)."""
    if array.ndim == 3:
        array = array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))
    return Image.fromarray(array)


def read_picture(path: Path, mode: str | None = None) -> Picture:
    """Decode a file, recognised by its content, into `mode` L or RGB.

    Without a mode the file must be 8-bit grey or RGB already, so that nothing is converted.

    Raises:
        DataError: it cannot be read, or is not one image of 8 or 16 bits; the message does not repeat the path.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whatever Pillow warns of is refused or noted here
            # opened as a file, not by name: Pillow 13 would map a rotated uncompressed TIFF into the wrong shape
            with path.open("rb") as file, Image.open(file, formats=sorted(set(FORMATS.values()))) as image:
                _check_header(image)
                if mode is None and _kind(image) not in ("grey", "colour"):
                    raise DataError(f"is {_kind(image)}; give 8-bit grey or RGB without palette or alpha")
                return _decode(image, mode or image.mode)
    except DataError:
        raise
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        raise DataError("is empty" if empty else "holds no PNG, JPEG, BMP or TIFF image") from None
    except Image.DecompressionBombError:
        raise DataError(f"is enormous; at most {MOST_PIXELS:,} pixels can be read") from None
    except Exception as error:  # damaged files make Pillow raise errors of many types
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise DataError(f"cannot be read ({reason})") from error


def write_picture(path: Path, image: Image.Image, format: str) -> None:
    """Write an image of mode L or RGB."""
    with replacing(path) as file:
        image.save(file, format=format, **OPTIONS.get(format, {}))


def _check_header(image: Image.Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise DataError(f"is enormous, {image.width}x{image.height}; at most {MOST_PIXELS:,} pixels can be read")
    # an MPO, as phones write it, is a JPEG followed by previews, not an animation
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise DataError(f"holds {frames} frames; give them as single images")
    if image.mode == "F" or (image.mode == "I" and not _sixteen_bits(image)):
        raise DataError("has 32 bits a pixel, of unknown range; give 8 or 16")


def _decode(image: Image.Image, mode: str) -> Picture:
    kind, notes = _kind(image), []
    format = "JPEG" if image.format == "MPO" else str(image.format)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip everything above 255
        image = picture((np.array(image) / 257).round().astype(np.uint8))
    if "alpha" in kind:
        image = image.convert("RGBA")
        if np.array(image.getchannel("A")).min() < 255:
            notes.append("transparency laid on white")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if kind != KINDS[mode]:
        notes.append(f"{kind} converted to 8-bit {KINDS[mode]}")
    return Picture(image.convert(mode), format, notes)


def _kind(image: Image.Image) -> str:
    """What the header says of the pixels, in words: `grey` and `colour` are 8-bit."""
    kind = "grey" if image.mode.startswith("I") else KINDS.get(image.mode, image.mode)
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        kind += " with alpha"
    return f"16-bit {kind}" if _sixteen_bits(image) else kind


def _sixteen_bits(image: Image.Image) -> bool:
    """By the header, since Pillow silently decodes only the upper 8 bits of 16-bit colour."""
    return ";16" in image.mode or ";16" in str(getattr(image, "tile", ""))
