"""The linear probes: what a classifier reads off pixels and codes."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dae_lightning import DenoisingAutoencoder, GaussianNoise
from dae_lightning.data.splits import ImageSet
from dae_lightning.errors import DataError
from dae_lightning.evaluation.probe import PRECISIONS, LinearClassifier, principal_components, probe
from dae_lightning.figures import probe_figure
from dae_lightning.model.noise import Noise
from dae_lightning.randomness import generator

pytest.importorskip("sklearn")

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


def surprise(classify: LinearClassifier, features: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy of other images' labels, in nats."""
    return float(F.nll_loss(classify.probabilities(features).log(), labels))


def test_the_minimum_is_where_the_gradients_are_zero() -> None:
    features, labels = overlapping()
    classify = LinearClassifier(features, labels, precision=3)
    x = features.double() - features.double().mean(0)
    x = x / x.square().mean().sqrt()
    excess = classify.probabilities(features) - F.one_hot(labels)  # of the probabilities over the labels
    assert excess.mean(0).abs().max() < 2e-5  # the bias
    assert ((x.T @ excess + 3 * torch.from_numpy(classify.regression.coef_.T).double()) / 300).abs().max() < 2e-4


def test_the_classifier_knows_no_axes_and_no_units() -> None:
    """PCA codes of full rank are a rotation of the pixels: the same probabilities."""
    features, labels = overlapping()
    expected = LinearClassifier(features, labels, 3).probabilities(features)
    codes = principal_components(features, 8)(features)
    torch.testing.assert_close(LinearClassifier(codes, labels, 3).probabilities(codes), expected, atol=1e-3, rtol=0)
    scaled = 100 * features + 3
    torch.testing.assert_close(LinearClassifier(scaled, labels, 3).probabilities(scaled), expected, atol=1e-3, rtol=0)


def test_principal_components_are_orthonormal_and_of_largest_variance() -> None:
    features, _ = overlapping()
    components = principal_components(features, 3)
    axes = components(torch.eye(8)) - components(torch.zeros(8, 8))
    torch.testing.assert_close(axes.T @ axes, torch.eye(3, dtype=torch.float64))
    _, singular, _ = torch.linalg.svd(features.double() - features.double().mean(0))
    torch.testing.assert_close(components(features).norm(dim=0), singular[:3], atol=1e-6, rtol=1e-6)


def test_the_precision_is_that_of_lowest_cross_entropy_on_held_out_images() -> None:
    """Labels drawn from a known classifier: its own precision is about right, and far from it is worse."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3000, 20, generator=generator)
    chosen = []
    for spread in (0.05, 1.0):
        logits = features @ (spread * torch.randn(20, 4, generator=generator))
        labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
        precision = LinearClassifier(features, labels).precision
        fresh = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]  # of the same images
        surprises = [
            surprise(LinearClassifier(features[:1500], labels[:1500], value), features[1500:], fresh[1500:])
            for value in (precision, 100 * precision, PRECISIONS[0] if spread < 1 else 1e-3 * precision)
        ]
        assert surprises[0] <= min(surprises) + 1e-3
        chosen.append(precision)
    assert chosen[0] > 3 * chosen[1]


def test_a_class_may_be_rare() -> None:
    """Its only image is held out where the precision is chosen."""
    labels = torch.arange(60) % 2
    labels[torch.randperm(60, generator=generator(0, "classifiers"))[0]] = 2
    features = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    assert LinearClassifier(features, labels).probabilities(features).shape == (60, 3)


def test_separable_classes_are_told_apart_and_noise_costs_accuracy() -> None:
    models = {
        "a": DenoisingAutoencoder((4, 6), 5, GaussianNoise(0.0, 1.0)).eval(),
        "b": DenoisingAutoencoder((4, 6), 5, GaussianNoise(0.0, 1.0), seed=1).eval(),
        "c": DenoisingAutoencoder((4, 6), 3, GaussianNoise(0.0, 1.0)).eval(),
    }
    rows = probe(models, toy(90), toy(60), NOISES, seed=0)
    found = {tuple(row[key] for key in ("features", "size", "checkpoint", "input", "sigma")): row for row in rows}
    seen = [("clean", None), ("noisy", 0.5), ("noisy", 50.0)]
    of_none = itertools.product([("pixels", 24, ""), ("pca", 5, ""), ("pca", 3, "")], seen)
    codes = itertools.product([("latent", 5, "a"), ("latent", 5, "b"), ("latent", 3, "c")], seen)
    denoised = itertools.product([("pixels", 24, place) for place in models], [("denoised", 0.5), ("denoised", 50.0)])
    assert found.keys() == {(*what, *image) for what, image in (*of_none, *codes, *denoised)}
    assert len(rows) == len(found)
    assert all(row["images"] == 60 for row in rows)
    clean = found["pixels", 24, "", "clean", None]
    assert (clean["accuracy"], clean["accuracy_ci95"]) == (1, 0)
    assert found["pca", 5, "", "clean", None]["accuracy"] == 1
    lost = found["pixels", 24, "", "noisy", 50.0]
    assert lost["accuracy"] == pytest.approx(1 / 3, abs=0.2)  # chance
    assert lost["accuracy_ci95"] == pytest.approx(0.12, abs=0.01)
    assert probe(models, toy(90), toy(60), NOISES, seed=0) == rows
    left, right = probe_figure(rows, {place: f"model {place}" for place in models}, "sigma").axes
    assert [len(axes.get_legend().get_texts()) for axes in (left, right)] == [4, 5]


def test_what_a_denoiser_wipes_out_no_classifier_reads(capsys: pytest.CaptureFixture[str]) -> None:
    model = DenoisingAutoencoder((4, 6), 5, GaussianNoise(0.0, 1.0)).eval()
    torch.nn.init.zeros_(model.network.decoder.weight)  # it answers with one and the same image
    rows = probe({"a": model}, toy(90), toy(60), NOISES[:1], seed=0)
    said = [f"probe: fitting a classifier of {features}" for features in ("pixels", "pca", "latent a")]
    assert capsys.readouterr().err.splitlines() == said
    accuracy = {row["input"]: row["accuracy"] for row in rows if row["features"] == "pixels"}
    assert accuracy["noisy"] > 0.6
    assert accuracy["denoised"] == pytest.approx(1 / 3)


def test_images_without_labels_are_refused() -> None:
    model = DenoisingAutoencoder((4, 6), 5, GaussianNoise(0.0, 1.0)).eval()
    unlabelled = ImageSet(toy(30).images, None)
    with pytest.raises(DataError, match="probe=true: needs labels"):
        probe({"a": model}, unlabelled, unlabelled, NOISES, seed=0)
    alike = ImageSet(toy(30).images, torch.zeros(30, dtype=torch.int64))
    with pytest.raises(DataError, match="at least two classes"):
        probe({"a": model}, alike, alike, NOISES, seed=0)
