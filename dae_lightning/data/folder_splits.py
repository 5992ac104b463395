"""The image files below a folder, and which of them are for training and which for the test."""

from pathlib import Path

import torch

from dae_lightning.errors import DataError
from dae_lightning.randomness import generator

SPLITS = {"training": "train", "testing": "test", "valid": "val", "validation": "val"}  # other people's spellings
SPLITS |= {split: split for split in ("train", "test", "val")}

Entry = tuple[Path, str]  # an image file, and the outermost sub-folder it is in, "" for none


def check_folder(root: Path) -> None:
    """Raise DataError unless there is such a folder."""
    if not root.is_dir():
        raise DataError(f"root: {root} is not a folder; give one that holds images")


def find_splits(root: Path, suffixes: tuple[str, ...], test_fraction: float, seed: int) -> dict[str, list[Entry]]:
    """The images of each split, `train` and `test` and perhaps `val`.

    They are those in `root/train` and so on, also called `Training`, `testing`, `valid` and the like. Without them a
    random `test_fraction` of all images below `root` is the test set; each set gets at least one image.

    Raises:
        DataError: no images, train/ without test/ or the reverse, or folders that look like other splits.
    """
    check_folder(root)
    folders = {split: find(folder, suffixes) for split, folder in _folders(root).items()}
    return folders or _divide(root, find(root, suffixes), test_fraction, seed)


def find(folder: Path, suffixes: tuple[str, ...]) -> list[Entry]:
    """All images below a folder, sorted by path."""
    entries = []
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if file.suffix.lower() in suffixes and not hidden and not file.is_dir():
            entries.append((file, parts[0] if len(parts) > 1 else ""))
    if not entries:
        raise DataError(f"{folder} holds no images; their names should end in {', '.join(suffixes)}")
    return entries


def _folders(root: Path) -> dict[str, Path]:
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


def _divide(root: Path, entries: list[Entry], test_fraction: float, seed: int) -> dict[str, list[Entry]]:
    """Divide all images into training and test images."""
    if len(entries) < 2:
        raise DataError(f"{root} holds one image; give at least two, one of them for the test set")
    names = sorted({group for _, group in entries})
    if all(name.lower().startswith(("train", "test", "val")) for name in names):
        found = ", ".join(f"{name}/" for name in names)
        raise DataError(f"{root} holds only {found}, which look like splits; name them train/ and test/")
    below = {part.lower() for file, _ in entries for part in file.relative_to(root).parts[:-1]}
    if {"train", "test"} <= {SPLITS.get(name) for name in below}:
        raise DataError(f"{root} holds train/ and test/ further down; they must lie directly below it")
    tests = min(max(round(test_fraction * len(entries)), 1), len(entries) - 1)
    order = torch.randperm(len(entries), generator=generator(seed, "image folder"))
    shuffled = [entries[i] for i in order.tolist()]
    return {"train": shuffled[tests:], "test": shuffled[:tests]}
