"""Corruption processes of a denoising autoencoder; they act in training mode only.

Source: Vincent et al., Stacked Denoising Autoencoders, JMLR 11 (2010), section 3.3 "Types of Corruption Considered".
"""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from dae_lightning import kinds  # noqa: F401  # declares the kinds
from dae_lightning.model.parts import Part
from dae_lightning.randomness import generator as generator_of
from dae_lightning.schema import register


class Noise(Part):
    """A corruption process. `noise(clean)` corrupts in training mode, and is the identity in evaluation and in exports.

    One of your own has a `kind`, hands its parameters to `super().__init__`, and overrides `corrupt`.
    """

    group = "noise"
    level: ClassVar[str | None] = None  # the parameter that says how strong the noise is
    tells_sigma: ClassVar[bool] = False  # whether it is Gaussian, of a sigma that a network can be told
    in_range: bool = False  # whether what it makes of images in [0, 1] lies there too

    def corrupt(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """`clean` (B, *input_shape) corrupted, in training and evaluation mode alike; same shape and dtype.

        `generator` lies on the device of `clean`; None is torch's global one.
        """
        raise NotImplementedError

    def corrupt_and_tell(self, clean: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """What `corrupt` gives, and each image's sigma (B,), before any clipping; of noise that `tells_sigma`."""
        raise NotImplementedError

    def forward(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        # LightningModule.to_onnx exports a model in the mode in which it is
        return self.corrupt(clean, generator) if self.training and not torch.compiler.is_exporting() else clean

    def title(self) -> str:
        """As in "gaussian noise, mean 0, sigma 2"."""
        kind, *values = (value if name == "kind" else f"{name} {value:g}" for name, value in self.settings().items())
        return ", ".join((f"{kind.replace('_', ' ')} noise", *values))

    def at(self, level: float) -> "Noise":
        """This process at another level; itself, where it has none."""
        if self.level is None:
            return self
        settings = self.settings() | {self.level: level}
        del settings["kind"]
        return type(self)(**settings)

    def levels(self) -> tuple[float, ...]:
        """The level that it has, or the ends of its range; 1 where it has none."""
        return (1.0,) if self.level is None else (float(getattr(self, self.level)),)


class ClippableNoise(Noise):
    """Gaussian noise of any kind; with `clip` as 8-bit pictures hold it: clipped to [0, 1] and rounded to bytes."""

    level = "sigma"
    tells_sigma = True
    mean: float
    clip: bool

    def __init__(self, **parameters: float | None) -> None:
        super().__init__(**parameters)
        self.in_range = self.clip

    def settings(self) -> dict[str, Any]:
        """Without `clip` where it is false, and `median` where there is none: as in checkpoints of earlier versions."""
        return {name: value for name, value in super().settings().items() if value is not False and value is not None}

    def title(self) -> str:
        return super().title().replace("clip 1", "clipped to bytes")

    def stored(self, noisy: Tensor) -> Tensor:
        """`noisy` as the process leaves it."""
        return noisy.clamp(0, 1).mul(255).round().div(255) if self.clip else noisy


@register("noise", "gaussian")
class GaussianNoise(ClippableNoise):
    """clean + N(mean, sigma^2) per pixel, not clipped unless `clip` is true.

    `mean` and `sigma` >= 0, in the order of torch.normal, are in units of the [0, 1] pixel range. The defaults are
    those of the notebook's layer; its experiments use sigma 2 and 6.
    """

    kind = "gaussian"
    sigma: float

    def __init__(self, mean: float = 0.0, sigma: float = 1.0, clip: bool = False) -> None:
        super().__init__(mean=mean, sigma=sigma, clip=clip)

    def corrupt(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.stored(clean + torch.empty_like(clean).normal_(self.mean, self.sigma, generator=generator))

    def corrupt_and_tell(self, clean: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        return self.corrupt(clean, generator), clean.new_full((len(clean),), self.sigma)


@register("noise", "gaussian_range")
class GaussianRange(ClippableNoise):
    """clean + N(mean, sigma^2) per pixel, one sigma per image: the noise of blind denoising.

    sigma is log-uniform on [low, high], 0 < low <= high, so no scale is more likely than another; the model is
    never told which one it sees (as DnCNN-B, Zhang et al. 2017, section III.D). With a `median` it is log-normal around
    that (as in EDM, Karras et al. 2022, section 5), clipped to the range, a quarter of whose width is the standard
    deviation of log sigma. Units and `clip` as above.
    """

    kind = "gaussian_range"
    low: float
    high: float
    median: float | None

    def __init__(self, mean: float, low: float, high: float, clip: bool = False, median: float | None = None) -> None:
        super().__init__(mean=mean, low=low, high=high, median=median, clip=clip)

    def corrupt(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.corrupt_and_tell(clean, generator)[0]

    def corrupt_and_tell(self, clean: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        low, high = math.log(self.low), math.log(self.high)
        log_sigma = clean.new_empty(len(clean), *[1] * (clean.dim() - 1))  # (B, 1, ..., 1)
        if self.median is None:
            log_sigma.uniform_(low, high, generator=generator)
        else:
            log_sigma.normal_(math.log(self.median), (high - low) / 4, generator=generator).clamp_(low, high)
        sigma = log_sigma.exp_()
        noisy = self.stored(clean + self.mean + sigma * torch.empty_like(clean).normal_(generator=generator))
        return noisy, sigma.flatten()

    def at(self, level: float) -> Noise:
        return GaussianNoise(self.mean, level, self.clip)

    def levels(self) -> tuple[float, ...]:
        return self.low, self.high


class PixelNoise(Noise):
    """Noise that replaces each pixel with `probability`, independently of the others."""

    level = "probability"
    in_range = True
    probability: float

    def __init__(self, probability: float) -> None:
        super().__init__(probability=probability)


@register("noise", "masking")
class MaskingNoise(PixelNoise):
    """Pixels are set to 0."""

    kind = "masking"

    def corrupt(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        uniform = torch.empty_like(clean).uniform_(generator=generator)
        return clean.masked_fill(uniform < self.probability, 0.0)


@register("noise", "salt_and_pepper")
class SaltAndPepperNoise(PixelNoise):
    """Pixels are set to 0 or to 1, a fair coin's choice."""

    kind = "salt_and_pepper"

    def corrupt(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        uniform = torch.empty_like(clean).uniform_(generator=generator)
        peppered = clean.masked_fill(uniform < self.probability, 0.0)
        return peppered.masked_fill(uniform < self.probability / 2, 1.0)


def corrupt_each(noise: Noise, clean: Tensor, seed: int, indices: Tensor) -> Tensor:
    """`clean` (N, *input_shape) with one fixed draw per (seed, index): the noise of evaluation.

    Image i is corrupted alike in every batch, subset and order, and on every device (the draw is the CPU's).
    `indices` (N,) are the images' places in their data set.
    """
    images = clean.cpu()
    noisy = [
        noise.corrupt(image[None], generator_of(seed, "evaluation", index))  # a batch of one
        for image, index in zip(images, indices.tolist(), strict=True)
    ]
    return torch.cat(noisy).to(clean.device) if noisy else clean


def sigma_of_each(noise: Noise, clean: Tensor, seed: int, indices: Tensor) -> Tensor:
    """Sigma (N,) of the noise that `corrupt_each` adds to each of `clean`."""
    each = zip(clean.cpu(), indices.tolist(), strict=True)
    sigma = [noise.corrupt_and_tell(image[None], generator_of(seed, "evaluation", index))[1] for image, index in each]
    return torch.cat(sigma).to(clean.device) if sigma else clean.new_empty(0)
