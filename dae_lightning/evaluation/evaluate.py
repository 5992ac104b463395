"""Checkpoints against floors and ceilings: the same test images, with the same noise, through every method."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dae_lightning import config
from dae_lightning.data.chunks import ChunkLoader
from dae_lightning.data.datamodule import EVAL_BATCH, as_float
from dae_lightning.evaluation.estimators import Estimate, Fixed, Unsuited
from dae_lightning.evaluation.inputs import load_images, recorded_data
from dae_lightning.evaluation.methods import Condition, Method, chosen, level_name, make_conditions, model_methods
from dae_lightning.evaluation.photographs import evaluate_photographs
from dae_lightning.evaluation.probe import probe
from dae_lightning.evaluation.report import evaluation_table, write_csv, write_json
from dae_lightning.figures import Curve, Examples, curve_figure, examples_figure, probe_figure, save_figure
from dae_lightning.model.autoencoder import load_model
from dae_lightning.model.metrics import ImageQuality
from dae_lightning.model.noise import corrupt_each

PATIENCE = 60.0  # seconds; a method that takes longer is announced
SCORES = ("psnr", "psnr_ci95", "ssim", "bce", "bce_excess")


@torch.no_grad()
def evaluate(settings: config.Evaluate, checkpoints: Mapping[str, Path], folder: Path) -> None:
    """Leave evaluation.csv, evaluation.json, denoising_curve.png and gallery.png in `folder`, and print a table.

    With `probe` also probe.csv and probe.png; of models of patches what `photographs.py` says. `checkpoints` are files,
    by what the user called them. Everything is computed on the CPU.

    Raises:
        CheckpointError, ConfigError, DataError: one line each.
    """
    models = {place: load_model(path) for place, path in checkpoints.items()}
    if settings.images is not None or any(model.patches for model in models.values()):
        evaluate_photographs(settings, models, checkpoints, folder)
        return
    conditions = make_conditions(settings, models)
    methods = [*model_methods(models), *chosen(settings.methods)]
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

    one_level = {place for place, model in models.items() if len(model.noise.levels()) == 1}
    specialists = one_level if len(models) > 1 else set()
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    batches = ChunkLoader(test.images, EVAL_BATCH)
    steps = len(batches) * len(noises)  # reconstruction takes next to no time
    with tqdm(total=steps, unit=" batches", disable=None, dynamic_ncols=True, leave=False) as bar:
        for condition in conditions:
            fitted = fit(methods, train.images, condition, left_out, bar)
            measured = measure(condition, fitted, batches, seed, bar)
            best = max((row["psnr"] for row in measured if row["checkpoint"] in specialists), default=math.nan)
            rows += [row | {"regret": round(best - row["psnr"], 6)} for row in measured]
            if condition.level == shown:
                gallery |= {method.title: estimate(noisy) for method, estimate in fitted if method.in_gallery}
    by_title = {
        method.title: [row for row in rows if (row["method"], row["checkpoint"]) == (method.name, method.checkpoint)]
        for method in methods
    }

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
        titles = {method.checkpoint: method.title for method in methods if method.name == "model"}
        save_figure(probe_figure(accuracies, titles, level), folder / "probe.png")
    print(f"tables and figures: {folder}")


def fit(
    methods: Sequence[Method], train: Tensor, condition: Condition, left_out: dict[str, str], bar: "tqdm[Any]"
) -> list[tuple[Method, Estimate]]:
    """The methods that suit the condition, fitted; the reasons why others do not go to `left_out`, by name."""
    fitted = []
    for method in methods:
        if condition.task not in method.tasks:
            continue
        said = f"{condition.title}: fitting {method.title}"
        bar.set_description(said)
        if bar.disable and not isinstance(method.fit, Fixed):  # in a log, where there is no bar
            print(said, file=sys.stderr, flush=True)
        try:
            fitted.append((method, method.fit(train, condition.noise)))
        except Unsuited as error:
            left_out[method.name] = str(error)
    return fitted


def measure(
    condition: Condition, fitted: Sequence[tuple[Method, Estimate]], batches: ChunkLoader, seed: int, bar: "tqdm[Any]"
) -> list[dict[str, Any]]:
    """A row of evaluation.csv for each of the methods on the test images (N, *input_shape) uint8 of `batches`.

    The noise on image i is a function of `seed`, the condition and i alone. A row's `sigma` is the noise's level: of
    masking and salt-and-pepper noise the probability. Scores are rounded to six decimals, below which machines differ.
    """
    qualities = [ImageQuality() for _ in fitted]
    bar.set_description(condition.title)
    for place, (batch, indices) in enumerate(batches):
        clean = as_float(batch)
        noisy = corrupt_each(condition.noise, clean, seed, indices)
        for (method, estimate), quality in zip(fitted, qualities, strict=True):
            began = time.perf_counter()
            logits = method.logits(noisy)
            quality.update(estimate(noisy) if logits is None else torch.sigmoid(logits), clean, logits)
            expected = (time.perf_counter() - began) * len(batches)
            if place == 0 and expected > PATIENCE:
                bar.write(f"{condition.title}: {method.title} takes about {expected / 60:.0f} min", file=sys.stderr)
        if condition.level is not None:
            bar.update()
    rows = []
    for (method, _), quality in zip(fitted, qualities, strict=True):
        scores = quality.compute() | {"psnr_ci95": quality.ci95()["psnr"]}
        row = {"method": method.name, "checkpoint": method.checkpoint, "task": condition.task, "sigma": condition.level}
        row["images"] = len(batches.images)
        rows.append(row | {name: round(float(scores[name]), 6) for name in SCORES})
    return rows
