"""What one could do without a trained network: estimates that a denoiser has to beat."""

import torch
from torch import Tensor


def do_nothing(images: Tensor) -> Tensor:
    """The input as it is."""
    return images


class MeanImage:
    """The mean training image, whatever the input.

    Args:
        images: training images (N, *input_shape) uint8.
    """

    def __init__(self, images: Tensor) -> None:
        self.mean = (images.sum(0, dtype=torch.float64) / (255 * len(images))).float()

    def __call__(self, images: Tensor) -> Tensor:
        return self.mean.expand_as(images)
