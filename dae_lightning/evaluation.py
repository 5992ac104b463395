"""Checkpoints against floors and ceilings: the same test images, with the same noise, through every method."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dae_lightning import config, schema
from dae_lightning.baselines import BASELINES, Estimator, Unsuited
from dae_lightning.checkpoints import load_model, read_checkpoint
from dae_lightning.data.images import Splits
from dae_lightning.data.sources import make_source
from dae_lightning.errors import CheckpointError, ConfigError
from dae_lightning.examples import Examples
from dae_lightning.figures import curve_figure, examples_figure, save_figure
from dae_lightning.measuring import Condition, Method, Network, measure
from dae_lightning.model import DenoisingAutoencoder
from dae_lightning.noise import GaussianNoise, Noise, corrupt_each, make_noise
from dae_lightning.reports import Row, table, write_csv, write_json

Models = Mapping[str, DenoisingAutoencoder]  # by what the user called their checkpoints


@torch.no_grad()
def evaluate(settings: config.Evaluate, checkpoints: Mapping[str, Path], folder: Path) -> None:
    """Leave evaluation.csv, evaluation.json, denoising_curve.png and gallery.png in `folder`, and print a table.

    `checkpoints` are files, by what the user called them. Everything is computed on the CPU.

    Raises:
        ConfigError, CheckpointError, DataError: one line each.
    """
    if settings.probe:
        raise ConfigError("probe=true: not there yet")
    models = {place: load_model(path) for place, path in checkpoints.items()}
    level_name, conditions = make_conditions(settings, models)
    methods = make_methods(settings.methods, models)
    data = settings.data or recorded_data(checkpoints)
    splits = load_images(data, models)
    test = splits.test.images[: settings.limit]
    trained = [trained_levels(model.noise) for model in models.values()]
    examples = Examples.choose(test, settings.examples, settings.eval_seed)
    shown = _nearest(conditions, sum(trained[0]) / len(trained[0]))
    noisy = corrupt_each(shown.noise, examples.clean, settings.eval_seed, examples.indices)

    rows: list[Row] = []
    gallery = {"original": examples.clean, "noisy": noisy}
    left_out: dict[str, str] = {}
    with tqdm(total=len(test) * len(conditions), unit=" images", disable=None, dynamic_ncols=True) as bar:
        for condition in conditions:
            bar.set_description(f"{condition.task} {'' if condition.level is None else condition.level}")
            suited = []
            for method in methods:
                if condition.includes(method):
                    try:
                        method.estimator.fit(splits.train.images, condition.noise)
                        suited.append(method)
                    except Unsuited as error:
                        left_out[method.name] = str(error)
            rows += measure(condition, suited, test, settings.eval_seed, bar.update)
            if condition is shown:
                gallery |= {m.title: m.estimator(noisy) for m in suited if not m.name.startswith("noisy")}

    titles = {(method.name, method.checkpoint): method.title for method in methods}
    print(table(rows, titles, level_name))
    for name, reason in left_out.items():
        print(f"left out: {name} {reason}")
    facts: dict[str, Any] = {
        "images": len(test),
        "data": asdict(data),
        "noise": conditions[0].noise.kind,
        "noise_mean": _mean(conditions[0].noise),
        "eval_seed": settings.eval_seed,
        "checkpoints": {place: dict(model.hparams) for place, model in models.items()},
        "left_out": left_out,
    }
    write_csv(folder / "evaluation.csv", rows)
    write_json(folder / "evaluation.json", facts, rows)
    marks = dict(zip(titles.values(), trained, strict=False))  # the models come first
    save_figure(curve_figure(_curves(rows, titles), marks, level_name), folder / "denoising_curve.png")
    title = f"the same {len(examples.clean)} test images, {level_name} {shown.level:g}"
    save_figure(examples_figure(gallery, title), folder / "gallery.png")
    print(f"tables and figures: {folder}")


def make_conditions(settings: config.Evaluate, models: Models) -> tuple[str, list[Condition]]:
    """What a level is called, and denoising at each of them, then reconstruction.

    Raises:
        CheckpointError: the checkpoints were trained on different processes, which no one grid suits.
    """
    processes = {(_process(model.noise), _mean(model.noise)) for model in models.values()}
    if len(processes) > 1:
        named = ", ".join(f"{place} on {model.noise}" for place, model in models.items())
        raise CheckpointError(f"checkpoint: trained on different kinds of noise ({named}); evaluate them apart")
    ((kind, mean),) = processes
    if kind == "gaussian":
        name, levels = "sigma", settings.sigmas
        noises: list[Noise] = [GaussianNoise(mean, sigma) for sigma in levels]
    else:
        name, levels = "probability", settings.probabilities
        noises = [make_noise({"kind": kind, "probability": probability}) for probability in levels]
    denoising = [Condition("denoising", level, noise) for level, noise in zip(levels, noises, strict=True)]
    return name, [*denoising, Condition("reconstruction", None, GaussianNoise(0.0, 0.0))]


def make_methods(names: Sequence[str], models: Models) -> list[Method]:
    """The models, then the methods of these names.

    Raises:
        ConfigError: one of them needs an extra that is not installed.
    """
    titles = [f"model ({_levels(model.noise)})" if len(models) > 1 else "model" for model in models.values()]
    methods = [
        Method(
            "model",
            place,
            title if titles.count(title) == 1 else f"{title} {Path(place).name}",
            Network(model),
        )
        for (place, model), title in zip(models.items(), titles, strict=True)
    ]
    return methods + [Method(name, "", name.replace("_", " "), _make_baseline(name)) for name in names]


def recorded_data(checkpoints: Mapping[str, Path]) -> config.Data:
    """The images that all these checkpoints were trained on.

    Raises:
        CheckpointError: they do not say, or they do not agree.
    """
    recorded = {place: read_checkpoint(path).get("data") for place, path in checkpoints.items()}
    found: list[config.Data] = []
    for place, data in recorded.items():
        if data is None:
            raise CheckpointError(f"checkpoint={place}: does not say what it was trained on; choose data=")
        found.append(schema.check(config.Data, data, "data"))
        if make_source(found[-1]) != make_source(found[0]):  # they may differ in what they held out
            raise CheckpointError(f"checkpoint: {place} was trained on other data than the first; choose data=")
    return found[0]


def load_images(data: config.Data, models: Models) -> Splits:
    """All training images, those that a run held out included (they chose its best checkpoint), and the test images.

    Raises:
        DataError: they cannot be read.
        CheckpointError: a model takes images of another shape.
    """
    source = make_source(data)
    source.prepare()
    splits = source.load()
    shape = tuple(splits.test.images.shape[1:])
    for place, model in models.items():
        if model.input_shape != shape:
            raise CheckpointError(
                f"checkpoint={place}: takes images of {model.input_shape}, but those of the data are {shape}"
            )
    return splits


def trained_levels(noise: Noise) -> tuple[float, ...]:
    """The level that a process has, or the ends of its range."""
    names = [name for name in ("low", "high", "sigma", "probability") if name in noise.settings()]
    return tuple(float(noise.settings()[name]) for name in names)


def _make_baseline(name: str) -> Estimator:
    if name in BASELINES:
        return BASELINES[name]()
    filters = importlib.import_module("dae_lightning.filters")  # needs the extra `baselines`

    if absent := filters.missing():
        raise ConfigError(f"methods: {name} needs {absent}")
    estimator: Estimator = filters.FILTERS[name]()
    return estimator


def _process(noise: Noise) -> str:
    """A process by the grid that suits it: Gaussian noise of one sigma or of a range of them is the same."""
    return "gaussian" if noise.kind.startswith("gaussian") else noise.kind


def _mean(noise: Noise) -> float:
    return float(noise.settings().get("mean", 0.0))


def _levels(noise: Noise) -> str:
    name = "sigma" if _process(noise) == "gaussian" else "probability"
    return f"{name} {' to '.join(f'{level:g}' for level in trained_levels(noise))}"


def _nearest(conditions: Sequence[Condition], level: float) -> Condition:
    """The condition whose level is nearest to `level`: where a picture shows the model at home."""
    with_noise = [condition for condition in conditions if condition.level is not None]
    return min(with_noise, key=lambda condition: abs((condition.level or 0.0) - level))


def _curves(rows: Sequence[Row], titles: Mapping[tuple[str, str], str]) -> dict[str, list[tuple[float, float]]]:
    """Points (level, PSNR) by title."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.sigma is not None:
            curves.setdefault(titles[row.method, row.checkpoint], []).append((row.sigma, row.psnr))
    return curves
