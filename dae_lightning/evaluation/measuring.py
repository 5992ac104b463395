"""Methods on test images under one corruption process."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dae_lightning.data.chunks import ChunkLoader
from dae_lightning.data.datamodule import EVAL_BATCH, as_float
from dae_lightning.evaluation.conditions import Condition
from dae_lightning.evaluation.methods import Method, Network
from dae_lightning.evaluation.report import Row
from dae_lightning.model.metrics import ImageQuality
from dae_lightning.model.noise import corrupt_each


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
