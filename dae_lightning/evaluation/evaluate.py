"""Checkpoints against floors and ceilings: the same test images, with the same noise, through every method."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dae_lightning import config
from dae_lightning.data.chunks import ChunkLoader
from dae_lightning.data.datamodule import EVAL_BATCH, as_float
from dae_lightning.errors import CheckpointError
from dae_lightning.evaluation.estimators import Estimator, Fixed, MeanImage, PosteriorMean, Unsuited, Wiener
from dae_lightning.evaluation.filters import FILTERS, Filter
from dae_lightning.evaluation.inputs import load_images, recorded_data
from dae_lightning.evaluation.probe import probe
from dae_lightning.evaluation.report import evaluation_table, write_csv, write_json
from dae_lightning.figures import Curve, Examples, curve_figure, examples_figure, probe_figure, save_figure
from dae_lightning.model.autoencoder import DenoisingAutoencoder, load_model
from dae_lightning.model.metrics import TASKS, ImageQuality
from dae_lightning.model.noise import GaussianNoise, Noise, corrupt_each

PATIENCE = 60.0  # seconds; a method that takes longer is announced
SCORES = ("psnr", "psnr_ci95", "ssim", "bce", "bce_excess")
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
    """An estimator, its names in files (`name`, `checkpoint`) and in tables and figures (`title`), and what it is for.

    Reconstruction, of clean images, says something of a model (what its bottleneck loses) and of the mean image, which
    ignores its input; the other methods, told that there is no noise, return what they get.
    """

    name: str
    estimator: Estimator
    tasks: tuple[str, ...] = ("denoising",)
    logits: Callable[[Tensor], Tensor | None] = lambda noisy: None  # their sigmoid is the estimate; for an exact BCE
    in_gallery: bool = True  # and within the frame of denoising_curve.png
    checkpoint: str = ""
    model_title: str = ""

    @property
    def title(self) -> str:
        return self.model_title or self.name.replace("_", " ")


def make_methods(names: Sequence[str], models: Models) -> list[Method]:
    """The models, then the methods of these names."""
    known = [
        Method("noisy", Fixed(lambda noisy: noisy), in_gallery=False),
        Method("noisy_clipped", Fixed(lambda noisy: noisy.clamp(0, 1)), in_gallery=False),
        Method("mean_image", MeanImage(), TASKS),
        Method("wiener", Wiener()),
        Method("posterior_mean", PosteriorMean()),
        *(Method(name, Filter(denoise)) for name, denoise in FILTERS.items()),
    ]
    by_name = {method.name: method for method in known}
    titles = model_titles(models)
    return [
        *(
            Method("model", Fixed(model.network), TASKS, model.network.logits, True, place, titles[place])
            for place, model in models.items()
        ),
        *(by_name[name] for name in names),
    ]


def model_titles(models: Models) -> dict[str, str]:
    """What models are called in figures: by the noise of their training, where that is the same also by place."""
    if len(models) == 1:
        return dict.fromkeys(models, "model")
    titles = {
        place: f"model ({level_name(model.noise)} {' to '.join(f'{level:g}' for level in model.noise.levels())})"
        for place, model in models.items()
    }
    all_titles = list(titles.values())
    return {place: title if all_titles.count(title) == 1 else f"{title}, {place}" for place, title in titles.items()}


def level_name(noise: Noise) -> str:
    """What the level of a process is called; one that has none is tested as it was trained, at strength 1."""
    return noise.level or "strength (as trained: 1)"


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


@torch.no_grad()
def evaluate(settings: config.Evaluate, checkpoints: Mapping[str, Path], folder: Path) -> None:
    """Leave evaluation.csv, evaluation.json, denoising_curve.png and gallery.png in `folder`, and print a table.

    With `probe` also probe.csv and probe.png. `checkpoints` are files, by what the user called them. Everything is
    computed on the CPU.

    Raises:
        CheckpointError, DataError: one line each.
    """
    models = {place: load_model(path) for place, path in checkpoints.items()}
    conditions = make_conditions(settings, models)
    methods = make_methods(settings.methods, models)
    data = settings.data or recorded_data(checkpoints)
    images = load_images(data, models)
    train = images.for_training()  # with those that a run held out: they chose its checkpoint
    test = images.test.take(slice(settings.limit))
    seed = settings.eval_seed

    first = next(iter(models.values())).noise
    level, trained = level_name(first), first.levels()
    noises = [(condition.level, condition.noise) for condition in conditions if condition.level is not None]
    shown, noise = min(noises, key=lambda pair: abs(pair[0] - sum(trained) / len(trained)))
    examples = Examples.choose(test.images, settings.examples, seed)
    noisy = corrupt_each(noise, examples.clean, seed, examples.indices)
    gallery = {"original": examples.clean, "noisy": noisy}

    rows: list[dict[str, Any]] = []
    by_title: dict[str, list[dict[str, Any]]] = {method.title: [] for method in methods}
    left_out: dict[str, str] = {}
    for condition in conditions:
        suited = fit(methods, train.images, condition, left_out)
        for method, row in zip(suited, measure(condition, suited, test.images, seed), strict=True):
            rows.append(row)
            by_title[method.title].append(row)
        if condition.level == shown:
            gallery |= {method.title: method.estimator(noisy) for method in suited if method.in_gallery}

    print(evaluation_table(by_title, level))
    for name, reason in left_out.items():
        print(f"left out: {name} {reason}")
    write_csv(folder / "evaluation.csv", rows)
    facts = {
        "images": len(test.images),
        "data": data.model_dump(),
        "noise": noise.kind,
        "noise_mean": float(first.settings().get("mean", 0.0)),  # of Gaussian noise; others have none
        "eval_seed": seed,
        "checkpoints": {place: dict(model.hparams) for place, model in models.items()},
        "left_out": left_out,
        "rows": rows,
    }
    write_json(folder / "evaluation.json", facts)
    curves = {
        method.title: Curve(
            [(row["sigma"], row["psnr"]) for row in by_title[method.title] if row["sigma"] is not None],
            models[method.checkpoint].noise.levels() if method.checkpoint else (),
            method.in_gallery,
        )
        for method in methods
        if by_title[method.title]
    }
    save_figure(curve_figure(curves, level), folder / "denoising_curve.png")
    title = f"the same {len(examples.clean)} test images, {level} {shown:g}"
    save_figure(examples_figure(gallery, title), folder / "gallery.png")
    if settings.probe:
        accuracies = probe(models, train, test, noises, seed)
        write_csv(folder / "probe.csv", accuracies)
        save_figure(probe_figure(accuracies, model_titles(models), level), folder / "probe.png")
    print(f"tables and figures: {folder}")


def fit(methods: Sequence[Method], train: Tensor, condition: Condition, left_out: dict[str, str]) -> list[Method]:
    """Those of the methods that suit the condition, fitted; the reasons why others do not go to `left_out`, by name."""
    suited = []
    chosen = [method for method in methods if condition.task in method.tasks]
    with tqdm(chosen, unit=" methods", disable=None, dynamic_ncols=True, leave=False) as bar:
        for method in bar:
            bar.set_description(f"{condition.title}: fitting {method.title}")
            try:
                method.estimator.fit(train, condition.noise)
                suited.append(method)
            except Unsuited as error:
                left_out[method.name] = str(error)
    return suited


def measure(condition: Condition, methods: Sequence[Method], images: Tensor, seed: int) -> list[dict[str, Any]]:
    """A row of evaluation.csv for each of the fitted `methods` on test `images` (N, *input_shape) uint8.

    The noise on image i is a function of `seed`, the condition and i alone. A row's `sigma` is the noise's level: of
    masking and salt-and-pepper noise the probability. Scores are rounded to six decimals, below which machines differ.
    """
    qualities = [ImageQuality() for _ in methods]
    batches = ChunkLoader(images, EVAL_BATCH)
    bar = tqdm(batches, condition.title, unit=" batches", disable=None, dynamic_ncols=True, leave=False)
    for place, (batch, indices) in enumerate(bar):
        clean = as_float(batch)
        noisy = corrupt_each(condition.noise, clean, seed, indices)
        for method, quality in zip(methods, qualities, strict=True):
            began = time.perf_counter()
            logits = method.logits(noisy)
            quality.update(method.estimator(noisy) if logits is None else torch.sigmoid(logits), clean, logits)
            expected = (time.perf_counter() - began) * len(batches)
            if place == 0 and expected > PATIENCE:
                bar.write(f"{condition.title}: {method.title} takes about {expected / 60:.0f} min", file=sys.stderr)
    rows = []
    for method, quality in zip(methods, qualities, strict=True):
        scores = quality.compute() | {"psnr_ci95": quality.ci95()["psnr"]}
        row = {"method": method.name, "checkpoint": method.checkpoint, "task": condition.task, "sigma": condition.level}
        rows.append(row | {"images": len(images)} | {name: round(float(scores[name]), 6) for name in SCORES})
    return rows
