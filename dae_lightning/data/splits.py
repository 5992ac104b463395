"""What every source of images gives: whole splits as uint8 tensors."""

from typing import NamedTuple, Protocol

from torch import Tensor


class ImageSet(NamedTuple):
    """One split."""

    images: Tensor  # (N, *input_shape) uint8: (N, H, W) grey, (N, 3, H, W) RGB
    labels: Tensor | None  # (N,) int64, None where the source has none


class Splits(NamedTuple):
    """A data set as its makers split it; the test images never train and choose nothing."""

    train: ImageSet
    test: ImageSet


class ImageSource(Protocol):
    """Where images come from."""

    def prepare(self) -> None:
        """Fetch what `load` needs, once per machine.

        Raises:
            DataError: the files are absent and cannot be fetched.
        """

    def load(self) -> Splits:
        """Read and verify both splits.

        Raises:
            DataError: a file is absent, damaged, or does not belong with the others.
        """
