"""Chunks of several batches, indexed out of one uint8 tensor: no image is decoded or collated alone."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dae_lightning.errors import CheckpointError
from dae_lightning.randomness import generator


class EpochOrder:
    """The order of the images in an epoch: a permutation, a function of (seed, epoch)."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of every epoch, also of a resumed one."""
        self.epoch = epoch

    def permutation(self) -> Tensor:
        """Indices (size,) int64, each once."""
        return torch.randperm(self.size, generator=generator(self.seed, "order", self.epoch))


class ChunkLoader:
    """Yields (images, indices): uint8 (n, *input_shape) and int64 (n,), n = `batch_size * batches_per_chunk`.

    The last chunk of an epoch may be smaller. Without a `sampler` the images come in their own order. Lightning
    accepts any iterable with a length, and calls `sampler.set_epoch`. The state is the position within an epoch:
    training that is resumed there skips the chunks that it has already seen.
    """

    batch_sampler = None  # Lightning reads it from any loader that has a `sampler`

    def __init__(
        self, images: Tensor, batch_size: int, batches_per_chunk: int = 1, sampler: EpochOrder | None = None
    ) -> None:
        self.images, self.sampler = images, sampler
        self.batch_size, self.batches_per_chunk = batch_size, batches_per_chunk
        self._position = {"epoch": 0, "chunks": 0, "chunk_size": self.chunk_size}  # `chunks` of the epoch are done

    @property
    def chunk_size(self) -> int:
        """Images in a full chunk."""
        return self.batch_size * self.batches_per_chunk

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.chunk_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order, epoch, seen = torch.arange(len(self.images)), 0, 0
        if self.sampler is not None:
            order, epoch = self.sampler.permutation(), self.sampler.epoch
            seen = self.seen(epoch)
        for number, indices in enumerate(order.split(self.chunk_size)[seen:], start=seen + 1):
            self._position = {"epoch": epoch, "chunks": number, "chunk_size": self.chunk_size}
            yield self.images.index_select(0, indices), indices

    def seen(self, epoch: int) -> int:
        """How many chunks of `epoch` are done: more than 0 only if it was interrupted."""
        if self._position["epoch"] != epoch or self._position["chunks"] == 0:
            return 0
        if self._position["chunk_size"] != self.chunk_size:
            raise CheckpointError(
                f"batch_size * steps_per_execution = {self.chunk_size}: must be {self._position['chunk_size']} until "
                f"the epoch in which the checkpoint was written ends; resume with that"
            )
        return self._position["chunks"]

    def state_dict(self) -> dict[str, int]:
        return self._position

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._position = state

    def batches_in(self, chunks: int) -> int:
        """How many batches the first `chunks` chunks of an epoch hold."""
        return min(chunks * self.batches_per_chunk, math.ceil(len(self.images) / self.batch_size))
