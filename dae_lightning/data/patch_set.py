"""All patches of pictures of any sizes, by index: what a training draws from."""

import math

import torch
from torch import Tensor

ON_GRID = 10_000  # patches, about, at most


class PatchSet:
    """Every patch (size, size) of grey pictures, in each of its eight symmetries, as a tensor (N, size, size) has them.

    A patch may lie at P places: row by row in a picture, one picture after the other. Index i is the patch at place
    i % P, with its rows reversed, its columns reversed, and transposed as the three bits of i // P say.

    Args:
        pixels: (all,) uint8, the pictures one after the other, each row by row.
        table: (K, 3) int64, of each of K pictures where in `pixels` it begins, its height and its width.
        size: of a patch, at most the height and width of each picture.
        per_epoch: how many patches an epoch of training draws.
    """

    def __init__(self, pixels: Tensor, table: Tensor, size: int, per_epoch: int) -> None:
        self.pixels, self.table, self.size, self.per_epoch = pixels, table, size, per_epoch
        self.begins, height, self.width = table.unbind(1)
        self.rows, self.columns = height - size + 1, self.width - size + 1  # of places
        self.ends = (self.rows * self.columns).cumsum(0)  # the places up to each picture's last
        self.places = int((self.rows * self.columns).sum())
        self._runs = pixels.unfold(0, size, 1)  # (all - size + 1, size), a view: the pixels from each on

    def __len__(self) -> int:
        return 8 * self.places

    def index_select(self, dim: int, indices: Tensor) -> Tensor:
        """The patches of these indices (B,): (B, size, size) uint8. `dim` is 0, as for a tensor of images."""
        place, symmetry = indices % self.places, indices // self.places
        picture = torch.searchsorted(self.ends, place, right=True)
        width, columns = self.width[picture], self.columns[picture]
        place = place - (self.ends - self.rows * self.columns)[picture]  # within the picture
        corner = self.begins[picture] + place // columns * width + place % columns
        patches = self._runs[corner[:, None] + width[:, None] * torch.arange(self.size)]
        upside_down, mirrored, transposed = ((symmetry >> bit & 1).bool()[:, None, None] for bit in range(3))
        patches = torch.where(upside_down, patches.flip(1), patches)
        patches = torch.where(mirrored, patches.flip(2), patches)
        return torch.where(transposed, patches.mT, patches)

    def grid(self) -> Tensor:
        """Patches (N, size, size) as they are, side by side, or further apart where these are more than ON_GRID."""
        step = max(self.size, math.isqrt(self.places // ON_GRID))
        found = [torch.arange(0)]
        for end, rows, columns in zip(self.ends.tolist(), self.rows.tolist(), self.columns.tolist(), strict=True):
            corners = torch.arange(0, rows, step)[:, None] * columns + torch.arange(0, columns, step)
            found.append(end - rows * columns + corners.flatten())
        return self.index_select(0, torch.cat(found))

    def take(self, which: Tensor | slice) -> "PatchSet":
        """The patches of these pictures."""
        return PatchSet(self.pixels, self.table[which], self.size, self.per_epoch)

    def joined(self, other: "PatchSet") -> "PatchSet":
        """The patches of these pictures and of others in the same `pixels`."""
        return PatchSet(self.pixels, torch.cat((self.table, other.table)), self.size, self.per_epoch)
