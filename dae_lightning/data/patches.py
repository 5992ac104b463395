"""Patches of photographs: a folder of pictures of any sizes."""

from dataclasses import dataclass
from pathlib import Path

import torch

from dae_lightning.data.folder_splits import Entry, check_folder, find_splits
from dae_lightning.data.patch_set import PatchSet
from dae_lightning.data.pictures import FORMATS, pixels, read_picture
from dae_lightning.data.splits import ImageSet, Splits
from dae_lightning.errors import DataError

MOST_PIXELS = 2**32  # in all pictures together: bytes in memory


@dataclass(frozen=True)
class Patches:
    """An `ImageSource`: patches (patch, patch) of the pictures below a folder, of colour ones of their luminance.

    The splits are those of `find_splits`, of whole pictures. Each picture is decoded once and held as bytes; one that
    is smaller than a patch is left out, with a note.
    """

    root: str | Path
    test_fraction: float
    seed: int
    patch: int
    patches_per_epoch: int

    def prepare(self) -> None:
        """Check that the folder exists."""
        check_folder(Path(self.root))

    def load(self) -> Splits:
        """Decode the pictures.

        Raises:
            DataError: as of `find_splits`; an unusable picture, a split of only small ones, or too many pixels.
        """
        entries = find_splits(Path(self.root), tuple(FORMATS), self.test_fraction, self.seed)
        content, size = bytearray(), f"{self.patch}x{self.patch}"
        tables = {split: self._read(found, content) for split, found in entries.items()}
        if small := sum(map(len, entries.values())) - sum(map(len, tables.values())):
            print(f"note: {small} pictures left out, which are smaller than a patch, {size}")
        if empty := [split for split, table in tables.items() if not table]:
            raise DataError(f"{self.root}: no {empty[0]} picture is as large as a patch, {size}; lower data.patch")
        held = torch.frombuffer(content, dtype=torch.uint8)
        splits = {}
        for split, table in tables.items():
            patches = PatchSet(held, torch.tensor(table), self.patch, self.patches_per_epoch)
            splits[split] = ImageSet.of_patches(patches)
        return Splits(**splits)

    def _read(self, entries: list[Entry], content: bytearray) -> list[tuple[int, int, int]]:
        """Append pictures to `content`; where each begins there, its height and its width."""
        table = []
        for file, _ in entries:
            try:
                grey = pixels(read_picture(file, "L").image)
            except DataError as error:
                raise DataError(f"{file} {error}") from error
            height, width = grey.shape
            if min(height, width) >= self.patch:
                table.append((len(content), height, width))
                content += grey.tobytes()
            if len(content) > MOST_PIXELS:
                raise DataError(f"{self.root}: more than {MOST_PIXELS:,} pixels in all; give fewer or smaller pictures")
        return table
