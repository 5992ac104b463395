"""What is compared, and under which noise."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from dae_lightning import config
from dae_lightning.errors import CheckpointError, ConfigError
from dae_lightning.evaluation.estimators import Fit, Fixed, Told, mean_image, posterior_mean, wiener
from dae_lightning.evaluation.filters import FILTERS, Filter
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.model.metrics import TASKS
from dae_lightning.model.noise import GaussianNoise, Noise

GRIDS = {  # by what a level is called: the key that gives another grid, and the one where it gives none
    "sigma": ("sigmas", (0.5, 1.0, 2.0, 4.0, 6.0)),
    "probability": ("probabilities", (0.1, 0.25, 0.5, 0.75, 0.9)),
}
Models = Mapping[str, DenoisingAutoencoder]  # by what the user called their checkpoints


@dataclass(frozen=True)
class Condition:
    """A task and its noise, at a level that reconstruction does not have."""

    task: str
    level: float | None
    noise: Noise

    @property
    def title(self) -> str:
        return self.task if self.level is None else f"{self.task} {self.level:g}"


@dataclass(frozen=True)
class Method:
    """How clean images are estimated, its names in files (`name`, `checkpoint`), and what it is for.

    Reconstruction, of clean images, says something of a model (what its bottleneck loses) and of the mean image, which
    ignores its input; the other methods, told that there is no noise, return what they get.
    """

    name: str
    fit: Fit
    tasks: tuple[str, ...] = ("denoising",)
    in_gallery: bool = True  # and within the frame of denoising_curve.png
    checkpoint: str = ""
    model_title: str = ""
    logits: Callable[[Tensor], Tensor | None] = lambda noisy: None  # their sigmoid is the estimate; for an exact BCE

    @property
    def title(self) -> str:
        """Its name in tables and figures."""
        return self.model_title or self.name.replace("_", " ")


METHODS = {
    method.name: method
    for method in (
        Method("noisy", Fixed(lambda noisy: noisy), in_gallery=False),
        Method("noisy_clipped", Fixed(lambda noisy: noisy.clamp(0, 1)), in_gallery=False),
        Method("mean_image", mean_image, TASKS),
        Method("wiener", wiener),
        Method("posterior_mean", posterior_mean),
        *(Method(name, partial(Filter.fit, denoise)) for name, denoise in FILTERS.items()),
    )
}


DEFAULT = ("noisy", "noisy_clipped", "mean_image", "wiener", "posterior_mean")


def chosen(names: Sequence[str] | None) -> list[Method]:
    """The methods of these names, or of DEFAULT; raises ConfigError."""
    if unsuited := [name for name in names or () if name not in METHODS]:
        raise ConfigError(f"methods=[{','.join(unsuited)}]: only for photographs, with images=FOLDER")
    return [METHODS[name] for name in names or DEFAULT]


def model_methods(models: Models) -> list[Method]:
    """The models, those that take sigma also told that of the noise.

    Of several, the title says the noise of the training, and the place where that is not enough.
    """
    titles = dict.fromkeys(models, "model")
    if len(models) > 1:
        for place, model in models.items():
            levels = " to ".join(f"{level:g}" for level in model.noise.levels())
            titles[place] = f"model ({level_name(model.noise)} {levels})"
    counts = Counter(titles.values())
    titles = {place: title if counts[title] == 1 else f"{title}, {place}" for place, title in titles.items()}
    methods = []
    for place, model in models.items():
        network, title = model.network, titles[place]
        methods.append(Method("model", Fixed(network), TASKS, True, place, title, network.logits))
        if network.takes_sigma:
            title = f"{title}, told sigma"
            methods.append(Method("model_told", Told(network), ("denoising",), False, place, title))
    return methods


def level_name(noise: Noise) -> str:
    """What the level of a process is called; one that has none is tested as it was trained, at strength 1."""
    return noise.level or "strength (as trained: 1)"


def make_conditions(settings: config.Evaluate, models: Models) -> list[Condition]:
    """Denoising at each level of the grid that suits these models' noise, then reconstruction.

    Raises:
        CheckpointError: the checkpoints were trained on different processes, which no one grid suits.
        ConfigError: a grid was given for another kind of level.
    """
    first, *others = (model.noise for model in models.values())
    if any(noise.at(0.5).settings() != first.at(0.5).settings() for noise in others):
        named = ", ".join(f"{place} on {model.noise}" for place, model in models.items())
        raise CheckpointError(f"checkpoint: trained on different kinds of noise ({named}); evaluate them apart")
    levels: Sequence[float] = (1.0,)
    for name, (key, default) in GRIDS.items():
        given = getattr(settings, key)
        if name == first.level:
            levels = given or default
        elif given:
            raise ConfigError(f"{key}={list(given)}: the model's noise, {first}, has no {name}; leave it out")
    denoising = [Condition("denoising", level, first.at(level)) for level in levels]
    return [*denoising, Condition("reconstruction", None, GaussianNoise(0.0, 0.0))]
