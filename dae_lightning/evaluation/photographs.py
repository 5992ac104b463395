"""Models of patches beside classical denoisers on whole photographs, as the literature compares them.

Grey photographs, Gaussian noise that is a function of the seed and of a photograph's place in the folder; PSNR and SSIM
of each photograph, and their means.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dae_lightning import config
from dae_lightning.data.datamodule import as_float
from dae_lightning.errors import CheckpointError, ConfigError, DataError, printable
from dae_lightning.evaluation.filters import FILTERS
from dae_lightning.evaluation.photograph_inputs import crop, find_photographs, read_grey, training_crops
from dae_lightning.evaluation.photograph_methods import Method, classical, names_or_default, of_models, strengths_of
from dae_lightning.evaluation.report import photographs_table, write_csv, write_json
from dae_lightning.figures import examples_figure, save_figure
from dae_lightning.inference.photographs import STRIDE
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.model.metrics import psnr, ssim
from dae_lightning.model.noise import GaussianNoise, corrupt_each
from dae_lightning.randomness import generator

SIGMAS = (15 / 255, 25 / 255, 50 / 255)
SHOWN = 128  # the side of what the gallery shows of a photograph
SCORES = ("psnr", "ssim", "seconds")
Row = dict[str, Any]


@torch.no_grad()
def evaluate_photographs(
    settings: config.Evaluate, models: Mapping[str, DenoisingAutoencoder], paths: Mapping[str, Path], folder: Path
) -> None:
    """Leave evaluation.csv, evaluation.json and gallery.png in `folder`, and print a table.

    `models` and `paths` are by what the user called the checkpoints.

    Raises:
        CheckpointError, ConfigError, DataError: one line each.
    """
    names, sigmas = names_or_default(settings.methods), settings.sigmas or SIGMAS
    check(settings, models, names)
    files = dict(list(find_photographs(Path(settings.images or "")).items())[: settings.limit])
    crops = training_crops(next(iter(paths.values())))
    strengths = strengths_of(names, sigmas, crops)
    methods = [*of_models(models, settings.stride), *classical(names, strengths)]
    clips = sorted({False, *(bool(getattr(model.noise, "clip", False)) for model in models.values())})
    noises = [GaussianNoise(0.0, sigma, clip) for clip in clips for sigma in sigmas]
    shown = noises[(len(sigmas) - 1) // 2]
    chosen = torch.randperm(len(files), generator=generator(settings.eval_seed, "examples"))[: settings.examples]

    rows: list[Row] = []
    gallery: dict[str, list[Tensor]] = {}
    total = len(files) * len(noises) * len(methods)
    with tqdm(total=total, unit=" results", disable=None, dynamic_ncols=True, leave=False) as bar:
        for number, (name, file) in enumerate(files.items()):
            clean = read_clean(file, models)
            for noise in noises:
                noisy = corrupt_each(noise, clean[None], settings.eval_seed, torch.tensor([number]))[0]
                results = {"original": clean, "noisy": noisy}
                for method in methods:
                    bar.set_description(f"{printable(name)}, sigma {255 * noise.sigma:.3g}/255, {method.title}")
                    row, denoised = measure(method, noisy, clean, noise)
                    rows.append(row | {"picture": name})
                    results |= {method.title: denoised} if method.in_gallery else {}
                    bar.update()
                if number in chosen and noise is shown:
                    for title, result in results.items():
                        gallery.setdefault(title, []).append(crop(result, SHOWN))
    rows += means(rows)

    titles = {(method.name, method.checkpoint): method.title for method in methods}
    print(photographs_table([row for row in rows if row["picture"] == "mean"], titles, len(files)))
    if settings.methods is None and not strengths:
        print("left out: total_variation, nl_means and wavelet, which need the extra [baselines]")
    if strengths:
        best = "" if crops is None else f"the best on {len(crops)} crops of the training's photographs"
        print(f"strengths of the filters: {best or 'the usual ones'}")
    write_csv(folder / "evaluation.csv", rows)
    facts = {
        "images": len(files),
        "eval_seed": settings.eval_seed,
        "stride": settings.stride or STRIDE,
        "checkpoints": {place: dict(model.hparams) for place, model in models.items()},
        "strengths": {name: {f"{sigma:g}": value for sigma, value in each.items()} for name, each in strengths.items()},
        "rows": rows,
    }
    write_json(folder / "evaluation.json", facts)
    side = min(min(one.shape) for one in gallery["original"])
    tiles = {title: torch.stack([crop(one, side) for one in row]) for title, row in gallery.items()}
    title = f"middles at full resolution, sigma {255 * shown.sigma:.3g}/255"
    save_figure(examples_figure(tiles, title, zoom=1), folder / "gallery.png")
    print(f"tables and figures: {folder}")


def check(settings: config.Evaluate, models: Mapping[str, DenoisingAutoencoder], names: Sequence[str]) -> None:
    """Raises CheckpointError or ConfigError where these models or settings are not for photographs."""
    for place, model in models.items():
        if settings.images is None:
            raise CheckpointError(f"checkpoint={place}: is a model of patches; give photographs: images=FOLDER")
        if not model.patches:
            remedy = f"only for models of patches, but {place} takes {model.input_shape}; leave it out"
            raise ConfigError(f"images={settings.images}: {remedy}")
        if model.noise.level != "sigma":
            raise CheckpointError(
                f"checkpoint={place}: trained on {model.noise.title()}; photographs get Gaussian noise"
            )
    for key in ("probabilities", "probe", "data"):
        if value := getattr(settings, key):
            said = value.kind if key == "data" else str(value).lower()
            raise ConfigError(f"{key}={said}: not for photographs; leave it out")
    if unsuited := [name for name in names if name not in ("noisy", "bm3d", *FILTERS)]:
        right = ", ".join(("noisy", "bm3d", *FILTERS))
        raise ConfigError(f"methods=[{','.join(unsuited)}]: not for photographs, for which there are {right}")


def read_clean(file: Path, models: Mapping[str, DenoisingAutoencoder]) -> Tensor:
    """The luminance (H, W) of a photograph in [0, 1]; raises DataError where a model cannot take it."""
    clean = as_float(read_grey(file))
    least = max(max(model.input_shape) for model in models.values())
    if min(clean.shape) < least:
        width, height = clean.shape[::-1]
        raise DataError(f"{printable(file)} is {width}x{height} pixels; must be {least}x{least} or larger")
    return clean


def measure(method: Method, noisy: Tensor, clean: Tensor, noise: GaussianNoise) -> tuple[Row, Tensor]:
    """Most of a row of evaluation.csv, and what `method` makes of a photograph."""
    began = time.perf_counter()
    denoised = method.denoise(noisy, noise.sigma)
    seconds = time.perf_counter() - began
    row = {"method": method.name, "checkpoint": method.checkpoint, "sigma": noise.sigma, "clip": noise.clip}
    for score in (psnr, ssim):
        row[score.__name__] = round(float(score(denoised[None], clean[None])), 6)
    return row | {"seconds": round(seconds, 3)}, denoised


def means(rows: Sequence[Row]) -> list[Row]:
    """A row for each method and condition: the means over photographs."""
    keys = ("method", "checkpoint", "sigma", "clip")
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [
        dict(zip(keys, group, strict=True))
        | {"picture": "mean"}
        | {score: round(fmean(row[score] for row in members), 6) for score in SCORES}
        for group, members in groups.items()
    ]
