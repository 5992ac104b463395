"""The floors and ceilings against closed forms."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from dae_lightning.config import Baseline
from dae_lightning.evaluation.estimators import (
    MeanImage,
    PosteriorMean,
    Unsuited,
    Wiener,
)
from dae_lightning.evaluation.evaluate import make_methods
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
    train, noise, wiener = images(60_000, 0), GaussianNoise(mean, sigma), Wiener()
    wiener.fit(train, noise)
    clean = images(60_000, 1).float() / 255
    error = (wiener(corrupted(noise, clean)) - clean).square().mean().item()
    covariance = torch.cov(train.flatten(1).T.double() / 255, correction=0)
    posterior = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(6)) * sigma**2
    assert error == pytest.approx(posterior.trace().item() / 6, rel=0.02)


@pytest.mark.parametrize("kind", [MaskingNoise, SaltAndPepperNoise])
def test_no_linear_estimate_beats_wiener_under_other_noise(kind: type) -> None:
    """Its weights are those of least squares from noisy to clean images."""
    noise, wiener = kind(0.4), Wiener()
    clean = images(200_000, 0)
    wiener.fit(clean, noise)
    noisy = corrupted(noise, clean.float() / 255).flatten(1).double()
    design = torch.cat([noisy, torch.ones(len(noisy), 1)], 1)
    fitted = torch.linalg.lstsq(design, clean.flatten(1).double() / 255).solution
    assert torch.allclose(wiener.weight.double(), fitted[:6].T, atol=0.004)
    assert torch.allclose(wiener.bias.double(), fitted[6], atol=0.004)


def test_wiener_gives_clean_images_back_where_there_is_no_noise() -> None:
    train, wiener = images(500, 0), Wiener()
    train[:, 0, 0] = 0  # a pixel that never varies
    wiener.fit(train, GaussianNoise(0.0, 0.0))
    clean = train[:9].float() / 255
    assert torch.allclose(wiener(clean), clean, atol=1e-5)


def test_posterior_mean_of_two_points_is_the_logistic_curve() -> None:
    """Of x = 0 and x = 1 in one dimension: 1 / (1 + exp(-(2y - 1) / 2 sigma^2)); the noise's mean is taken off."""
    estimator = PosteriorMean()
    estimator.fit(torch.tensor([[0], [255]], dtype=torch.uint8), GaussianNoise(0.3, 0.7))
    y = torch.linspace(-40, 40, 801)[:, None]
    expected = torch.sigmoid((2 * (y - 0.3) - 1) / (2 * 0.7**2))
    assert torch.allclose(estimator(y), expected, atol=1e-6)


def test_posterior_mean_is_the_mean_image_in_much_noise_and_the_nearest_in_little() -> None:
    train, estimator = images(50, 0), PosteriorMean()
    clean = train.float() / 255
    estimator.fit(train, GaussianNoise(0.0, 1e4))
    assert torch.allclose(estimator(clean[:4]), clean.mean(0).expand(4, 2, 3), atol=1e-4)
    estimator.fit(train, GaussianNoise(0.0, 0.0))
    assert torch.allclose(estimator(clean), clean, atol=1e-6)


def test_posterior_mean_says_where_it_means_nothing() -> None:
    with pytest.raises(Unsuited, match="Gaussian"):
        PosteriorMean().fit(images(5, 0), MaskingNoise(0.5))


@pytest.mark.parametrize("name", get_args(Baseline))
def test_an_estimate_depends_on_no_other_image_in_its_batch(name: str) -> None:
    (method,) = make_methods([name], {})
    estimator, noise = method.estimator, GaussianNoise(0.1, 0.2)
    estimator.fit(images(100, 0), noise)
    noisy = corrupted(noise, images(8, 1).float() / 255)
    together = estimator(noisy)
    assert together.shape == noisy.shape
    assert torch.allclose(torch.cat([estimator(one[None]) for one in noisy]), together, atol=1e-6)


def test_the_floors() -> None:
    noisy = torch.tensor([[-1.0, 0.5, 3.0]])
    untouched, clipped = (method.estimator for method in make_methods(["noisy", "noisy_clipped"], {}))
    assert untouched(noisy) is noisy
    assert clipped(noisy).tolist() == [[0.0, 0.5, 1.0]]
    mean = MeanImage()
    mean.fit(torch.tensor([[0, 255, 51], [255, 255, 0]], dtype=torch.uint8), GaussianNoise(0.0, 1.0))
    assert mean(noisy).flatten().tolist() == pytest.approx([0.5, 1.0, 0.1])
    assert not math.isnan(float(mean(noisy * math.nan).sum()))
