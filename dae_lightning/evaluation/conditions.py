"""The tasks of an evaluation: denoising at every level of a grid, and reconstruction."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dae_lightning import config
from dae_lightning.errors import CheckpointError
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.model.noise import GaussianNoise, Noise

Models = Mapping[str, DenoisingAutoencoder]  # by what the user called their checkpoints


@dataclass(frozen=True)
class Condition:
    """A task, and the level of its noise: reconstruction has none."""

    task: str
    level: float | None
    noise: Noise

    def includes(self, method: str) -> bool:
        """Whether a row of this method says something.

        The reconstruction is of clean images: of the model, for what its bottleneck loses, and of the mean image, which
        knows nothing of its input. The other methods, told that there is no noise, give back what they get.
        """
        return self.task == "denoising" or method in ("model", "mean_image")


def make_conditions(settings: config.Evaluate, models: Models) -> list[Condition]:
    """Denoising at each level of the grid that suits these models' noise, then reconstruction.

    Raises:
        CheckpointError: the checkpoints were trained on different processes, which no one grid suits.
    """
    first, *others = (model.noise for model in models.values())
    if any(noise.at(0.5).settings() != first.at(0.5).settings() for noise in others):
        named = ", ".join(f"{place} on {model.noise}" for place, model in models.items())
        raise CheckpointError(f"checkpoint: trained on different kinds of noise ({named}); evaluate them apart")
    grids = {"sigma": settings.sigmas, "probability": settings.probabilities}
    denoising = [Condition("denoising", level, first.at(level)) for level in grids.get(level_name(first), (1.0,))]
    return [*denoising, Condition("reconstruction", None, GaussianNoise(0.0, 0.0))]


def nearest(conditions: Sequence[Condition], level: float) -> Condition:
    """The condition whose level is nearest to `level`: where a picture shows the model at home."""
    return min(conditions, key=lambda condition: math.inf if condition.level is None else abs(condition.level - level))


def level_name(noise: Noise) -> str:
    """What the level of a process is called; one that has none is tested as it was trained, at strength 1."""
    return noise.level or "strength"


def noise_mean(noise: Noise) -> float:
    """The mean of Gaussian noise; of other processes 0."""
    return float(noise.settings().get("mean", 0.0))
