"""Decoding and writing image files, for training and for inference. Free of torch."""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageCms, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from dae_lightning.data import tiff
from dae_lightning.errors import DataError
from dae_lightning.files import replacing

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}
FORMATS |= {".tif": "TIFF", ".tiff": "TIFF"}
# almost lossless
OPTIONS: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}
MOST_PIXELS = 2**26  # more than cameras take; a damaged header may declare any size, and Pillow allocates that much
OPAQUE = {"LA": "L", "1": "L", "RGBA": "RGB", "P": "RGB", "PA": "RGB", "YCbCr": "RGB"}  # a mode without its alpha
KINDS = {"L": "grey", "LA": "grey", "RGB": "colour", "RGBA": "colour", "1": "1-bit", "P": "palette", "PA": "palette"}

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
    with opened(path) as (_, image):
        if mode is None and kind_of(image) not in ("grey", "colour"):
            raise DataError(f"is {kind_of(image)}; give 8-bit grey or RGB without palette or alpha")
        return decoded(image, mode or image.mode)


def write_picture(path: Path, image: Image.Image, format: str) -> None:
    """Write an image of mode L or RGB."""
    with replacing(path) as file:
        image.save(file, format=format, **OPTIONS.get(format, {}))


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], Image.Image]]:
    """A file and the image in it, of which only the header has been read, and checked; errors become DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whatever Pillow warns of is refused or noted here
            # opened as a file, not by name: Pillow 13 would map a rotated uncompressed TIFF into the wrong shape
            with path.open("rb") as file, open_image(file) as image:
                _check_header(image)
                yield file, image
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(f"is enormous; at most {MOST_PIXELS:,} pixels can be read") from None
    except Exception as error:  # damaged files make Pillow raise errors of many types
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise DataError(f"cannot be read ({reason})") from error


def open_image(file: IO[bytes]) -> Image.Image:
    """The image in a file, from its beginning, of which only the header is read."""
    file.seek(0)
    try:
        return Image.open(file, formats=sorted(set(FORMATS.values())))
    except UnidentifiedImageError:
        empty = file.seek(0, os.SEEK_END) == 0
        reason = "is empty" if empty else tiff.unidentified(file) or "holds no PNG, JPEG, WebP, BMP or TIFF image"
        raise DataError(reason) from None


def _check_header(image: Image.Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise DataError(f"is enormous, {image.width}x{image.height}; at most {MOST_PIXELS:,} pixels can be read")
    if isinstance(image, TiffImageFile):
        tiff.check(image)
    # an MPO, as phones write it, is a JPEG followed by previews, not an animation
    elif image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise DataError(f"holds {frames} frames; give them as single images")


def decoded(image: Image.Image, mode: str) -> Picture:
    """The pixels, in 8 bits, of an image of which only the header has been read."""
    kind = kind_of(image)
    notes: list[str] = []
    format = "JPEG" if image.format == "MPO" else str(image.format)
    inverted = isinstance(image, TiffImageFile) and tiff.white_is_zero(image)
    highest = 2 ** bits_of(image) - 1
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("La", "RGBa"):  # multiplied by alpha
        image = image.convert(image.mode.upper())
    alpha = _alpha(image, highest) if "alpha" in kind else None
    if image.mode.startswith("I"):  # more than 8 bits; Pillow's own conversion would clip everything above 255
        image = picture((grey_values(image, highest, inverted) * 255).round().astype(np.uint8))
    image = _in_srgb(image, profile, notes)
    if alpha and alpha.getextrema() == (0, 0):  # left by programs that write 32 bits a pixel and mean 24
        notes.append("transparency ignored, since nothing would be visible")
    elif alpha and alpha.getextrema() != (255, 255):
        notes.append("transparency laid on white")
        image = Image.composite(image.convert("RGB"), Image.new("RGB", image.size, "white"), alpha)
    if kind != KINDS[mode]:
        notes.append(f"{kind} converted to 8-bit {KINDS[mode]}")
    return Picture(image.convert(mode), format, notes)


def grey_values(image: Image.Image, highest: int, inverted: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The values of more than 8 bits, from 0 to 1."""
    values = np.array(image) / highest
    return 1 - values if inverted else values


def _alpha(image: Image.Image, highest: int) -> Image.Image:
    """How opaque each pixel is, 0 to 255, by an alpha channel or a transparent colour.

    A PNG names its transparent colour in its own depth, up to `highest`, which Pillow takes for one of 8 bits.
    """
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):
        return picture(np.where(np.array(image) == transparent, 0, 255).astype(np.uint8))
    if image.mode == "L" and isinstance(transparent, int):
        image.info["transparency"] = transparent * 255 // highest
    elif image.mode == "RGB" and isinstance(transparent, tuple) and highest > 255:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    return image.convert("RGBA").getchannel("A")


def _in_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """The image without its alpha, of mode L, RGB or CMYK, and with sRGB's colours if `profile` means others."""
    image = image.convert(OPAQUE.get(image.mode, image.mode))
    if profile is None and image.mode != "LAB":
        return image
    try:
        transform = _to_srgb(profile, image.mode)
        converted = transform.apply(image.convert(transform.input_mode))
    except ImageCms.PyCMSError:  # damaged, or for pixels of another kind
        notes.append("colour profile ignored, since it does not fit")
        return image
    if image.mode == "LAB":
        return converted
    changes = np.array(ImageChops.difference(converted, image.convert("RGB")))
    if image.mode != "CMYK" and changes.max() <= 2:  # the profile is sRGB, by whatever name
        return image
    notes.append("colour profile converted to sRGB")
    return converted


@lru_cache(maxsize=8)  # the pictures of a folder share few profiles
def _to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform:
    """What turns pixels of a profile, or LAB pixels, into RGB; grey ones may have a profile of RGB."""
    if profile is None or mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    else:
        source = ImageCms.getOpenProfile(BytesIO(profile))
    if mode == "L" and source.profile.xcolor_space.strip() == "RGB":
        mode = "RGB"
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


def kind_of(image: Image.Image) -> str:
    """What the header says of the pixels, in words: `grey` and `colour` are 8-bit."""
    kind = "grey" if image.mode.startswith("I") else KINDS.get(image.mode.upper(), image.mode)
    if image.mode.upper() in ("LA", "PA", "RGBA") or "transparency" in image.info:
        kind += " with alpha"
    return f"{bits_of(image)}-bit {kind}" if bits_of(image) > 8 else kind


def bits_of(image: Image.Image) -> int:
    """Bits a sample, by how they are packed, since Pillow silently decodes only the upper 8 bits of 16-bit colour."""
    packed = re.search(r"(?<!BGR);(\d+)", str(getattr(image, "tile", "")))  # BGR;15 is a whole pixel's
    return int(packed[1]) if packed else 8
