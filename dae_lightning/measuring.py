"""Methods on test images under one corruption process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dae_lightning.baselines import Estimator
from dae_lightning.data.chunks import ChunkLoader
from dae_lightning.data.datamodule import EVAL_BATCH, as_float
from dae_lightning.metrics import ImageQuality
from dae_lightning.model import DenoisingAutoencoder
from dae_lightning.noise import Noise, corrupt_each
from dae_lightning.reports import Row


class Network:
    """A trained model as an `Estimator`: fitted long ago, and nobody tells it the noise."""

    def __init__(self, model: DenoisingAutoencoder) -> None:
        self.model = model

    def fit(self, train: Tensor, noise: Noise) -> None:
        """Nothing to learn."""

    def __call__(self, noisy: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(noisy))

    def logits(self, noisy: Tensor) -> Tensor:
        return self.model.decode_logits(self.model.encode(noisy))


@dataclass(frozen=True)
class Method:
    """An estimator, and what it is called: in files (`name`, `checkpoint`) and before people (`title`)."""

    name: str
    checkpoint: str
    title: str
    estimator: Estimator


@dataclass(frozen=True)
class Condition:
    """A task, and the level of its noise: reconstruction has none."""

    task: str
    level: float | None
    noise: Noise

    def includes(self, method: Method) -> bool:
        """Whether a row of this method says something.

        The reconstruction is of clean images: of the model, for what its bottleneck loses, and of the mean image, which
        knows nothing of its input. The other methods, told that there is no noise, give back what they get.
        """
        return self.task == "denoising" or method.name in ("model", "mean_image")


def measure(
    condition: Condition,
    methods: Sequence[Method],
    images: Tensor,
    seed: int,
    advance: Callable[[int], object],
) -> list[Row]:
    """A row for each of the fitted `methods` on test `images` (N, *input_shape) uint8; `advance` hears of every batch.

    The noise on image i is a function of `seed`, the condition and i alone.
    """
    qualities = [ImageQuality() for _ in methods]
    for batch, indices in ChunkLoader(images, EVAL_BATCH):
        clean = as_float(batch)
        noisy = corrupt_each(condition.noise, clean, seed, indices)
        for method, quality in zip(methods, qualities, strict=True):
            estimator = method.estimator
            # the BCE of a model is that of its logits, without clipping, as in its training
            logits = estimator.logits(noisy) if isinstance(estimator, Network) else None
            quality.update(estimator(noisy) if logits is None else torch.sigmoid(logits), clean, logits)
        advance(len(batch))
    rows = []
    for method, quality in zip(methods, qualities, strict=True):
        scores = {name: float(value) for name, value in quality.compute().items()}
        scores["psnr_ci95"] = float(quality.ci95()["psnr"])
        rows.append(Row(method.name, method.checkpoint, condition.task, condition.level, len(images), **scores))
    return rows
