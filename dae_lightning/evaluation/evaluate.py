"""Checkpoints against floors and ceilings: the same test images, with the same noise, through every method."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dae_lightning import config
from dae_lightning.data.splits import ImageSet
from dae_lightning.evaluation.conditions import (
    Condition,
    level_name,
    make_conditions,
    nearest,
    noise_mean,
)
from dae_lightning.evaluation.estimators import Unsuited
from dae_lightning.evaluation.inputs import load_images, recorded_data
from dae_lightning.evaluation.methods import Method, make_methods, measure, model_titles
from dae_lightning.evaluation.probe import probe
from dae_lightning.evaluation.report import Row, table, write_csv
from dae_lightning.evaluation.results import write_results
from dae_lightning.examples import Examples
from dae_lightning.figures import curve_figure, examples_figure, probe_figure, save_figure
from dae_lightning.model.autoencoder import load_model
from dae_lightning.model.noise import corrupt_each


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
    train, test = load_images(data, models)
    test = ImageSet(test.images[: settings.limit], None if test.labels is None else test.labels[: settings.limit])
    seed = settings.eval_seed

    first = next(iter(models.values())).noise
    level, trained = level_name(first), first.levels()
    shown = nearest(conditions, sum(trained) / len(trained))
    examples = Examples.choose(test.images, settings.examples, seed)
    noisy = corrupt_each(shown.noise, examples.clean, seed, examples.indices)
    gallery = {"original": examples.clean, "noisy": noisy}

    rows: list[Row] = []
    left_out: dict[str, str] = {}
    with tqdm(total=len(test.images) * len(conditions), unit=" images", disable=None, dynamic_ncols=True) as bar:
        for condition in conditions:
            bar.set_description(f"{condition.task} {'' if condition.level is None else condition.level}")
            suited = fit(methods, train.images, condition, left_out)
            rows += measure(condition, suited, test.images, seed, bar.update)
            if condition is shown:
                gallery |= {m.title: m.estimator(noisy) for m in suited if not m.name.startswith("noisy")}

    titles = {(method.name, method.checkpoint): method.title for method in methods}
    print(table(rows, titles, level))
    for name, reason in left_out.items():
        print(f"left out: {name} {reason}")
    write_csv(folder / "evaluation.csv", [row.rounded() for row in rows])
    facts = {
        "images": len(test.images),
        "data": data.model_dump(),
        "noise": conditions[0].noise.kind,
        "noise_mean": noise_mean(first),
        "eval_seed": seed,
        "checkpoints": {place: dict(model.hparams) for place, model in models.items()},
        "left_out": left_out,
        "rows": [row.rounded() for row in rows],
    }
    write_results(folder / "evaluation.json", facts)
    named = model_titles(models)
    marks = {named[place]: model.noise.levels() for place, model in models.items()}
    save_figure(curve_figure(_curves(rows, titles), marks, level), folder / "denoising_curve.png")
    title = f"the same {len(examples.clean)} test images, {level} {shown.level:g}"
    save_figure(examples_figure(gallery, title), folder / "gallery.png")
    if settings.probe:
        noises = [(condition.level, condition.noise) for condition in conditions if condition.level is not None]
        accuracies = probe(models, train, test, noises, seed)
        write_csv(folder / "probe.csv", accuracies)
        save_figure(probe_figure(accuracies, named, level), folder / "probe.png")
    print(f"tables and figures: {folder}")


def fit(methods: Sequence[Method], train: Tensor, condition: Condition, left_out: dict[str, str]) -> list[Method]:
    """Those of the methods that mean something here, fitted; why the others do not goes to `left_out`, by name."""
    suited = []
    for method in methods:
        if condition.includes(method.name):
            try:
                method.estimator.fit(train, condition.noise)
                suited.append(method)
            except Unsuited as error:
                left_out[method.name] = str(error)
    return suited


def _curves(rows: Sequence[Row], titles: Mapping[tuple[str, str], str]) -> dict[str, list[tuple[float, float]]]:
    """Points (level, PSNR) by title."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.sigma is not None:
            curves.setdefault(titles[row.method, row.checkpoint], []).append((row.sigma, row.psnr))
    return curves
