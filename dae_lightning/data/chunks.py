"""Chunks of several batches, indexed out of one uint8 tensor: no image is decoded or collated alone."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dae_lightning.data.patch_set import PatchSet
from dae_lightning.errors import CheckpointError
from dae_lightning.randomness import generator


class ChunkLoader:
    """Yields (images, indices): uint8 (n, *input_shape) and int64 (n,), n = `batch_size * batches_per_chunk`.

    The last chunk of an epoch may be smaller. With a `seed` the order is a permutation, of patches a draw with
    replacement, a function of (seed, epoch), and training that is resumed from the state, the position within an epoch,
    skips the chunks that it has already seen. Lightning accepts any iterable with a length.
    """

    batch_sampler = None  # Lightning reads it from any loader that has a `sampler`

    def __init__(
        self, images: Tensor | PatchSet, batch_size: int, batches_per_chunk: int = 1, seed: int | None = None
    ) -> None:
        self.images, self.batch_size, self.batches_per_chunk = images, batch_size, batches_per_chunk
        self.seed, self.epoch = seed, 0
        self.epoch_size = images.per_epoch if isinstance(images, PatchSet) else len(images)
        self.sampler = None if seed is None else self  # Lightning calls its `set_epoch`
        self.chunk_size = batch_size * batches_per_chunk
        self._position = {"epoch": 0, "chunks": 0, "chunk_size": self.chunk_size}  # `chunks` of the epoch are done

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of every epoch, also of a resumed one."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.epoch_size / self.chunk_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        seen = 0 if self.seed is None else self.seen(self.epoch)
        for number, indices in enumerate(self._order().split(self.chunk_size)[seen:], start=seen + 1):
            self._position = {"epoch": self.epoch, "chunks": number, "chunk_size": self.chunk_size}
            yield self.images.index_select(0, indices), indices

    def _order(self) -> Tensor:
        """The indices of an epoch."""
        if self.seed is None:
            return torch.arange(self.epoch_size)
        random = generator(self.seed, "order", self.epoch)
        if isinstance(self.images, PatchSet):
            return torch.randint(len(self.images), (self.epoch_size,), generator=random)
        return torch.randperm(self.epoch_size, generator=random)

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
        return min(chunks * self.batches_per_chunk, math.ceil(self.epoch_size / self.batch_size))
