"""Downstream use: what a linear classifier reads off noisy images, denoised ones, and codes (`probe=true`).

Two questions, one instrument. Does denoising help a classifier that was trained on clean pixels? And is the
latent code better to classify from than a linear one of its size, PCA's? (Linear probes: Alain, Bengio 2016.)
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dae_lightning.data.datamodule import EVAL_BATCH, as_float
from dae_lightning.data.splits import ImageSet
from dae_lightning.errors import DataError
from dae_lightning.evaluation.classifiers import SoftmaxRegression, choose_precision
from dae_lightning.evaluation.conditions import Models
from dae_lightning.model.noise import Noise, corrupt_each

Features = Callable[[Tensor], Tensor]  # images (N, *input_shape) in [0, 1], or noisy, to (N, d)


def probe(
    models: Models, train: ImageSet, test: ImageSet, noises: Sequence[tuple[float, Noise]], seed: int
) -> list[dict[str, Any]]:
    """Accuracies of classifiers trained on clean training images, on clean, noisy and denoised test images.

    Args:
        models: denoise and encode, on the CPU; in evaluation mode.
        train, test: uint8 images (N, *input_shape) with labels (N,).
        noises: the levels at which to test; the number becomes the column `sigma`.
        seed: the noise on a test image is `corrupt_each`'s: a function of the seed and of the image's place.

    Returns:
        The rows of probe.csv: one per features (pixels, pca, latent; `size` of them), checkpoint (of what is a
        model's), input (clean, with sigma None; noisy; for pixels denoised) and sigma; accuracy in [0, 1],
        accuracy_ci95 half its 95 % confidence interval, `precision` the classifier's.

    Raises:
        DataError: the images have no labels.
    """
    if train.labels is None or test.labels is None:
        raise DataError("probe=true: needs labels, and these images have none; use data with labels")
    clean, train_images = as_float(test.images), as_float(train.images)
    noisy = {sigma: corrupt_each(noise, clean, seed, torch.arange(len(clean))) for sigma, noise in noises}
    seen: list[tuple[str, float | None, Tensor]] = [("clean", None, clean)]
    seen += [("noisy", sigma, images) for sigma, images in noisy.items()]

    kinds: list[tuple[str, str, Features]] = [("pixels", "", lambda images: images.flatten(1))]
    sizes = dict.fromkeys(model.latent for model in models.values())
    kinds += [("pca", "", PrincipalComponents(train_images.flatten(1), size)) for size in sizes]
    kinds += [("latent", place, partial(_batched, model.encode)) for place, model in models.items()]

    rows: list[dict[str, Any]] = []
    for name, place, features in tqdm(kinds, unit=" classifiers", disable=None, dynamic_ncols=True):
        fitted = features(train_images)
        precision = choose_precision(fitted, train.labels)
        classify = SoftmaxRegression(fitted, train.labels, precision)
        tests = [(place, *condition) for condition in seen]
        if name == "pixels":  # a code is taken from the noisy image itself
            tests += [
                (whose, "denoised", sigma, _batched(model, images))
                for whose, model in models.items()
                for sigma, images in noisy.items()
            ]
        for whose, kind, level, images in tests:
            accuracy = (classify(features(images)) == test.labels).double().mean().item()
            rows.append(
                {
                    "features": name,
                    "size": fitted.shape[1],
                    "checkpoint": whose,
                    "input": kind,
                    "sigma": level,
                    "images": len(clean),
                    "accuracy": round(accuracy, 6),
                    "accuracy_ci95": round(1.96 * math.sqrt(accuracy * (1 - accuracy) / len(clean)), 6),
                    "precision": round(precision, 6),
                }
            )
    return rows


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
def _batched(function: Features, images: Tensor) -> Tensor:
    """`function` of any number of images, some at a time."""
    return torch.cat([function(batch) for batch in images.split(EVAL_BATCH)])
