"""A folder of PNG or JPEG images."""

from dataclasses import dataclass
from pathlib import Path

import torch

from dae_lightning.data.pictures import Bytes, pixels, read_picture
from dae_lightning.data.splits import ImageSet, Splits
from dae_lightning.errors import DataError
from dae_lightning.randomness import generator

SUFFIXES = (".png", ".jpg", ".jpeg")
SPLITS = {"training": "train", "testing": "test", "valid": "val", "validation": "val"}  # other people's spellings
SPLITS |= {split: split for split in ("train", "test", "val")}

Entry = tuple[Path, str]  # an image file, and the outermost sub-folder it is in, "" for none


@dataclass(frozen=True)
class ImageFolder:
    """An `ImageSource`: images of one size, all grey, `(N, H, W)`, or all RGB, `(N, 3, H, W)`.

    The splits are `root/train` and `root/test`, and `root/val` if it exists, also called `Training`, `testing`,
    `valid` and so on. Without them a random `test_fraction` of all images below `root` is the test set; each set
    gets at least one image. If every image is in a sub-folder, its label is the index of that folder's name in
    sorted order, as in torchvision's `ImageFolder`; otherwise there are no labels. Hidden files and files with
    other suffixes are ignored. Images are rotated as their EXIF data say, and converted to sRGB if a colour profile
    says that they are not; other conversions are refused.
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
            DataError: no images, train/ without test/ or the reverse, folders that look like other splits, an
                unusable image, or one that differs from the first.
        """
        self.prepare()
        root = Path(self.root)
        folders = self._folders(root)
        splits = {split: find(folder) for split, folder in folders.items()} or self._split(find(root))
        entries = [entry for split in splits.values() for entry in split]
        groups = sorted({group for _, group in entries})
        labels = {} if "" in groups else {group: label for label, group in enumerate(groups)}
        first, _ = min(entries)
        return Splits(**{split: read(entries, first, labels) for split, entries in splits.items()})

    def _folders(self, root: Path) -> dict[str, Path]:
        """The folders of the splits, by split: none, or at least those of `train` and `test`."""
        folders: dict[str, Path] = {}
        for folder in sorted(root.iterdir()):
            split = SPLITS.get(folder.name.lower())
            if split is None or not folder.is_dir():
                continue
            if split in folders:
                raise DataError(f"{root} holds {folders[split].name}/ and {folder.name}/; give one of them")
            folders[split] = folder
        if folders and not {"train", "test"} <= folders.keys():
            names = " and ".join(f"{folder.name}/" for folder in folders.values())
            raise DataError(f"{root} holds {names} alone; give both train/ and test/, or neither")
        return folders

    def _split(self, entries: list[Entry]) -> dict[str, list[Entry]]:
        """Divide all images into training and test images."""
        if len(entries) < 2:
            raise DataError(f"{self.root} holds one image; give at least two, one of them for the test set")
        names = sorted({group for _, group in entries})
        if all(name.lower().startswith(("train", "test", "val")) for name in names):
            found = ", ".join(f"{name}/" for name in names)
            raise DataError(f"{self.root} holds only {found}, which look like splits; name them train/ and test/")
        below = {part.lower() for file, _ in entries for part in file.relative_to(self.root).parts[:-1]}
        if {"train", "test"} <= {SPLITS.get(name) for name in below}:
            raise DataError(f"{self.root} holds train/ and test/ further down; they must lie directly below it")
        tests = min(max(round(self.test_fraction * len(entries)), 1), len(entries) - 1)
        order = torch.randperm(len(entries), generator=generator(self.seed, "image folder"))
        shuffled = [entries[i] for i in order.tolist()]
        return {"train": shuffled[tests:], "test": shuffled[:tests]}


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
