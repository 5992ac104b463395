"""What one could do without a trained network: estimates of clean images that a denoiser has to beat.

Floors (the input as it is, the mean image), the best linear estimate, and a ceiling: the best estimate there is if the
training images were all that is possible.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dae_lightning.model.metrics import TASKS, ImageQuality
from dae_lightning.model.noise import GaussianNoise, MaskingNoise, Noise, SaltAndPepperNoise

MOST_WEIGHTS = 2**24  # of posterior_mean at a time: 64 MiB, and as much again for their softmax
BLOCK = 4096  # images in double precision at a time


class Estimator(Protocol):
    """Clean images from noisy ones."""

    def fit(self, train: Tensor, noise: Noise) -> None:
        """Learn from clean training images (N, *input_shape) uint8; `noise` is the process on the test images.

        Raises:
            Unsuited: the method means nothing under this noise.
        """

    def __call__(self, noisy: Tensor) -> Tensor:
        """Estimates of the clean images; both (B, *input_shape) float."""


def score(estimator: Callable[[Tensor], Tensor], pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, dict[str, float]]:
    """The scores of `estimator`, by task and metric, over batches of (clean, noisy) images."""
    quality = {task: ImageQuality() for task in TASKS}
    for clean, noisy in pairs:
        quality["reconstruction"].update(estimator(clean), clean)
        quality["denoising"].update(estimator(noisy), clean)
    return {task: {name: float(value) for name, value in quality[task].compute().items()} for task in TASKS}


class Unsuited(Exception):
    """A method that means nothing under a corruption process; the text says why."""


class Fixed:
    """A function as an estimator: there is nothing to learn."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def fit(self, train: Tensor, noise: Noise) -> None:
        pass

    def __call__(self, noisy: Tensor) -> Tensor:
        return self.function(noisy)


class MeanImage:
    """The mean training image, whatever the input."""

    def fit(self, train: Tensor, noise: Noise) -> None:
        self.mean = (train.sum(0, dtype=torch.float64) / (255 * len(train))).float()

    def __call__(self, noisy: Tensor) -> Tensor:
        return self.mean.expand_as(noisy)


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
            raise Unsuited(f"is not implemented for {noise}")
        hit = noise.probability
        replacement = 0.0 if isinstance(noise, MaskingNoise) else 0.5  # E[b], and E[b^2] too: b is 0 or 1
        keep, variance = 1 - hit, covariance.diagonal()
        offset = hit * replacement
        noisy_variance = keep * (variance + mean**2) + offset - (keep * mean + offset) ** 2
        return cls(keep, offset, noisy_variance - keep**2 * variance)


class Wiener:
    """The best linear estimate (linear MMSE), clipped to [0, 1].

    With y = gain x + offset + e, where e has a diagonal covariance D and no correlation with x, as of every process of
    `noise.py`: mean + gain C (gain^2 C + D)^-1 (y - gain mean - offset). For Gaussian noise gain = 1, offset is the
    noise's mean and D = sigma^2 I: the Wiener filter, with the images' own covariance C in place of a spectrum.
    (Kay, Fundamentals of Statistical Signal Processing: Estimation Theory, 1993, sec. 12.5.)
    """

    def __init__(self) -> None:
        self._train: Tensor | None = None

    def fit(self, train: Tensor, noise: Noise) -> None:
        if self._train is not train:  # the moments are the same for every noise
            self._train, (self._mean, self._covariance) = train, pixel_moments(train)
        mean, covariance = self._mean, self._covariance
        model = LinearModel.of(noise, mean, covariance)
        noisy_covariance = model.gain**2 * covariance + torch.diag(model.variance)
        # the pseudoinverse: pixels that never vary, in images without noise, leave no inverse
        weight = model.gain * covariance @ torch.linalg.pinv(noisy_covariance, hermitian=True)
        self.weight = weight.float()
        self.bias = (mean - weight @ (model.gain * mean + model.offset)).float()

    def __call__(self, noisy: Tensor) -> Tensor:
        estimate = torch.addmm(self.bias, noisy.flatten(1), self.weight.T)
        return estimate.clamp(0, 1).view_as(noisy)


class PosteriorMean:
    """The exact MMSE estimate if the clean image is one of the N training images, each as likely.

    The mean of the training images x with weights exp(-|y - noise mean - x|^2 / 2 sigma^2). A test image is none of
    them, so this is no upper bound, but it knows more of the images than any smooth prior.
    """

    def fit(self, train: Tensor, noise: Noise) -> None:
        if not isinstance(noise, GaussianNoise):
            # a pixel that survives tells its exact value, so the posterior is empty unless y is made of an x
            raise Unsuited("is implemented for Gaussian noise only")
        self.images = train.flatten(1).float().div_(255)
        self.mean = self.images.mean(0)
        self.images -= self.mean  # centred: |y - x|^2 loses fewer digits when it is multiplied out
        self.half_norms = torch.linalg.vector_norm(self.images, dim=1).square() / 2
        self.noise_mean = noise.mean
        self.variance = max(noise.sigma**2, 1e-12)  # sigma -> 0: the nearest training image

    def __call__(self, noisy: Tensor) -> Tensor:
        centred = noisy.flatten(1) - self.mean - self.noise_mean
        blocks = centred.split(max(1, MOST_WEIGHTS // len(self.images)))
        return torch.cat([self._estimate(block) for block in blocks]).view_as(noisy)

    def _estimate(self, centred: Tensor) -> Tensor:
        """Images (B, pixels) of (B, pixels); |y|^2 is left out of the exponent, where it is the same for every x."""
        log_weights = (centred @ self.images.T).sub_(self.half_norms).div_(self.variance)  # (B, N)
        return torch.softmax(log_weights, 1) @ self.images + self.mean
