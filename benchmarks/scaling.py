"""How the cost grows with the work: latent size, batch size, number of images, epochs, and jobs of one process.

    python -m benchmarks.scaling [PICTURE]

Trainings as shipped (checkpoints, metrics.csv, progress bar) on random images of 28x28, two threads, the CPU; one
epoch behind one that is not timed, three rounds in turns, medians. Memory is what the process holds. Claims:

- time per image grows no faster than the latent size, does not grow with the batch size, nor with the images;
- memory stays as it is over the epochs of a run and over the runs of a process.
"""

import contextlib
import gc
import io
import itertools
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure

from dae_lightning import config
from dae_lightning.cli.hydra_app import CONF, checked
from dae_lightning.data.datamodule import ImageDataModule
from dae_lightning.data.splits import ImageSet, Splits
from dae_lightning.figures import DENOISING, TRAINING, save_figure
from dae_lightning.signals import StopSignal
from dae_lightning.training.callbacks import History, TrainingBar
from dae_lightning.training.checkpoints import Checkpoints
from dae_lightning.training.setup import make_model, make_trainer

AXES = {  # key -> values; the others stay at the first experiment of the notebook, on 8,000 images
    "latent": [32, 64, 128, 256, 512, 1024],
    "batch_size": [32, 128, 512, 1024, 4096],
    "images": [8_000, 15_000, 30_000, 60_000],
}
NOTEBOOK = {"latent": 256, "batch_size": 32, "images": 8_000}
ROUNDS, EPOCHS, RUNS = 3, 40, 12
NOISE = 1.3  # what the machine's timings may differ by


@dataclass(frozen=True)
class RandomImages:
    count: int

    def prepare(self) -> None:
        """Nothing."""

    def load(self) -> Splits:
        images = torch.randint(256, (self.count, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return Splits(ImageSet(images, None), ImageSet(images[:100], None))


class Epochs(pl.Callback):
    """Calls `measure` when an epoch starts, and when the last one is over with its checkpoint."""

    def __init__(self, measure: Callable[[], float]) -> None:
        self.measure, self.values = measure, list[float]()

    def on_train_epoch_start(self, *_: Any) -> None:
        self.values.append(self.measure())

    def on_train_end(self, *_: Any) -> None:
        self.values.append(self.measure())


def fit(measure: Callable[[], float], epochs: int, latent: int, batch_size: int, images: int) -> list[float]:
    """What `measure` gives at the start of every epoch of a training, and at its end."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = ["trainer=cpu", f"trainer.max_epochs={epochs}", f"latent={latent}", f"batch_size={batch_size}"]
        settings = checked(compose("train", overrides), config.Train)
    data = ImageDataModule(RandomImages(images), batch_size, settings.steps_per_execution, 0)
    data.setup()
    measured = Epochs(measure)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        callbacks = [
            History(Path(folder, "metrics.csv")),
            Checkpoints(Path(folder), settings.data, settings.checkpoint, StopSignal()),
            TrainingBar(),
            measured,
        ]
        trainer = make_trainer(settings, Path(folder), data, callbacks)
        trainer.fit(make_model(settings, (28, 28)), datamodule=data)
    return measured.values


def microseconds_per_image(**work: int) -> float:
    _, start, end = fit(time.perf_counter, 2, **work)
    return (end - start) / work["images"] * 1e6


def resident_memory() -> float:
    """Of this process now, in MB. (Linux)"""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def cost() -> dict[str, list[float]]:
    """Microseconds per image, a median for every value of every axis."""
    rounds = [
        {axis: [microseconds_per_image(**NOTEBOOK | {axis: v}) for v in values] for axis, values in AXES.items()}
        for _ in range(ROUNDS)
    ]
    return {
        axis: [statistics.median(column) for column in zip(*(r[axis] for r in rounds), strict=True)] for axis in AXES
    }


def memory() -> dict[str, list[float]]:
    """MB over the epochs of one run, and over runs of one process."""
    runs = []
    for _ in range(RUNS):
        fit(time.perf_counter, 1, **NOTEBOOK)
        runs.append(resident_memory())
    return {"epoch": fit(resident_memory, EPOCHS, **NOTEBOOK), "run": runs}


def draw(costs: dict[str, list[float]], memories: dict[str, list[float]]) -> Figure:
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    upper, lower = figure.subplots(2, 3)
    for axes, (axis, values) in zip(upper, costs.items(), strict=True):
        axes.loglog(AXES[axis], values, "o-", color=TRAINING, label="measured")
        if axis == "latent":
            linear = [values[-1] * size / AXES[axis][-1] for size in AXES[axis]]
            axes.plot(AXES[axis], linear, ":", color="#777777", label="proportional to the latent size")
            axes.legend(frameon=False)
        axes.set(xlabel=axis.replace("_", " "), ylabel="microseconds per image", ylim=(4, 400))
        axes.set_yticks([5, 10, 20, 50, 100, 200], ["5", "10", "20", "50", "100", "200"])
        axes.set_xticks(AXES[axis], [f"{value:,}" for value in AXES[axis]])
        axes.minorticks_off()
    for axes, (axis, values) in zip(lower, memories.items(), strict=False):
        axes.plot(range(1, len(values) + 1), values, color=DENOISING)
        axes.set(xlabel=axis, ylabel="memory of the process, MB", ylim=(0, 1.2 * max(values)))
    lower[2].axis("off")
    for axes in (*upper, *lower):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(picture: str | None) -> bool:
    costs, memories = cost(), memory()
    claims = {}
    for axis, values in costs.items():
        print(f"{axis:12}", "   ".join(f"{v:,}: {us:.1f} us" for v, us in zip(AXES[axis], values, strict=True)))
        grown = max(b / a for i, a in enumerate(values) for b in values[i + 1 :])
        claims[f"time per image, {axis}"] = grown, NOISE
    latent = costs["latent"]
    claims["time per image, latent"] = (
        max(b / a / (AXES["latent"][i + 1] / AXES["latent"][i]) for i, (a, b) in enumerate(itertools.pairwise(latent))),
        NOISE,
    )
    for axis, values in memories.items():
        # the first ones fill the allocator's pools
        claims[f"memory, {axis} 4 to {len(values)}, MB"] = values[-1] - values[3], 10.0
    for name, (value, allowed) in claims.items():
        print(f"{name:30} {value:6.2f}   (at most {allowed})")
    if picture:
        save_figure(draw(costs, memories), Path(picture))
    return all(value <= allowed for value, allowed in claims.values())


if __name__ == "__main__":
    torch.set_num_threads(2)
    warnings.filterwarnings("ignore")
    sys.exit(not main(sys.argv[1] if len(sys.argv) > 1 else None))
