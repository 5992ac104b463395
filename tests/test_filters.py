"""The classical denoisers (extra [baselines])."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dae_lightning.evaluation.filters import FILTERS, Filter
from dae_lightning.model.metrics import psnr
from dae_lightning.model.noise import GaussianNoise, GaussianRange, MaskingNoise, corrupt_each

pytest.importorskip("skimage")
pytest.importorskip("pywt")
each_filter = pytest.mark.parametrize("name", FILTERS)


def blobs(count: int, *channels: int) -> Tensor:
    """Smooth uint8 images (count, *channels, 16, 16)."""
    coarse = torch.rand(count, *(channels or (1,)), 4, 4, generator=torch.Generator().manual_seed(0))
    fine = F.interpolate(coarse, (16, 16), mode="bilinear") * 255
    return (fine if channels else fine[:, 0]).to(torch.uint8)


@each_filter
@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_fitted_filter_denoises_and_stays_in_range(name: str, channels: tuple[int, ...]) -> None:
    images, noise = blobs(24, *channels), GaussianNoise(0.0, 0.5)
    clean = images.float() / 255
    noisy = corrupt_each(noise, clean, 1, torch.arange(24))
    denoise = Filter.fit(FILTERS[name], images, noise)
    estimate = denoise(noisy)
    assert estimate.shape == clean.shape
    assert estimate.dtype == noisy.dtype
    assert estimate.min() >= 0
    assert estimate.max() <= 1
    assert psnr(estimate, clean).mean() > psnr(noisy.clamp(0, 1), clean).mean() + 3


@each_filter
def test_the_estimate_of_an_image_does_not_depend_on_its_neighbours(name: str) -> None:
    images, noise = blobs(24), MaskingNoise(0.3)
    noisy = corrupt_each(noise, images.float() / 255, 1, torch.arange(24))
    denoise = Filter.fit(FILTERS[name], images, noise)
    torch.testing.assert_close(denoise(noisy)[7:9], denoise(noisy[7:9]), atol=1e-6, rtol=0)


def test_the_strength_grows_with_the_noise() -> None:
    blurs = [Filter.fit(FILTERS["gaussian_blur"], blobs(24), GaussianNoise(0.0, sigma)) for sigma in (0.0, 0.05, 0.5)]
    strengths = [blur.strength for blur in blurs]
    assert strengths == sorted(set(strengths))
    assert strengths[0] < 0.25


def test_a_dip_does_not_end_the_search_for_the_strength() -> None:
    """As the scores of total variation have one, whose iteration may end early."""
    tried = []

    def grey(planes: np.ndarray, strength: float, sigma: float) -> np.ndarray:
        """Of black images the better the darker: darkest at 4, but for dips at 1 and 1.4."""
        tried.append(strength)
        error = 0.9 if 1 <= strength < 2 else 0.1 + 0.1 * abs(np.log2(strength) - 2)
        return np.full_like(planes, error)

    assert Filter.fit(grey, torch.zeros(8, 5, 5, dtype=torch.uint8), GaussianNoise(0.0, 1.0)).strength == 4
    assert max(tried) == pytest.approx(4 * 2**1.5)  # and not to the strongest


def test_fitting_twice_chooses_the_same() -> None:
    one, two = (Filter.fit(FILTERS["total_variation"], blobs(100), GaussianRange(0.0, 0.3, 1.0)) for _ in range(2))
    assert one == two


def test_a_known_mean_of_the_noise_is_taken_off() -> None:
    images = blobs(24)
    noisy = corrupt_each(GaussianNoise(0.0, 0.3), images.float() / 255, 1, torch.arange(24))
    plain, shifted = (Filter.fit(FILTERS["gaussian_blur"], images, GaussianNoise(mean, 0.3)) for mean in (0.0, 5.0))
    torch.testing.assert_close(shifted(noisy + 5), plain(noisy), atol=1e-4, rtol=0)


@each_filter
def test_without_noise_a_filter_leaves_images_nearly_alone(name: str) -> None:
    images = blobs(24)
    denoise = Filter.fit(FILTERS[name], images, GaussianNoise(0.0, 0.0))
    assert psnr(denoise(images.float() / 255), images.float() / 255).min() > 30
