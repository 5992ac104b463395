"""Whole chunks of batches, indexed out of one uint8 tensor: no image is ever decoded or collated alone."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dae_lightning.randomness import generator


class EpochOrder:
    """The order of the images in an epoch: a permutation that is a function of (seed, epoch)."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of every epoch, a resumed one's included."""
        self.epoch = epoch

    def permutation(self) -> Tensor:
        """Indices (size,) int64, every one once."""
        return torch.randperm(self.size, generator=generator(self.seed, "order", self.epoch))


class ChunkLoader:
    """Yields (images, indices): uint8 (n, *input_shape) and int64 (n,), n = `batch_size * batches_per_chunk`.

    The last chunk of an epoch is smaller where the images do not fill it. Without a `sampler` the images come in
    their own order. Lightning takes any iterable with a length; it calls `sampler.set_epoch`.
    """

    batch_sampler = None  # Lightning asks for it wherever it finds a `sampler`

    def __init__(
        self, images: Tensor, batch_size: int, batches_per_chunk: int = 1, sampler: EpochOrder | None = None
    ) -> None:
        self.images, self.sampler = images, sampler
        self.batch_size, self.batches_per_chunk = batch_size, batches_per_chunk

    def __len__(self) -> int:
        return math.ceil(len(self.images) / (self.batch_size * self.batches_per_chunk))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.arange(len(self.images)) if self.sampler is None else self.sampler.permutation()
        for indices in order.split(self.batch_size * self.batches_per_chunk):
            yield self.images.index_select(0, indices), indices

    def batches_in(self, chunks: int) -> int:
        """How many batches the first `chunks` chunks of an epoch hold."""
        return min(chunks * self.batches_per_chunk, math.ceil(len(self.images) / self.batch_size))
