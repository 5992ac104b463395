"""The tasks of an evaluation: denoising at every level of a grid, and reconstruction."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dae_lightning import config
from dae_lightning.errors import CheckpointError
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.model.noise import GaussianNoise, Noise, make_noise

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
    processes = {(_family(model.noise), noise_mean(model.noise)) for model in models.values()}
    if len(processes) > 1:
        named = ", ".join(f"{place} on {model.noise}" for place, model in models.items())
        raise CheckpointError(f"checkpoint: trained on different kinds of noise ({named}); evaluate them apart")
    ((kind, mean),) = processes
    if kind == "gaussian":
        denoising = [Condition("denoising", sigma, GaussianNoise(mean, sigma)) for sigma in settings.sigmas]
    else:
        denoising = [
            Condition("denoising", level, make_noise({"kind": kind, "probability": level}))
            for level in settings.probabilities
        ]
    return [*denoising, Condition("reconstruction", None, GaussianNoise(0.0, 0.0))]


def nearest(conditions: Sequence[Condition], level: float) -> Condition:
    """The condition whose level is nearest to `level`: where a picture shows the model at home."""
    return min(conditions, key=lambda condition: math.inf if condition.level is None else abs(condition.level - level))


def level_name(noise: Noise) -> str:
    """What the level of a process is called."""
    return "sigma" if _family(noise) == "gaussian" else "probability"


def trained_levels(noise: Noise) -> tuple[float, ...]:
    """The level that a process has, or the ends of its range."""
    names = [name for name in ("low", "high", "sigma", "probability") if name in noise.settings()]
    return tuple(float(noise.settings()[name]) for name in names)


def noise_mean(noise: Noise) -> float:
    """The mean of Gaussian noise; of other processes 0."""
    return float(noise.settings().get("mean", 0.0))


def _family(noise: Noise) -> str:
    """A process by the grid that suits it: Gaussian noise of one sigma or of a range of them is the same."""
    return "gaussian" if noise.kind.startswith("gaussian") else noise.kind
