"""A folder of PNG or JPEG images."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from PIL.ImageFile import ImageFile

from dae_lightning.data.splits import ImageSet, Splits
from dae_lightning.errors import DataError
from dae_lightning.randomness import generator

SUFFIXES = (".png", ".jpg", ".jpeg")
LONGEST = 4096  # pixels per side; a damaged header could otherwise make us allocate any amount of memory


class Entry(NamedTuple):
    file: Path
    group: str  # the outermost sub-folder it is in, "" for none


@dataclass(frozen=True)
class ImageFolder:
    """An `ImageSource`: images of one size, all grey, `(N, H, W)`, or all RGB, `(N, 3, H, W)`.

    The splits are `root/train` and `root/test` if they exist. Otherwise a random `test_fraction` of all images
    below `root` is the test set; each set gets at least one image. If every image is in a sub-folder, its label
    is the index of that folder's name in sorted order, as in torchvision's `ImageFolder`; otherwise there are no
    labels. Hidden files and files with other suffixes are ignored.
    """

    root: str | Path
    test_fraction: float
    seed: int

    def prepare(self) -> None:
        """Check that the folder exists."""
        if not Path(self.root).is_dir():
            raise DataError(f"root: {self.root} is not a folder; give one that holds PNG or JPEG images")

    def load(self) -> Splits:
        """Decode both splits.

        Raises:
            DataError: no images, only one of train/ and test/, an unusable image, or one that differs from the first.
        """
        self.prepare()
        root = Path(self.root)
        present = [folder for folder in (root / "train", root / "test") if folder.is_dir()]
        if len(present) == 1:
            raise DataError(f"{root} holds {present[0].name}/ alone; give both train/ and test/, or neither")
        train, test = map(find, present) if present else self.split(find(root))
        groups = sorted({entry.group for entry in train + test})
        labels = {} if "" in groups else {group: label for label, group in enumerate(groups)}
        first = min(train + test).file
        return Splits(read(train, first, labels), read(test, first, labels))

    def split(self, entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
        """Divide all images into training and test images."""
        if len(entries) < 2:
            raise DataError(f"{self.root} holds one image; training and test set need at least one each")
        tests = min(max(round(self.test_fraction * len(entries)), 1), len(entries) - 1)
        order = torch.randperm(len(entries), generator=generator(self.seed, "image folder"))
        shuffled = [entries[i] for i in order.tolist()]
        return shuffled[tests:], shuffled[:tests]


def find(folder: Path) -> list[Entry]:
    """All images below a folder, sorted by path."""
    entries = []
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if file.suffix.lower() in SUFFIXES and not hidden and not file.is_dir():
            entries.append(Entry(file, group=parts[0] if len(parts) > 1 else ""))
    if not entries:
        raise DataError(f"{folder} holds no images; their names should end in {', '.join(SUFFIXES)}")
    return entries


def read(entries: list[Entry], first: Path, labels: dict[str, int]) -> ImageSet:
    """Decode images into one tensor; all must have the kind and size of `first`."""
    with opened(first) as image:
        wanted, size = describe(image), (image.height, image.width)
    grey = wanted.endswith("grey")
    images = torch.empty(len(entries), *(size if grey else (3, *size)), dtype=torch.uint8)
    for target, (file, _) in zip(images, entries, strict=True):
        with opened(file) as image:
            if describe(image) != wanted:
                came, right = describe(image), "give images of one kind and size"
                raise DataError(f"{file} is {came}; {first} is {wanted}; {right}")
            pixels = torch.from_numpy(np.array(image))
        target.copy_(pixels if grey else pixels.permute(2, 0, 1))
    return ImageSet(images, torch.tensor([labels[entry.group] for entry in entries]) if labels else None)


@contextmanager
def opened(file: Path) -> Iterator[ImageFile]:
    """Open an image and check by its header that it is 8-bit grey or RGB and not too large; decode nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # LONGEST is stricter
            with Image.open(file, formats=["PNG", "JPEG"]) as image:
                came = describe(image)
                if not came.endswith(("grey", "RGB")):
                    raise DataError(f"{file} is {came}; give 8-bit grey or RGB without palette or alpha")
                if max(image.size) > LONGEST:
                    raise DataError(f"{file} is {came}; give at most {LONGEST}x{LONGEST} pixels")
                yield image
    except DataError:
        raise
    except Exception as error:  # Pillow raises many types of errors for damaged files
        right = f"give whole PNG or JPEG files of at most {LONGEST}x{LONGEST} pixels"
        raise DataError(f"{file} cannot be read ({error}); {right}") from error


def describe(image: ImageFile) -> str:
    """Size and kind of an image according to its header: `28x28 pixels, grey`."""
    kind = {"L": "grey", "RGB": "RGB", "1": "1-bit", "P": "palette"}.get(image.mode, image.mode)
    if "transparency" in image.info or image.mode in ("LA", "RGBA"):
        kind = "with alpha"
    if ";16" in str(image.tile):  # Pillow silently reduces 16-bit RGB to 8 bits
        kind = "16-bit"
    return f"{image.width}x{image.height} pixels, {kind}"
