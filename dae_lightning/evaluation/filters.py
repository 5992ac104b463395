"""Classical denoisers: what signal processing does with one image and no training (extra [baselines]).

Each has one strength, which is chosen on training images: without that, a comparison says nothing. They are
scikit-image's; colour images are denoised channel by channel.
"""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dae_lightning.data.datamodule import as_float
from dae_lightning.model.metrics import psnr
from dae_lightning.model.noise import GaussianNoise, Noise, corrupt_each
from dae_lightning.randomness import derive, generator

Planes = NDArray[np.float32]  # (N, H, W): grey images, or the channels of colour images
Denoise = Callable[[Planes, float, float], Planes]  # planes, strength, sigma of the noise

FIT_IMAGES = 64
PATIENCE = 3  # worse strengths in a row end the search, since wide windows take long; scores have smaller dips
STRENGTHS = tuple(2 ** (step / 2) for step in range(-8, 17))  # 1/16 to 256: from the identity to flat images


@dataclass(frozen=True)
class Filter:
    """A classical denoiser of images (B, H, W) or (B, C, H, W); estimates lie in [0, 1]."""

    denoise: Denoise
    strength: float
    sigma: float  # of the noise, measured, whatever its process
    mean: float  # of Gaussian noise: known, so it is subtracted

    @classmethod
    def fit(cls, denoise: Denoise, train: Tensor, noise: Noise) -> "Filter":
        """With the strength of highest PSNR on 64 training images (N, H, W) or (N, C, H, W) uint8."""
        indices = torch.randperm(len(train), generator=generator(0, "filters"))[:FIT_IMAGES]
        clean = as_float(train[indices])
        noisy = corrupt_each(noise, clean, derive(0, "filters"), indices)
        mean = noise.mean if isinstance(noise, GaussianNoise) else 0.0
        sigma = max(float((noisy - mean - clean).square().mean().sqrt()), 1e-4)
        best, highest, worse = cls(denoise, 0.0, sigma, mean), -np.inf, 0
        for strength in STRENGTHS:
            candidate = cls(denoise, strength, sigma, mean)
            score = float(psnr(candidate(noisy), clean).mean())
            if score >= highest:
                best, highest, worse = candidate, score, 0
            elif (worse := worse + 1) == PATIENCE:
                break
        return best

    def __call__(self, noisy: Tensor) -> Tensor:
        planes = (noisy - self.mean).flatten(0, -3).numpy()
        return torch.from_numpy(self.denoise(planes, self.strength, self.sigma)).clamp(0, 1).view_as(noisy)


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
