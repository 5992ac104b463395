"""Downstream use: what a linear classifier reads off noisy images, denoised ones, and codes (`probe=true`).

Two questions, one instrument. Does denoising help a classifier that was trained on clean pixels? And is the
latent code better to classify from than a linear one of its size, PCA's? (Linear probes: Alain, Bengio 2016.)
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dae_lightning.data.datamodule import EVAL_BATCH, ImageDataModule, as_float
from dae_lightning.data.images import ImageSet
from dae_lightning.errors import DataError
from dae_lightning.model import DenoisingAutoencoder
from dae_lightning.noise import Noise, corrupt_each

COLUMNS = ("features", "input", "sigma", "images", "accuracy", "accuracy_ci95")
PENALTY = 0.01  # of the squared weights, per image, for features scaled to a mean square of 1; fixed, never tuned
Row = dict[str, str | float | int | None]
Features = Callable[[Tensor], Tensor]  # images (N, *input_shape) in [0, 1], or noisy, to (N, d)


def run_probe(
    model: DenoisingAutoencoder, data: ImageDataModule, noises: Sequence[tuple[float, Noise]], seed: int
) -> list[Row]:
    """The rows of probe.csv for one model, as `probe` makes them; `data` is set up.

    Raises:
        DataError: the images have no labels.
    """
    return probe(model, data.train, data.test, noises, seed)


def probe(
    model: DenoisingAutoencoder,
    train: ImageSet,
    test: ImageSet,
    noises: Sequence[tuple[float, Noise]],
    seed: int,
) -> list[Row]:
    """Accuracies of classifiers trained on clean training images, on clean, noisy and denoised test images.

    Args:
        model: denoises and encodes, on its own device; in evaluation mode.
        train, test: uint8 images (N, *input_shape) with labels (N,).
        noises: the levels at which to test; the number becomes the column `sigma`.
        seed: the noise on a test image is `corrupt_each`'s: a function of the seed and of the image's place.

    Returns:
        One row per features (pixels, latent, pca), input (clean, with sigma None; noisy; for pixels denoised)
        and sigma; accuracy in [0, 1], accuracy_ci95 the half-width of its 95 % confidence interval.

    Raises:
        DataError: the images have no labels.
    """
    if train.labels is None or test.labels is None:
        raise DataError("probe=true: needs labels, and these images have none; use data with labels")
    clean = as_float(test.images)
    inputs: list[tuple[str, float | None, Tensor]] = [("clean", None, clean)]
    for sigma, noise in noises:
        noisy = corrupt_each(noise, clean, seed, torch.arange(len(clean)))
        inputs += [("noisy", sigma, noisy), ("denoised", sigma, _batched(model, model, noisy))]

    representations: dict[str, Features] = {
        "pixels": lambda images: images.flatten(1),
        "latent": lambda images: _batched(model, model.encode, images),
        "pca": PrincipalComponents(as_float(train.images).flatten(1), model.latent),
    }
    rows: list[Row] = []
    for name, features in representations.items():
        classify = SoftmaxRegression(features(as_float(train.images)), train.labels)
        for kind, level, images in inputs:
            if kind == "denoised" and name != "pixels":
                continue  # a code is taken from the noisy image itself
            accuracy = (classify(features(images)) == test.labels).double().mean().item()
            half_width = 1.96 * math.sqrt(accuracy * (1 - accuracy) / len(clean))
            values = (name, kind, level, len(clean), accuracy, half_width)
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


class SoftmaxRegression:
    """Multinomial logistic regression: the minimum over W, b of mean cross-entropy + penalty / 2 |W|^2.

    Features are centred and divided by one number, their root mean square. (Not each by its own: the penalty
    then knows no axes, and rotated features, such as PCA codes of full rank, give the same classifier.)

    The minimum is found by L-BFGS, in double precision, from zero: nothing is random. In its coordinates
    Boehning's bound on the curvature (1992), X'X / 2N + penalty, is the identity: a few hundred steps, where
    the features' own coordinates take thousands.

    Args:
        features: (N, d).
        labels: (N,) int64, from 0.
    """

    def __init__(self, features: Tensor, labels: Tensor, penalty: float = PENALTY) -> None:
        self.mean = features.mean(0, dtype=torch.float64)
        centred = features.double() - self.mean
        self.scale = centred.square().mean().sqrt().clamp_min(1e-12)
        centred /= self.scale
        variance, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
        curvature = variance.clamp_min(0) / 2 + penalty  # (d,)
        to_weights = axes / curvature.sqrt()
        whitened = centred @ to_weights  # (N, d)

        classes = int(labels.max()) + 1
        v = torch.zeros(features.shape[1], classes, dtype=torch.float64, requires_grad=True)
        self.bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [v, self.bias],
            max_iter=500,
            tolerance_grad=1e-5,
            tolerance_change=0,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            value: Tensor = F.cross_entropy(whitened @ v + self.bias, labels)
            value = value + penalty / 2 * (v.square() / curvature[:, None]).sum()  # axes are orthonormal
            value.backward()
            return value

        optimizer.step(loss)
        self.weights = (to_weights @ v).detach()  # (d, classes)
        self.bias.requires_grad_(False)

    def probabilities(self, features: Tensor) -> Tensor:
        """(N, classes) of features (N, d)."""
        standardised = (features.double() - self.mean) / self.scale
        logits: Tensor = standardised @ self.weights + self.bias
        return logits.softmax(1)

    def __call__(self, features: Tensor) -> Tensor:
        """The likeliest class (N,) of features (N, d)."""
        return self.probabilities(features).argmax(1)


class PrincipalComponents:
    """Codes on the `size` directions of largest variance of `train` (N, d); all d if these are fewer."""

    def __init__(self, train: Tensor, size: int) -> None:
        self.mean = train.mean(0, dtype=torch.float64)
        centred = train.double() - self.mean
        _, axes = torch.linalg.eigh(centred.T @ centred)  # ascending
        self.axes = axes.flip(1)[:, :size]  # (d, size)

    def __call__(self, images: Tensor) -> Tensor:
        """Codes (N, size) of images (N, *input_shape)."""
        codes: Tensor = (images.flatten(1).double() - self.mean) @ self.axes
        return codes


@torch.no_grad()
def _batched(model: DenoisingAutoencoder, function: Features, images: Tensor) -> Tensor:
    """`function` of the model over any number of images, on its device; the result on the CPU."""
    parts = [function(batch.to(model.device)).cpu() for batch in images.split(EVAL_BATCH)]
    return torch.cat(parts)
