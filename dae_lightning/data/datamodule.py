"""The LightningDataModule: one uint8 tensor per split, of which chunks are sent to the model."""

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from dae_lightning.data.chunks import ChunkLoader
from dae_lightning.data.splits import ImageSource
from dae_lightning.errors import ConfigError
from dae_lightning.randomness import generator
from dae_lightning.schema import Count, Seed, Size, check

EVAL_BATCH = 250  # images; enough to be fast, few enough for the CPU's caches; it does not affect the results


class ImageDataModule(LightningDataModule):
    """Images of one source for training, validation and test.

    Args:
        source: where the images come from.
        batch_size: images per optimiser step.
        steps_per_execution: optimiser steps, and so batches, per Lightning step; the name is from Keras. It counts for
            `ManySteps` only: another module gets batches alone.
        val_size: training images, or pictures of patches, held out for validation; by default the source's own
            validation images if it has any, otherwise a twelfth.
        seed: determines the order of the training images in every epoch.
        split_seed: determines which training images are held out.

    Raises:
        ConfigError: an argument is out of range; in `setup`, `val_size` leaves no training image.
    """

    def __init__(
        self,
        source: ImageSource,
        batch_size: int,
        steps_per_execution: int = 1,
        val_size: int | None = None,
        seed: int = 0,
        split_seed: int = 0,
    ) -> None:
        super().__init__()
        self.source = source
        self.batch_size: int = check(Count, batch_size, "batch_size")
        self.steps_per_execution: int = check(Count, steps_per_execution, "steps_per_execution")
        self.val_size: int | None = check(Size | None, val_size, "val_size")
        self.seed: int = check(Seed, seed, "seed")
        self.split_seed: int = check(Seed, split_seed, "split_seed")
        self._position: dict[str, int] | None = None

    def prepare_data(self) -> None:
        self.source.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Read the images, once, and hold out `val_size` of the training images."""
        if hasattr(self, "test"):
            return
        splits = self.source.load()
        train, self.test = splits.for_training(), splits.test
        if splits.val is not None and self.val_size is None:
            self.train, self.val = splits.train, splits.val
            return
        val_size = train.size // 12 if self.val_size is None else self.val_size
        if val_size >= train.size:
            raise ConfigError(f"data.val_size={val_size}: must be less than the {train.size} training images")
        order = torch.randperm(train.size, generator=generator(self.split_seed, "split"))
        self.train, self.val = train.take(order[val_size:]), train.take(order[:val_size])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one image; known after `setup`."""
        return tuple(self.test.images.shape[1:])

    def train_dataloader(self) -> ChunkLoader:
        steps = self.steps_per_execution if self._takes_chunks() else 1
        self._train_loader = ChunkLoader(self.train.patches or self.train.images, self.batch_size, steps, self.seed)
        if self._position is not None:
            self._train_loader.load_state_dict(self._position)
            self._position = None  # only the first fit resumes there
        return self._train_loader

    def state_dict(self) -> dict[str, Any]:
        """The loader's position, since Lightning loses that of loaders created before the optimisers (#20550)."""
        return {"position": self._train_loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._position = state_dict["position"]

    def val_dataloader(self) -> ChunkLoader | list[Any]:
        return ChunkLoader(self.val.images, EVAL_BATCH) if len(self.val.images) else []

    def test_dataloader(self) -> ChunkLoader:
        return ChunkLoader(self.test.images, EVAL_BATCH)

    def predict_dataloader(self) -> ChunkLoader:
        """The test images, clean."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """(images, indices) with floats; to `ManySteps` in training, the chunk's batches, as bytes."""
        images, indices = batch
        if self.trainer is None:
            return as_float(images), indices
        if self.trainer.training and self._takes_chunks():
            return images.split(self.batch_size)  # a whole chunk of floats would not fit the caches
        return as_float(images).to(self.trainer.lightning_module.dtype), indices  # precision=64-true, bf16-true

    def _takes_chunks(self) -> bool:
        return self.trainer is None or getattr(self.trainer.lightning_module, "takes_chunks", False)


def as_float(images: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1]; floats unchanged."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images  # in place, which is faster
