"""The floors and ceilings against closed forms."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from dae_lightning.config import Baseline
from dae_lightning.evaluation.estimators import (
    Unsuited,
    mean_image,
    posterior_mean,
    wiener,
)
from dae_lightning.evaluation.methods import METHODS
from dae_lightning.model.noise import GaussianNoise, MaskingNoise, Noise, SaltAndPepperNoise


def images(count: int, seed: int, spread: float = 20.0) -> Tensor:
    """Bytes (count, 2, 3) around the middle: correlated Gaussians, far enough from 0 and 255 not to be clipped."""
    mixing = torch.randn(6, 6, generator=torch.Generator().manual_seed(9))
    mixing /= mixing.norm(dim=1, keepdim=True)
    values = 127 + spread * torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) @ mixing.T
    return values.round().clamp(0, 255).to(torch.uint8).view(count, 2, 3)


def corrupted(noise: Noise, clean: Tensor) -> Tensor:
    return noise.corrupt(clean, torch.Generator().manual_seed(5))


@pytest.mark.parametrize("mean", [0.0, 0.7])
@pytest.mark.parametrize("sigma", [0.03, 0.1, 0.2])
def test_wiener_reaches_its_theoretical_error_on_gaussian_images(sigma: float, mean: float) -> None:
    """tr(C s^2 (C + s^2 I)^-1) / d, whatever the noise's mean is."""
    train, noise = images(60_000, 0), GaussianNoise(mean, sigma)
    clean = images(60_000, 1).float() / 255
    error = (wiener(train, noise)(corrupted(noise, clean)) - clean).square().mean().item()
    covariance = torch.cov(train.flatten(1).T.double() / 255, correction=0)
    posterior = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(6)) * sigma**2
    assert error == pytest.approx(posterior.trace().item() / 6, rel=0.02)


@pytest.mark.parametrize("kind", [MaskingNoise, SaltAndPepperNoise])
def test_no_linear_estimate_beats_wiener_under_other_noise(kind: type) -> None:
    """It is that of least squares from noisy to clean images."""
    noise, clean = kind(0.4), images(200_000, 0)
    noisy = corrupted(noise, clean.float() / 255)
    design = torch.cat([noisy.flatten(1), torch.ones(len(noisy), 1)], 1).double()
    fitted = torch.linalg.lstsq(design, clean.flatten(1).double() / 255).solution
    best = (design @ fitted).clamp(0, 1).float().view_as(noisy)
    assert torch.allclose(wiener(clean, noise)(noisy), best, atol=0.005)


def test_wiener_gives_clean_images_back_where_there_is_no_noise() -> None:
    train = images(500, 0)
    train[:, 0, 0] = 0  # a pixel that never varies
    clean = train[:9].float() / 255
    for noise in (GaussianNoise(0.0, 0.0), MaskingNoise(0.0)):
        assert torch.allclose(wiener(train, noise)(clean), clean, atol=1e-5)


def test_posterior_mean_of_two_points_is_the_logistic_curve() -> None:
    """Of x = 0 and x = 1 in one dimension: 1 / (1 + exp(-(2y - 1) / 2 sigma^2)); the noise's mean is taken off."""
    estimate = posterior_mean(torch.tensor([[0], [255]], dtype=torch.uint8), GaussianNoise(0.3, 0.7))
    y = torch.linspace(-40, 40, 801)[:, None]
    expected = torch.sigmoid((2 * (y - 0.3) - 1) / (2 * 0.7**2))
    assert torch.allclose(estimate(y), expected, atol=1e-6)


def test_posterior_mean_is_the_mean_image_in_much_noise_and_the_nearest_in_little() -> None:
    train = images(50, 0)
    clean = train.float() / 255
    of_much, of_none = (posterior_mean(train, GaussianNoise(0.0, sigma)) for sigma in (1e4, 0.0))
    assert torch.allclose(of_much(clean[:4]), clean.mean(0).expand(4, 2, 3), atol=1e-4)
    assert torch.allclose(of_none(clean), clean, atol=1e-6)


def test_posterior_mean_says_where_it_means_nothing() -> None:
    with pytest.raises(Unsuited, match="Gaussian"):
        posterior_mean(images(5, 0), MaskingNoise(0.5))


@pytest.mark.parametrize("name", get_args(Baseline))
def test_an_estimate_depends_on_no_other_image_in_its_batch(name: str) -> None:
    noise = GaussianNoise(0.1, 0.2)
    estimate = METHODS[name].fit(images(100, 0), noise)
    noisy = corrupted(noise, images(8, 1).float() / 255)
    together = estimate(noisy)
    assert together.shape == noisy.shape
    assert torch.allclose(torch.cat([estimate(one[None]) for one in noisy]), together, atol=1e-6)


def test_the_floors() -> None:
    noisy, train = torch.tensor([[-1.0, 0.5, 3.0]]), torch.tensor([[0, 255, 51], [255, 255, 0]], dtype=torch.uint8)
    untouched, clipped = (METHODS[name].fit(train, MaskingNoise(0.5)) for name in ("noisy", "noisy_clipped"))
    assert untouched(noisy) is noisy
    assert clipped(noisy).tolist() == [[0.0, 0.5, 1.0]]
    mean = mean_image(train, GaussianNoise(0.0, 1.0))
    assert mean(noisy).flatten().tolist() == pytest.approx([0.5, 1.0, 0.1])
    assert not math.isnan(float(mean(noisy * math.nan).sum()))
