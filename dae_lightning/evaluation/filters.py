"""Classical denoisers: what signal processing does with one image and no training (extra [baselines]).

Each has one strength, which `fit` chooses on training images: without that, a comparison says nothing. They
are scikit-image's; colour images are denoised channel by channel.
"""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dae_lightning.data.datamodule import as_float
from dae_lightning.model.metrics import psnr
from dae_lightning.model.noise import GaussianNoise, GaussianRange, Noise, corrupt_each
from dae_lightning.randomness import derive, generator

Planes = NDArray[np.float32]  # (N, H, W): grey images, or the channels of colour images
Denoise = Callable[[Planes, float, float], Planes]  # planes, strength, sigma of the noise

FIT_IMAGES = 64
GRID = (0.25, 0.5, 1.0, 2.0, 4.0)
LONGEST_WALK = 6  # steps of a factor 2 beyond an end of the grid; there the filter is the identity, or flat


@dataclass
class Filter:
    """A classical denoiser; `strength` is known after `fit`."""

    denoise: Denoise
    strength: float = field(default=0.0, init=False)
    sigma: float = field(default=0.0, init=False)  # of the noise, measured, whatever its process
    mean: float = field(default=0.0, init=False)  # of Gaussian noise: known, so it is subtracted

    def fit(self, train: Tensor, noise: Noise) -> None:
        """Choose the strength of highest PSNR on 64 training images (N, H, W) or (N, C, H, W) uint8, by seed.

        The grid is 1/4, 1/2, 1, 2, 4. While the best lies at an end, it is extended by factors of 2 (6 at most);
        then the two half steps beside the best are tried.
        """
        indices = torch.randperm(len(train), generator=generator(0, "filters"))[:FIT_IMAGES]
        clean = as_float(train[indices])
        noisy = corrupt_each(noise, clean, derive(0, "filters"), indices)
        self.mean = noise.mean if isinstance(noise, (GaussianNoise, GaussianRange)) else 0.0
        self.sigma = max(float((noisy - self.mean - clean).square().mean().sqrt()), 1e-4)
        scores: dict[float, float] = {}

        def score(strength: float) -> float:
            self.strength = strength
            scores[strength] = float(psnr(self(noisy), clean).mean())
            return scores[strength]

        for strength in GRID:
            score(strength)
        for _ in range(LONGEST_WALK):
            best = max(scores, key=scores.__getitem__)
            if best not in (min(scores), max(scores)):
                break
            score(best * 2 if best == max(scores) else best / 2)
        best = max(scores, key=scores.__getitem__)
        for factor in (2**-0.5, 2**0.5):
            score(best * factor)
        self.strength = max(scores, key=scores.__getitem__)

    def __call__(self, noisy: Tensor) -> Tensor:
        """Estimates in [0, 1] of the clean images; `noisy` is (B, H, W) or (B, C, H, W)."""
        planes = (noisy.cpu().float() - self.mean).reshape(-1, *noisy.shape[-2:])
        estimate = torch.from_numpy(np.ascontiguousarray(self.denoise(planes.numpy(), self.strength, self.sigma)))
        return estimate.to(noisy).clamp(0, 1).reshape(noisy.shape)


def total_variation(planes: Planes, strength: float, sigma: float) -> Planes:
    """Chambolle 2004; strength: the weight of the variation, in units of sigma."""
    from skimage.restoration import denoise_tv_chambolle

    return _each(partial(denoise_tv_chambolle, weight=strength * sigma), planes)


def nl_means(planes: Planes, strength: float, sigma: float) -> Planes:
    """Buades et al. 2005, patches of 5x5 within 6 pixels; strength: the filter's h, in units of sigma."""
    from skimage.restoration import denoise_nl_means

    options = {"patch_size": 5, "patch_distance": 6, "h": strength * sigma, "sigma": sigma}
    return _each(partial(denoise_nl_means, **options), planes)


def wavelet(planes: Planes, strength: float, sigma: float) -> Planes:
    """Soft thresholds; strength: in units of a quarter of the universal one, sigma sqrt(2 log n).

    Donoho and Johnstone 1994. Symlets of length 8 at every scale; scikit-image's own choice for small images,
    the finest scale alone, leaves most of the noise.
    """
    from skimage.restoration import denoise_wavelet

    levels = max(1, min(planes.shape[1:]).bit_length() - 1)
    options = {"wavelet": "sym4", "wavelet_levels": levels, "method": "VisuShrink"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*boundary effects")  # of the coarse scales: better than their noise
        return _each(partial(denoise_wavelet, sigma=strength * sigma / 4, **options), planes)


def median(planes: Planes, strength: float, sigma: float) -> Planes:
    """Strength: the window's radius in pixels, rounded; no window is larger than an image."""
    from skimage.filters import median as median_filter

    radius = min(round(strength), min(planes.shape[1:]) // 2)
    result: Planes = median_filter(planes, np.ones((1, 2 * radius + 1, 2 * radius + 1)))
    return result


def gaussian_blur(planes: Planes, strength: float, sigma: float) -> Planes:
    """Strength: the kernel's standard deviation in pixels."""
    from skimage.filters import gaussian

    result: Planes = gaussian(planes, (0, strength, strength))
    return result


def _each(function: Callable[[Any], Any], planes: Planes) -> Planes:
    """`function` of every plane, in threads: the compiled ones let go of the interpreter."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return np.stack(list(pool.map(function, planes))).astype(np.float32)


FILTERS: dict[str, Denoise] = {
    denoise.__name__: denoise for denoise in (total_variation, nl_means, wavelet, median, gaussian_blur)
}
