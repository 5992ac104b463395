"""The metrics against torch's and torchmetrics' own."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from dae_lightning.model import metrics
from dae_lightning.model.metrics import ImageQuality

CLEAN = torch.rand(9, 16, 16, generator=torch.Generator().manual_seed(0))
ESTIMATE = torch.rand(9, 16, 16, generator=torch.Generator().manual_seed(1))


def scores(estimate: Tensor, clean: Tensor, batch: int = 9) -> dict[str, float]:
    quality = ImageQuality()
    for e, c in zip(estimate.split(batch), clean.split(batch), strict=True):
        quality.update(e, c)
    return {name: float(value) for name, value in quality.compute().items()}


def test_psnr_is_averaged_over_images_not_over_pixels() -> None:
    each = [peak_signal_noise_ratio(e, c, data_range=1.0) for e, c in zip(ESTIMATE, CLEAN, strict=True)]
    assert scores(ESTIMATE, CLEAN)["psnr"] == pytest.approx(float(torch.stack(each).mean()), rel=1e-5)
    assert metrics.psnr(torch.zeros(1, 4), torch.full((1, 4), 0.1)).item() == pytest.approx(20, rel=1e-5)


def test_psnr_of_noise_is_taken_before_clipping() -> None:
    """Minus 20 log10(sigma): at sigma 2, -6.02 dB."""
    noise = 2 * torch.randn(200, 28, 28, generator=torch.Generator().manual_seed(0))
    assert scores(noise, torch.zeros(200, 28, 28))["psnr"] == pytest.approx(-20 * math.log10(2), abs=0.03)


def test_bce_is_torchs_own_and_that_of_logits_the_same() -> None:
    expected = float(F.binary_cross_entropy(ESTIMATE, CLEAN))
    assert scores(ESTIMATE, CLEAN)["bce"] == pytest.approx(expected, rel=1e-5)
    quality = ImageQuality(("bce",))
    quality.update(ESTIMATE, CLEAN, logits=torch.logit(ESTIMATE))
    assert float(quality.compute()["bce"]) == pytest.approx(expected, rel=1e-5)


def test_bce_without_bounds_is_finite() -> None:
    far = torch.tensor([[-1e4, 1e4]])
    assert metrics.bce(far, torch.tensor([[0.0, 1.0]])).tolist() == [0.0]
    assert metrics.bce(far, torch.tensor([[1.0, 0.0]])).tolist() == [1e4]


def test_bce_of_an_estimate_that_is_no_probability_is_finite() -> None:
    wild = scores(torch.tensor([[-3.0, 4.0]]), torch.tensor([[0.0, 1.0]]))
    assert wild["bce"] == pytest.approx(1e-6, rel=0.1)
    assert scores(torch.tensor([[4.0]]), torch.tensor([[0.0]]))["bce"] == pytest.approx(-math.log(1e-6), rel=0.01)


def test_no_estimate_passes_the_entropy_of_grey_targets() -> None:
    assert scores(CLEAN, CLEAN)["bce_excess"] == pytest.approx(0, abs=1e-6)
    assert scores((CLEAN + 0.01).clamp(0, 1), CLEAN)["bce_excess"] > 1e-5
    assert metrics.entropy(torch.tensor([[0.0, 1.0, 0.5, 0.5]])).item() == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize("shape", [(9, 16, 16), (4, 3, 40, 11)])
@pytest.mark.parametrize("sigma", [0.1, 6.0])
def test_ssim_of_each_image_is_torchmetrics_own(shape: tuple[int, ...], sigma: float) -> None:
    clean = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    estimate = clean + sigma * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    pair = [images if images.dim() == 4 else images[:, None] for images in (estimate, clean)]
    expected = structural_similarity_index_measure(*pair, data_range=1.0, reduction="none")
    torch.testing.assert_close(metrics.ssim(estimate, clean), expected, rtol=0, atol=1e-6)


def test_ssim_of_equal_images_is_one_and_without_neighbourhoods_undefined() -> None:
    assert scores(CLEAN, CLEAN)["ssim"] == pytest.approx(1)
    rgb = torch.stack([ESTIMATE[:3], ESTIMATE[3:6], ESTIMATE[6:]], 1)
    assert scores(rgb, rgb)["ssim"] == pytest.approx(1)
    assert math.isnan(scores(ESTIMATE.flatten(1), CLEAN.flatten(1))["ssim"])
    assert math.isnan(scores(ESTIMATE[:, :10], CLEAN[:, :10])["ssim"])


def test_autocast_around_the_metrics_changes_none() -> None:
    """As where `trainer.precision=bf16-mixed` tests: SSIM's variances are differences of matrix products."""
    with torch.autocast("cpu", torch.bfloat16):
        mixed = scores(ESTIMATE, CLEAN)
    assert mixed == scores(ESTIMATE, CLEAN)


def test_the_confidence_interval_is_that_of_a_mean() -> None:
    quality = ImageQuality(["psnr"])
    quality.update(ESTIMATE, CLEAN)
    each = metrics.psnr(ESTIMATE, CLEAN).double()
    assert float(quality.ci95()["psnr"]) == pytest.approx(1.96 * float(each.std()) / math.sqrt(9))


@pytest.mark.parametrize("batch", [1, 2, 4, 9])
def test_scores_do_not_depend_on_the_batches(batch: int) -> None:
    whole, parts = scores(ESTIMATE, CLEAN), scores(ESTIMATE, CLEAN, batch)
    assert parts == pytest.approx(whole, rel=1e-6)
