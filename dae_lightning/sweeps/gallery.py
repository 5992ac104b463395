"""gallery.png: the same test images through the models of a sweep."""

from collections.abc import Mapping, Sequence
from math import prod
from textwrap import fill

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dae_lightning.cli.run_folders import find_checkpoint
from dae_lightning.evaluation.inputs import load_images, recorded_data
from dae_lightning.figures import INK, Examples, montage, save_figure
from dae_lightning.model.autoencoder import load_model
from dae_lightning.sweeps.sweep import PSNR, Setting, Sweep

MODELS, IMAGES = 12, 6  # at most so many rows, and images in each


@torch.no_grad()
def draw(sweep: Sweep) -> None:
    """Write the picture: a row per setting, of the first finished job's model, with its own noise beside its answer.

    Raises:
        CheckpointError, DataError: a checkpoint or the images of its training cannot be read, or models do not share
            images.
    """
    (sweep.folder / "gallery.png").unlink(missing_ok=True)  # that of an earlier summary shows other models
    finished = [setting for setting in sweep.settings if setting.finished]
    shown = spread(sweep, finished)
    places = {setting: find_checkpoint(setting.finished[0].folder) for setting in shown}
    checkpoints = {str(place): place for place in places.values()}
    models = {place: load_model(path) for place, path in checkpoints.items()}
    test = load_images(recorded_data(checkpoints), models).test
    examples = Examples.choose(test.images, IMAGES, 0)

    rows = {}
    for setting, place in places.items():
        model = models[str(place)]
        noisy = model.corrupt_fixed(examples.clean, examples.indices)
        rows[label(sweep, setting)] = (noisy, model(noisy))
    title = "the same test images through the models"
    if len(shown) < len(finished):
        title += f" of {len(shown)} of {len(finished)} settings, spread over the grid"
    save_figure(gallery_figure(examples.clean, rows, title), sweep.folder / "gallery.png")


def spread(sweep: Sweep, settings: Sequence[Setting]) -> list[Setting]:
    """All of them, or at most MODELS: where there are too many, every axis keeps its ends and values between."""
    if len(settings) <= MODELS:
        return list(settings)
    counts = [len(values) for values in sweep.axes.values()]
    while prod(counts) > MODELS:
        counts[counts.index(max(counts))] -= 1
    kept = [
        {values[round(place * (len(values) - 1) / max(1, count - 1))] for place in range(count)}
        for values, count in zip(sweep.axes.values(), counts, strict=True)
    ]
    shown = [s for s in settings if all(value in of_axis for value, of_axis in zip(s.values, kept, strict=True))]
    return shown or list(settings[:MODELS])  # of a grid full of holes these may be all missing


def label(sweep: Sweep, setting: Setting) -> str:
    """What a row is called: its values, and the PSNR of denoising."""
    values = ", ".join(
        f"{key.split('.')[-1]}\N{NO-BREAK SPACE}{value}"
        for key, value in zip(sweep.axes, setting.values, strict=True)
        if value
    )
    score = setting.finished[0].scores[PSNR]
    return f"{fill(values, 24) or 'model'}\n{'' if score is None else f'{score:.2f} dB'}"


def gallery_figure(clean: Tensor, rows: Mapping[str, tuple[Tensor, Tensor]], title: str) -> Figure:
    """Noisy images left, denoised ones right; `clean` and both of each row are (N, H, W) or (N, 3, H, W)."""
    walls = [montage([clean, *(pair[side] for pair in rows.values())]) for side in (0, 1)]
    rows_of_wall, columns = walls[0].shape[:2]
    scale = 0.5 * len(clean) / columns  # inches per pixel, of tiles half an inch wide
    figure = Figure(figsize=(2.1 * scale * columns, scale * rows_of_wall), dpi=120)
    # labels and titles lie outside: they take the space that they need
    axes_of_walls = figure.subplots(1, 2, gridspec_kw={"left": 0, "right": 1, "bottom": 0, "top": 1, "wspace": 0.05})
    for axes, wall, name in zip(axes_of_walls, walls, ("noisy", "denoised"), strict=True):
        axes.imshow(wall.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(name, fontsize=9, color=INK)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    left = axes_of_walls[0]
    tile = rows_of_wall / (len(rows) + 1)
    left.set_yticks([(row + 0.5) * tile for row in range(len(rows) + 1)], ["original", *rows], fontsize=8, color=INK)
    left.tick_params(length=0)
    figure.suptitle(title, fontsize=10, color=INK, y=1 + 0.3 / figure.get_figheight(), va="bottom")
    return figure
