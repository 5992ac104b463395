"""First and second moments of images, and of noisy images given the clean ones: all that a linear estimate needs."""

from typing import NamedTuple

import torch
from torch import Tensor

from dae_lightning.model.noise import GaussianNoise, MaskingNoise, Noise, SaltAndPepperNoise

BLOCK = 4096  # images in double precision at a time


def pixel_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (pixels,) and covariance (pixels, pixels), in double precision, of (N, *input_shape) uint8 as [0, 1]."""
    flat = images.flatten(1)
    mean = flat.sum(0, dtype=torch.float64) / (255 * len(flat))
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for block in flat.split(BLOCK):
        centred = block.double() / 255 - mean
        covariance.addmm_(centred.T, centred, alpha=1 / len(flat))
    return mean, covariance


class LinearModel(NamedTuple):
    """noisy = gain clean + offset + e: e has mean 0, a diagonal covariance, no correlation with the clean images."""

    gain: float
    offset: float
    variance: Tensor  # of e, (pixels,) double

    @classmethod
    def of(cls, noise: Noise, mean: Tensor, covariance: Tensor) -> "LinearModel":
        """The model of a process on images with these moments.

        Masking and salt-and-pepper keep a pixel x with probability q, else put b there: 0, or a fair coin's 0 or 1.
        So E[y | x] = q x + (1 - q) E[b], and what is left of the variance of y is e's.
        """
        if isinstance(noise, GaussianNoise):
            return cls(1.0, noise.mean, torch.full_like(mean, noise.sigma**2))
        if not isinstance(noise, (MaskingNoise, SaltAndPepperNoise)):
            raise TypeError(f"{noise}: no linear model of this process")
        hit = noise.probability
        replacement = 0.0 if isinstance(noise, MaskingNoise) else 0.5  # E[b], and E[b^2] too: b is 0 or 1
        keep, variance = 1 - hit, covariance.diagonal()
        offset = hit * replacement
        noisy_variance = keep * (variance + mean**2) + offset - (keep * mean + offset) ** 2
        return cls(keep, offset, noisy_variance - keep**2 * variance)
