"""What an evaluation compares: trained models, and what one could do without them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dae_lightning.data.chunks import ChunkLoader
from dae_lightning.data.datamodule import EVAL_BATCH, as_float
from dae_lightning.evaluation.conditions import Condition, Models, level_name
from dae_lightning.evaluation.estimators import BASELINES, Estimator
from dae_lightning.evaluation.filters import FILTERS
from dae_lightning.evaluation.report import Row
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.model.metrics import ImageQuality
from dae_lightning.model.noise import corrupt_each


class TrainedModel:
    """A trained model as an `Estimator`: fitted long ago, and nobody tells it the noise."""

    def __init__(self, model: DenoisingAutoencoder) -> None:
        self.model = model

    def fit(self, train: Tensor, noise: object) -> None:
        """Nothing to learn."""

    def __call__(self, noisy: Tensor) -> Tensor:
        return self.model.network(noisy)  # type: ignore[no-any-return]

    def logits(self, noisy: Tensor) -> Tensor | None:
        return self.model.network.logits(noisy)


@dataclass(frozen=True)
class Method:
    """An estimator, and what it is called: in files (`name`, `checkpoint`) and before people (`title`)."""

    name: str
    checkpoint: str
    title: str
    estimator: Estimator


def make_methods(names: Sequence[str], models: Models) -> list[Method]:
    """The models, then the methods of these names."""
    titles = model_titles(models)
    methods = [Method("model", place, titles[place], TrainedModel(model)) for place, model in models.items()]
    known = BASELINES | FILTERS
    return methods + [Method(name, "", name.replace("_", " "), known[name]()) for name in names]


def model_titles(models: Models) -> dict[str, str]:
    """What models are called before people: by the noise of their training, and where that is the same by place."""
    if len(models) == 1:
        return dict.fromkeys(models, "model")
    titles = {
        place: f"model ({level_name(model.noise)} {' to '.join(f'{level:g}' for level in model.noise.levels())})"
        for place, model in models.items()
    }
    again = list(titles.values())
    return {place: title if again.count(title) == 1 else f"{title}, {place}" for place, title in titles.items()}


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
            logits = estimator.logits(noisy) if isinstance(estimator, TrainedModel) else None
            quality.update(estimator(noisy) if logits is None else torch.sigmoid(logits), clean, logits)
        advance(len(batch))
    rows = []
    for method, quality in zip(methods, qualities, strict=True):
        scores = {name: float(value) for name, value in quality.compute().items()}
        scores["psnr_ci95"] = float(quality.ci95()["psnr"])
        rows.append(Row(method.name, method.checkpoint, condition.task, condition.level, len(images), **scores))
    return rows
