"""Downstream use: how well a linear classifier works on noisy images, denoised images and codes (`probe=true`).

It answers two questions. Does denoising help a classifier that was trained on clean pixels? And is the latent code
better to classify from than PCA's linear code of the same size? (Linear probes: Alain, Bengio 2016.)
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from dae_lightning.data.datamodule import EVAL_BATCH, as_float
from dae_lightning.data.splits import ImageSet
from dae_lightning.errors import DataError
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.model.noise import Noise, corrupt_each
from dae_lightning.randomness import generator

Features = Callable[[Tensor], Tensor]  # images (N, *input_shape) in [0, 1], or noisy, to (N, d)

CHOOSING = 6000  # training images on which the precision is chosen; a sixth of them is held out
PRECISIONS = tuple(10 ** (3 - step / 2) for step in range(13))  # 1000, far too strong for images, to 0.001


def probe(
    models: Mapping[str, DenoisingAutoencoder],
    train: ImageSet,
    test: ImageSet,
    noises: Sequence[tuple[float, Noise]],
    seed: int,
) -> list[dict[str, Any]]:
    """Accuracies of classifiers trained on clean training images, on clean, noisy and denoised test images.

    Args:
        models: on the CPU, in evaluation mode.
        train, test: uint8 images (N, *input_shape) with labels (N,).
        noises: the levels to test at, which become the column `sigma`.
        seed: for `corrupt_each`, which draws the noise of the test images.

    Returns:
        The rows of probe.csv: one for each combination of features (pixels, pca, latent; `size` is how many),
        checkpoint (empty unless a model is involved), input (clean, with sigma None; noisy; for pixels also denoised)
        and sigma. Accuracy is in [0, 1], accuracy_ci95 is half its 95 % confidence interval, and `precision` is the
        classifier's.

    Raises:
        DataError: the images have no labels, or too few classes.
    """
    if train.labels is None or test.labels is None:
        raise DataError("probe=true: needs labels, and these images have none; use data with labels")
    clean, train_images = as_float(test.images), as_float(train.images)
    noisy = {sigma: corrupt_each(noise, clean, seed, torch.arange(len(clean))) for sigma, noise in noises}
    seen: list[tuple[str, float | None, Tensor]] = [("clean", None, clean)]
    seen += [("noisy", sigma, images) for sigma, images in noisy.items()]

    kinds: list[tuple[str, str, Features]] = [("pixels", "", lambda images: images.flatten(1))]
    sizes = dict.fromkeys(model.latent for model in models.values())
    kinds += [("pca", "", principal_components(train_images, size)) for size in sizes]
    kinds += [("latent", place, partial(_batched, model.encode)) for place, model in models.items()]

    rows: list[dict[str, Any]] = []
    for name, place, features in (bar := tqdm(kinds, unit=" classifiers", disable=None, dynamic_ncols=True)):
        if bar.disable:  # in a log
            print(f"probe: fitting a classifier of {name} {place}".rstrip(), file=sys.stderr, flush=True)
        fitted = features(train_images)
        classify = LinearClassifier(fitted, train.labels)
        tests = [(place, *condition) for condition in seen]
        if name == "pixels":  # codes are always computed from the noisy image itself
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
                    "precision": round(classify.precision, 6),
                }
            )
    return rows


def principal_components(train: Tensor, size: int) -> Features:
    """Projections on the `size` directions of largest variance of `train`, or on all where there are fewer."""
    from sklearn.decomposition import PCA

    flat = train.flatten(1)
    pca = PCA(min(size, *flat.shape), svd_solver="covariance_eigh").fit(flat.double().numpy())
    return lambda images: torch.from_numpy(pca.transform(images.flatten(1).double().numpy()))


class LinearClassifier:
    """scikit-learn's logistic regression: the minimum over W, b of mean cross-entropy + precision / 2N |W|^2.

    Features are centred and divided by one number, their root mean square. Scaling each feature by its own would make
    the penalty depend on the axes; so, rotated features, such as PCA codes of full rank, give the same classifier.

    Args:
        features: (N, d).
        labels: (N,) int64.
        precision: > 0; by default the one that suits held-out images best.
    """

    def __init__(self, features: Tensor, labels: Tensor, precision: float | None = None) -> None:
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits  # scikit-learn requires it

        if len(labels.unique()) < 2:
            raise DataError("probe=true: needs labels of at least two classes; use other data")
        self.mean = features.mean(0, dtype=torch.float64)
        self.scale = (features.double() - self.mean).square().mean().sqrt().clamp_min(1e-12)
        standardised, targets = self._standardise(features), labels.numpy()
        self.regression = LogisticRegression(tol=1e-5, max_iter=10_000, warm_start=True)
        with threadpool_limits(1, "blas"):  # OpenBLAS's threads spin between small products: 10 times slower when busy
            self.precision = precision or choose_precision(self.regression, standardised, targets)
            self.regression.set_params(C=1 / self.precision, warm_start=False).fit(standardised, targets)

    def _standardise(self, features: Tensor) -> NDArray[np.float32]:
        result: NDArray[np.float32] = ((features.double() - self.mean) / self.scale).float().numpy()
        return result

    def probabilities(self, features: Tensor) -> Tensor:
        """(N, classes) of features (N, d)."""
        return torch.from_numpy(self.regression.predict_proba(self._standardise(features))).double()

    def __call__(self, features: Tensor) -> Tensor:
        """The most probable label (N,) of features (N, d)."""
        return torch.from_numpy(self.regression.predict(self._standardise(features)))


def choose_precision(regression: Any, features: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The precision with the lowest cross-entropy on held-out training images, fitting `regression` to the others.

    The best value depends on the features (on Fashion-MNIST, pixels and codes differ by a factor of 100), so a shared
    one would put some at a disadvantage. Of at most 6,000 images, in a fixed random order, a sixth is held out; the
    precision is lowered for as long as the cross-entropy falls, each fit starting from the one before.
    """
    from sklearn.metrics import log_loss

    order = torch.randperm(len(features), generator=generator(0, "classifiers"))[:CHOOSING].numpy()
    held_out, fitted = order[: len(order) // 6], order[len(order) // 6 :]
    held_out = held_out[np.isin(labels[held_out], labels[fitted])]  # every image of a rare class may be held out
    best, lowest = PRECISIONS[0], math.inf
    for precision in PRECISIONS:
        regression.set_params(C=1 / precision).fit(features[fitted], labels[fitted])
        probabilities = regression.predict_proba(features[held_out])
        cross_entropy = log_loss(labels[held_out], probabilities, labels=regression.classes_)
        if cross_entropy >= lowest:
            break
        best, lowest = precision, cross_entropy
    return best


@torch.no_grad()
def _batched(function: Features, images: Tensor) -> Tensor:
    """`function` of any number of images, computed in batches."""
    return torch.cat([function(batch) for batch in images.split(EVAL_BATCH)])
