"""gallery.png: the same test images through the models of a sweep."""

from collections.abc import Sequence
from textwrap import fill

import torch

from dae_lightning.cli.run_folders import find_checkpoint
from dae_lightning.evaluation.inputs import load_images, recorded_data
from dae_lightning.figures import Examples, examples_figure, save_figure
from dae_lightning.model.autoencoder import load_model
from dae_lightning.sweeps.sweep import PSNR, Setting, Sweep

MODELS, IMAGES = 12, 6  # at most so many rows, and images in each


@torch.no_grad()
def draw(sweep: Sweep) -> None:
    """Write the picture: a row per setting, of the first finished job's model, its own noise left, its answer right.

    Raises:
        CheckpointError, DataError: a checkpoint or the images of its training cannot be read, or models do not share
            images.
    """
    (sweep.folder / "gallery.png").unlink(missing_ok=True)  # that of an earlier summary shows other models
    finished = [setting for setting in sweep.settings if setting.finished]
    shown = spread(finished)
    checkpoints = [find_checkpoint(setting.finished[0].folder) for setting in shown]
    models = {str(path): load_model(path) for path in checkpoints}
    test = load_images(recorded_data({str(path): path for path in checkpoints}), models).test
    examples = Examples.choose(test.images, IMAGES, 0)
    clean, gap = examples.clean, torch.ones_like(examples.clean[:1])

    rows = {"original": torch.cat([clean, gap, clean])}
    for setting, model in zip(shown, models.values(), strict=True):
        noisy, sigma = model.corrupt_fixed(clean, examples.indices), model.fixed_sigma(clean, examples.indices)
        rows[label(sweep, setting)] = torch.cat([noisy, gap, model.network(noisy, *sigma)])
    title = "the same test images through the models"
    if len(shown) < len(finished):
        title += f" of {len(shown)} of {len(finished)} settings, spread over the grid"
    save_figure(examples_figure(rows, f"{title}: noisy left, denoised right"), sweep.folder / "gallery.png")


def spread(settings: Sequence[Setting]) -> list[Setting]:
    """All of them, or MODELS, evenly over the grid from its first to its last."""
    count = min(len(settings), MODELS)
    return [settings[round(place * (len(settings) - 1) / max(1, count - 1))] for place in range(count)]


def label(sweep: Sweep, setting: Setting) -> str:
    """What a row is called: its values, and the PSNR of denoising."""
    values = ", ".join(
        f"{key.split('.')[-1]}\N{NO-BREAK SPACE}{value}"
        for key, value in zip(sweep.axes, setting.values, strict=True)
        if value
    )
    score = setting.finished[0].scores[PSNR]
    return f"{fill(values, 24) or 'model'}\n{'' if score is None else f'{score:.2f} dB'}"
