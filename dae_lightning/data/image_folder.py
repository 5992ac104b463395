"""A folder of PNG or JPEG images."""

from dataclasses import dataclass
from pathlib import Path

import torch

from dae_lightning.data.folder_splits import Entry, check_folder, find_splits
from dae_lightning.data.pictures import Bytes, pixels, read_picture
from dae_lightning.data.splits import ImageSet, Splits
from dae_lightning.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class ImageFolder:
    """An `ImageSource`: images of one size, all grey, `(N, H, W)`, or all RGB, `(N, 3, H, W)`.

    The splits are those of `find_splits`. If every image is in a sub-folder, its label is the index of that folder's
    name in sorted order, as in torchvision's `ImageFolder`; otherwise there are no labels. Hidden files and files with
    other suffixes are ignored. Images are rotated as their EXIF data say, and converted to sRGB if a colour profile
    says that they are not; other conversions are refused.
    """

    root: str | Path
    test_fraction: float
    seed: int

    def prepare(self) -> None:
        """Check that the folder exists."""
        check_folder(Path(self.root))

    def load(self) -> Splits:
        """Decode both splits.

        Raises:
            DataError: as of `find_splits`; an unusable image, or one that differs from the first.
        """
        splits = find_splits(Path(self.root), SUFFIXES, self.test_fraction, self.seed)
        entries = [entry for split in splits.values() for entry in split]
        groups = sorted({group for _, group in entries})
        labels = {} if "" in groups else {group: label for label, group in enumerate(groups)}
        first, _ = min(entries)
        return Splits(**{split: read(entries, first, labels) for split, entries in splits.items()})


def read(entries: list[Entry], first: Path, labels: dict[str, int]) -> ImageSet:
    """Decode images into one tensor; all must have the kind and size of `first`."""
    wanted = decode(first)
    images = torch.empty(len(entries), *wanted.shape, dtype=torch.uint8)
    for target, (file, _) in zip(images, entries, strict=True):
        image = decode(file)
        if image.shape != wanted.shape:
            kinds = f"{file} is {describe(image)}; {first} is {describe(wanted)}"
            raise DataError(f"{kinds}; give images of one kind and size")
        target.copy_(torch.from_numpy(image))
    return ImageSet(images, torch.tensor([labels[group] for _, group in entries]) if labels else None)


def decode(file: Path) -> Bytes:
    """The pixels of one file, (H, W) grey or (3, H, W) RGB."""
    try:
        return pixels(read_picture(file).image)
    except DataError as error:
        raise DataError(f"{file} {error}") from error


def describe(image: Bytes) -> str:
    """Size and kind of an image: `28x28 pixels, grey`."""
    return f"{image.shape[-1]}x{image.shape[-2]} pixels, {'grey' if image.ndim == 2 else 'RGB'}"
