"""The linear probes: what a classifier reads off pixels and codes."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dae_lightning import DenoisingAutoencoder, GaussianNoise
from dae_lightning.data.images import ImageSet
from dae_lightning.errors import DataError
from dae_lightning.figures import probe_figure
from dae_lightning.noise import Noise
from dae_lightning.probe import COLUMNS, PENALTY, PrincipalComponents, SoftmaxRegression, probe

NOISES: list[tuple[float, Noise]] = [(0.5, GaussianNoise(0.0, 0.5)), (50.0, GaussianNoise(0.0, 50.0))]


def toy(count: int) -> ImageSet:
    """Three classes of 4x6 images, each bright in a third of its columns: separable."""
    labels = torch.arange(count) % 3
    images = torch.randint(0, 60, (count, 4, 6), generator=torch.Generator().manual_seed(count))
    for index, label in enumerate(labels.tolist()):
        images[index, :, 2 * label : 2 * label + 2] += 150
    return ImageSet(images.to(torch.uint8), labels)


def overlapping() -> tuple[Tensor, Tensor]:
    """Features (300, 8) of very different variance, and labels of four classes that no plane separates."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 4
    features = torch.randn(300, 8, generator=generator) + F.one_hot(labels, 8)
    return features * torch.logspace(0, -2, 8), labels


def test_the_minimum_is_where_the_gradients_are_zero() -> None:
    features, labels = overlapping()
    classify = SoftmaxRegression(features, labels)
    x = features.double() - features.double().mean(0)
    x = x / x.square().mean().sqrt()
    excess = classify.probabilities(features) - F.one_hot(labels)  # of the probabilities over the labels
    assert excess.mean(0).abs().max() < 2e-5  # the bias
    assert (x.T @ excess / 300 + PENALTY * classify.weights).abs().max() < 5e-5


def test_the_classifier_knows_no_axes_and_no_units() -> None:
    """PCA codes of full rank are a rotation of the pixels: the same probabilities."""
    features, labels = overlapping()
    expected = SoftmaxRegression(features, labels).probabilities(features)
    codes = PrincipalComponents(features, 8)(features)
    torch.testing.assert_close(SoftmaxRegression(codes, labels).probabilities(codes), expected, atol=1e-3, rtol=0)
    scaled = 100 * features + 3
    torch.testing.assert_close(SoftmaxRegression(scaled, labels).probabilities(scaled), expected, atol=1e-3, rtol=0)


def test_principal_components_are_orthonormal_and_of_largest_variance() -> None:
    features, _ = overlapping()
    components = PrincipalComponents(features, 3)
    torch.testing.assert_close(components.axes.T @ components.axes, torch.eye(3, dtype=torch.float64))
    _, singular, _ = torch.linalg.svd(features.double() - features.double().mean(0))
    torch.testing.assert_close(components(features).norm(dim=0), singular[:3], atol=1e-6, rtol=1e-6)


def test_separable_classes_are_told_apart_and_noise_costs_accuracy() -> None:
    model = DenoisingAutoencoder((4, 6), 5, GaussianNoise(0.0, 1.0)).eval()
    rows = probe(model, toy(90), toy(60), NOISES, seed=0)
    found = {(row["features"], row["input"], row["sigma"]): row for row in rows}
    pixels = itertools.product(["pixels"], ["noisy", "denoised"], [0.5, 50.0])
    codes = itertools.product(["latent", "pca"], ["noisy"], [0.5, 50.0])
    assert found.keys() == {(f, "clean", None) for f in ("pixels", "latent", "pca")} | {*pixels, *codes}
    assert all(tuple(row) == COLUMNS and row["images"] == 60 for row in rows)
    assert found["pixels", "clean", None]["accuracy"] == 1
    assert found["pixels", "clean", None]["accuracy_ci95"] == 0
    assert found["pca", "clean", None]["accuracy"] == 1
    assert found["pixels", "noisy", 50.0]["accuracy"] == pytest.approx(1 / 3, abs=0.2)  # chance
    assert found["pixels", "noisy", 50.0]["accuracy_ci95"] == pytest.approx(0.12, abs=0.01)
    assert probe(model, toy(90), toy(60), NOISES, seed=0) == rows
    assert len(probe_figure(rows).axes[0].get_legend().get_texts()) == 7


def test_images_without_labels_are_refused() -> None:
    model = DenoisingAutoencoder((4, 6), 5, GaussianNoise(0.0, 1.0)).eval()
    unlabelled = ImageSet(toy(30).images, None)
    with pytest.raises(DataError, match="probe=true: needs labels"):
        probe(model, unlabelled, unlabelled, NOISES, seed=0)
