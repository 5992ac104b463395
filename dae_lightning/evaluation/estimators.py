"""What one could do without a trained network: estimates of clean images that a denoiser has to beat.

Floors (the input as it is, the mean image), the best linear estimate, and a ceiling: the best estimate there is if the
training images were all that is possible. Each is learned from clean training images for one process of noise.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from dae_lightning.model.metrics import TASKS, ImageQuality
from dae_lightning.model.noise import GaussianNoise, MaskingNoise, Noise, SaltAndPepperNoise

MOST_WEIGHTS = 2**24  # of posterior_mean at a time: 64 MiB, and as much again for their softmax
BLOCK = 4096  # images in double precision at a time
NEGLIGIBLE = 1e-10  # a variance: noise of sigma 1e-5, a four-hundredth of a byte's step

Estimate = Callable[[Tensor], Tensor]  # clean images from noisy ones, both (B, *input_shape) float
Fit = Callable[[Tensor, Noise], Estimate]  # from training images (N, *input_shape) uint8; may raise Unsuited


def score(estimate: Estimate, pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, dict[str, float]]:
    """Scores by task and metric, over batches of (clean, noisy) images."""
    quality = {task: ImageQuality() for task in TASKS}
    for clean, noisy in pairs:
        quality["reconstruction"].update(estimate(clean), clean)
        quality["denoising"].update(estimate(noisy), clean)
    return {task: {name: float(value) for name, value in quality[task].compute().items()} for task in TASKS}


class Unsuited(Exception):
    """A method that means nothing under a corruption process; the text says why."""


@dataclass(frozen=True)
class Fixed:
    """A function with nothing to learn, to be fitted like the others."""

    estimate: Estimate

    def __call__(self, train: Tensor, noise: Noise) -> Estimate:
        return self.estimate


class Told(Fixed):
    """A network that takes sigma, told that of the noise."""

    estimate: Callable[..., Tensor]

    def __call__(self, train: Tensor, noise: Noise) -> Estimate:
        return partial(self.estimate, sigma=noise.levels()[0])


def mean_image(train: Tensor, noise: Noise) -> Estimate:
    """The mean training image, whatever the input."""
    mean = (train.sum(0, dtype=torch.float64) / (255 * len(train))).float()
    return lambda noisy: mean.expand_as(noisy)


@lru_cache(maxsize=1)  # they are the same for every noise
def pixel_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (pixels,) and covariance (pixels, pixels), in double precision, of (N, *input_shape) uint8 as [0, 1]."""
    flat = images.flatten(1)
    mean = flat.sum(0, dtype=torch.float64) / (255 * len(flat))
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for block in flat.split(BLOCK):
        centred = block.double() / 255 - mean
        covariance.addmm_(centred.T, centred, alpha=1 / len(flat))
    return mean, covariance


def linear_model(noise: Noise, mean: Tensor, variance: Tensor) -> tuple[float, float, Tensor]:
    """Gain, offset and the variance of e (pixels,) in noisy = gain clean + offset + e, of images with these moments.

    e has mean 0 and a diagonal covariance, and does not correlate with the clean images. Masking and salt-and-pepper
    keep a pixel x with probability q, else put b there: 0, or a fair coin's 0 or 1. So E[y | x] = q x + (1 - q) E[b],
    and what is left of the variance of y is e's.
    """
    if isinstance(noise, GaussianNoise) and not noise.clip:
        return 1.0, noise.mean, torch.full_like(mean, noise.sigma**2)
    if not isinstance(noise, (MaskingNoise, SaltAndPepperNoise)):
        raise Unsuited(f"is not implemented for {noise}")
    keep = 1 - noise.probability
    offset = 0.0 if isinstance(noise, MaskingNoise) else noise.probability / 2  # (1 - q) E[b], and E[b^2] too
    noisy_variance = keep * (variance + mean**2) + offset - (keep * mean + offset) ** 2
    return keep, offset, noisy_variance - keep**2 * variance


def wiener(train: Tensor, noise: Noise) -> Estimate:
    """The best linear estimate (linear MMSE), clipped to [0, 1].

    With y = gain x + offset + e as in `linear_model`, and D the covariance of e:
    mean + gain C (gain^2 C + D)^-1 (y - gain mean - offset). For Gaussian noise D = sigma^2 I: the Wiener filter, with
    the images' own covariance C in place of a spectrum. (Kay, Fundamentals of Statistical Signal Processing: Estimation
    Theory, 1993, sec. 12.5.)
    """
    mean, covariance = pixel_moments(train)
    gain, offset, variance = linear_model(noise, mean, covariance.diagonal())
    noisy_covariance = gain**2 * covariance
    noisy_covariance.diagonal().add_(variance + NEGLIGIBLE)  # or pixels that never vary, without noise, have no inverse
    weight = torch.cholesky_solve(gain * covariance, torch.linalg.cholesky(noisy_covariance))  # transposed
    bias = (mean - (gain * mean + offset) @ weight).float()
    weight = weight.float()
    return lambda noisy: torch.addmm(bias, noisy.flatten(1), weight).clamp_(0, 1).view_as(noisy)


def posterior_mean(train: Tensor, noise: Noise) -> Estimate:
    """The exact MMSE estimate if the clean image is one of the N training images, each as likely.

    The mean of the training images x with weights exp(-|y - noise mean - x|^2 / 2 sigma^2). A test image is none of
    them, so this is no upper bound, but it knows more of the images than any smooth prior.
    """
    if not isinstance(noise, GaussianNoise) or noise.clip:
        # a pixel that survives tells its exact value, so the posterior is empty unless y is made of an x
        raise Unsuited("is implemented for Gaussian noise only, not clipped")
    images = train.flatten(1).float().div_(255)
    mean = images.mean(0)
    images -= mean  # |y - x|^2 loses fewer digits when it is multiplied out
    variance = max(noise.sigma**2, 1e-12)  # sigma -> 0: the nearest training image
    x_part = torch.linalg.vector_norm(images, dim=1).square().div_(-2 * variance)  # of the exponent

    def of_block(centred: Tensor) -> Tensor:
        # |y|^2 is left out of the exponent, where it is the same for every x
        log_weights = torch.addmm(x_part, centred / variance, images.T)  # (B, N)
        # exp(-70) counts for nothing; smaller weights would be subnormal numbers, with which a product takes far longer
        log_weights.sub_(log_weights.amax(1, keepdim=True)).clamp_(min=-70)
        return torch.softmax(log_weights, 1) @ images + mean

    def estimate(noisy: Tensor) -> Tensor:
        centred = noisy.flatten(1) - mean - noise.mean
        blocks = centred.split(max(1, MOST_WEIGHTS // len(images)))
        return torch.cat([of_block(block) for block in blocks]).view_as(noisy)

    return estimate
