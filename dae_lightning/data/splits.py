"""The interface of an image source: it returns whole splits as uint8 tensors."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dae_lightning.data.patch_set import PatchSet


class ImageSet(NamedTuple):
    """One split."""

    images: Tensor  # (N, *input_shape) uint8: (N, H, W) grey, (N, 3, H, W) RGB
    labels: Tensor | None  # (N,) int64, None if the source has no labels
    patches: PatchSet | None = None  # training draws from them, and not from `images`, which are some of them

    @classmethod
    def of_patches(cls, patches: PatchSet) -> "ImageSet":
        return cls(patches.grid(), None, patches)

    @property
    def size(self) -> int:
        """How many there are to divide: images, or the pictures that patches are of."""
        return len(self.images) if self.patches is None else len(self.patches.table)

    def take(self, which: Tensor | slice) -> "ImageSet":
        """The images at these indices, in that order, or the patches of these pictures."""
        if self.patches is not None:
            return ImageSet.of_patches(self.patches.take(which))
        return ImageSet(self.images[which], None if self.labels is None else self.labels[which])


class Splits(NamedTuple):
    """Training and test images; test images are used neither for training nor for choosing a model."""

    train: ImageSet
    test: ImageSet
    val: ImageSet | None = None  # for choosing a model, if the source has such a split of its own

    def for_training(self) -> ImageSet:
        """All images but those of the test."""
        if self.val is None:
            return self.train
        if self.train.patches is not None and self.val.patches is not None:
            return ImageSet.of_patches(self.train.patches.joined(self.val.patches))
        images = torch.cat((self.train.images, self.val.images))
        if self.train.labels is None or self.val.labels is None:
            return ImageSet(images, None)
        return ImageSet(images, torch.cat((self.train.labels, self.val.labels)))


class ImageSource(Protocol):
    """A source of images."""

    def prepare(self) -> None:
        """Download what `load` needs, once per machine.

        Raises:
            DataError: files are missing and cannot be downloaded.
        """

    def load(self) -> Splits:
        """Read and verify the splits.

        Raises:
            DataError: a file is missing, damaged, or does not match the others.
        """
