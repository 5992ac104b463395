"""The photographs that models of patches are evaluated on, and those that they were trained on."""

from pathlib import Path

import torch
from torch import Tensor

from dae_lightning.data.pictures import FORMATS, pixels, read_picture
from dae_lightning.errors import DataError, printable
from dae_lightning.model.checkpoint import read_checkpoint

CROP, CROPS = 128, 8  # the side and number of what the strength of a filter is chosen on


def training_crops(checkpoint: Path) -> Tensor | None:
    """The middle (N, 128, 128) uint8 of photographs that a model was trained on; None where they are not to be had."""
    data = read_checkpoint(checkpoint).get("data") or {}
    if data.get("kind") != "patches" or not (root := Path(data["root"])).is_dir():
        return None
    files = list(find_photographs(root).values())
    crops = [crop(read_grey(file), CROP) for file in files[:: max(1, len(files) // CROPS)][:CROPS]]
    crops = [one for one in crops if one.shape == (CROP, CROP)]
    return torch.stack(crops) if crops else None


def find_photographs(place: Path) -> dict[str, Path]:
    """The pictures in a folder and its sub-folders, or a single one, by name and in its order; hidden ones are ignored.

    Raises:
        DataError: there is none.
    """
    found = {place.name: place} if place.is_file() else {}
    for file in sorted(place.rglob("*")) if place.is_dir() else ():
        name = file.relative_to(place)
        if file.is_file() and file.suffix.lower() in FORMATS and not any(part.startswith(".") for part in name.parts):
            found[name.as_posix()] = file
    if not found:
        raise DataError(f"images={printable(place)}: holds no PNG, JPEG, WebP, BMP or TIFF images, or is not there")
    return found


def read_grey(file: Path) -> Tensor:
    """The luminance (H, W) uint8 of a picture; raises DataError."""
    try:
        return torch.from_numpy(pixels(read_picture(file, "L").image))
    except DataError as error:
        raise DataError(f"{printable(file)} {error}") from None


def crop(photograph: Tensor, side: int) -> Tensor:
    """The middle (side, side) of a photograph (H, W), or as much of it as there is."""
    height, width = photograph.shape
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return photograph[top : top + side, left : left + side]
