"""The interface of an image source: it returns whole splits as uint8 tensors."""

from typing import NamedTuple, Protocol

from torch import Tensor


class ImageSet(NamedTuple):
    """One split."""

    images: Tensor  # (N, *input_shape) uint8: (N, H, W) grey, (N, 3, H, W) RGB
    labels: Tensor | None  # (N,) int64, None if the source has no labels


class Splits(NamedTuple):
    """Training and test images; test images are used neither for training nor for choosing a model."""

    train: ImageSet
    test: ImageSet


class ImageSource(Protocol):
    """A source of images."""

    def prepare(self) -> None:
        """Download what `load` needs, once per machine.

        Raises:
            DataError: files are missing and cannot be downloaded.
        """

    def load(self) -> Splits:
        """Read and verify both splits.

        Raises:
            DataError: a file is missing, damaged, or does not match the others.
        """
