"""Multinomial logistic regression, the instrument of the probes."""

import torch
from torch import Tensor
from torch.nn import functional as F

from dae_lightning.randomness import generator

CHOOSING = 6000  # training images, a sixth of them held out, on which the precision is chosen
STRONGEST = 1000.0  # precision at which the walk begins: far too strong for images
STEP = 10**0.5
WEAKEST = 1e-3


class SoftmaxRegression:
    """Multinomial logistic regression: the minimum over W, b of mean cross-entropy + precision / 2N |W|^2.

    That is the likeliest W of N images, if beforehand its entries are N(0, 1 / precision).

    Features are centred and divided by one number, their root mean square. (Not each by its own: the penalty
    then knows no axes, and rotated features, such as PCA codes of full rank, give the same classifier.)

    The minimum is found by L-BFGS, in double precision, from zero: nothing is random. In its coordinates
    Boehning's bound on the curvature (1992), (X'X / 2 + precision) / N, is the identity: a few hundred steps, where
    the features' own coordinates take thousands.

    Args:
        features: (N, d).
        labels: (N,) int64, from 0.
        precision: > 0.
        classes: how many there are; by default as many as `labels` name.
    """

    def __init__(self, features: Tensor, labels: Tensor, precision: float, classes: int | None = None) -> None:
        penalty = precision / len(features)
        self.mean = features.mean(0, dtype=torch.float64)
        centred = features.double() - self.mean
        self.scale = centred.square().mean().sqrt().clamp_min(1e-12)
        centred /= self.scale
        variance, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
        curvature = variance.clamp_min(0) / 2 + penalty  # (d,)
        to_weights = axes / curvature.sqrt()
        whitened = centred @ to_weights  # (N, d)

        classes = classes or int(labels.max()) + 1
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

    def surprise(self, features: Tensor, labels: Tensor) -> float:
        """Mean cross-entropy of other images' labels, in nats."""
        return float(F.nll_loss(self.probabilities(features).log(), labels))


def choose_precision(features: Tensor, labels: Tensor) -> float:
    """The precision of lowest cross-entropy on held-out training images.

    It differs by features (on Fashion-MNIST by a factor of 100 between pixels and codes), so that one for all would
    be a handicap for some. Of at most 6,000 images, by a fixed draw, a sixth is held out; the precision falls from
    1000 by half powers of ten for as long as the cross-entropy falls with it.
    """
    order = torch.randperm(len(features), generator=generator(0, "classifiers"))[:CHOOSING]
    held_out, fitted = order[: len(order) // 6], order[len(order) // 6 :]
    best, lowest, precision = STRONGEST, float("inf"), STRONGEST
    while precision >= WEAKEST:
        # of a rare class all images may be held out
        classify = SoftmaxRegression(features[fitted], labels[fitted], precision, int(labels.max()) + 1)
        surprise = classify.surprise(features[held_out], labels[held_out])
        if surprise >= lowest:
            break
        best, lowest, precision = precision, surprise, precision / STEP
    return best
