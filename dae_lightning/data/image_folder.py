"""A folder of PNG or JPEG images."""

from dataclasses import dataclass
from pathlib import Path

import torch

from dae_lightning.data.pictures import Bytes, pixels, read_picture
from dae_lightning.data.splits import ImageSet, Splits
from dae_lightning.errors import DataError
from dae_lightning.randomness import generator

SUFFIXES = (".png", ".jpg", ".jpeg")


Entry = tuple[Path, str]  # an image file, and the outermost sub-folder it is in, "" for none


@dataclass(frozen=True)
class ImageFolder:
    """An `ImageSource`: images of one size, all grey, `(N, H, W)`, or all RGB, `(N, 3, H, W)`.

    The splits are `root/train` and `root/test` if they exist. Otherwise a random `test_fraction` of all images
    below `root` is the test set; each set gets at least one image. If every image is in a sub-folder, its label
    is the index of that folder's name in sorted order, as in torchvision's `ImageFolder`; otherwise there are no
    labels. Hidden files and files with other suffixes are ignored. Images are rotated as their EXIF data say;
    other conversions are refused.
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
        train, test = map(find, present) if present else self._split(find(root))
        groups = sorted({group for _, group in train + test})
        labels = {} if "" in groups else {group: label for label, group in enumerate(groups)}
        first, _ = min(train + test)
        return Splits(read(train, first, labels), read(test, first, labels))

    def _split(self, entries: list[Entry]) -> tuple[list[Entry], list[Entry]]:
        """Divide all images into training and test images."""
        if len(entries) < 2:
            raise DataError(f"{self.root} holds one image; give at least two, one of them for the test set")
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
            entries.append((file, parts[0] if len(parts) > 1 else ""))
    if not entries:
        raise DataError(f"{folder} holds no images; their names should end in {', '.join(SUFFIXES)}")
    return entries


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
