"""What an evaluation compares: trained models, and what one could do without them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dae_lightning.evaluation.conditions import Models, level_name, trained_levels
from dae_lightning.evaluation.estimators import BASELINES, Estimator
from dae_lightning.evaluation.filters import FILTERS
from dae_lightning.model.autoencoder import DenoisingAutoencoder


class Network:
    """A trained model as an `Estimator`: fitted long ago, and nobody tells it the noise."""

    def __init__(self, model: DenoisingAutoencoder) -> None:
        self.model = model

    def fit(self, train: Tensor, noise: object) -> None:
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


def make_methods(names: Sequence[str], models: Models) -> list[Method]:
    """The models, then the methods of these names."""
    titles = model_titles(models)
    methods = [Method("model", place, titles[place], Network(model)) for place, model in models.items()]
    known = BASELINES | FILTERS
    return methods + [Method(name, "", name.replace("_", " "), known[name]()) for name in names]


def model_titles(models: Models) -> dict[str, str]:
    """What models are called before people: by the noise of their training, and where that is the same by place."""
    if len(models) == 1:
        return dict.fromkeys(models, "model")
    titles = {
        place: f"model ({level_name(model.noise)} {' to '.join(f'{level:g}' for level in trained_levels(model.noise))})"
        for place, model in models.items()
    }
    again = list(titles.values())
    return {place: title if again.count(title) == 1 else f"{title}, {place}" for place, title in titles.items()}
