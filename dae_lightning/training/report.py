"""What a finished training leaves: its test results, on the terminal and in results.json, and its figures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from dae_lightning import config
from dae_lightning.data.datamodule import ImageDataModule, as_float
from dae_lightning.errors import TrainingError
from dae_lightning.evaluation.estimators import mean_image, score
from dae_lightning.evaluation.report import Scores, run_table, versions, write_json
from dae_lightning.figures import Examples, loss_figure, save_figure
from dae_lightning.model.autoencoder import DenoisingAutoencoder, load_model
from dae_lightning.model.metrics import TASKS


def report(
    settings: config.Train,
    data: ImageDataModule,
    folder: Path,
    trainer: pl.Trainer,
    model: pl.LightningModule,
    rows: list[dict[str, float]],  # of metrics.csv
    best: float | None,
    device: str,
) -> float:
    """Test the best weights, or those of `model` where none are saved; print scores, write results.json and figures.

    Returns:
        The monitored score of these weights, which is `best`; where nothing is held out, the last training loss.
    """
    if not rows:
        raise TrainingError("no epoch was finished (trainer.max_time, trainer.max_steps): nothing to test")
    chosen = folder / "checkpoints" / ("last.ckpt" if best is None else "best.ckpt")
    tested: Any = load_model(chosen) if chosen.exists() else model  # with trainer.fast_dev_run there is none
    scores = _test(trainer, tested, data)
    print(run_table(scores))
    seconds = sum(row["seconds"] for row in rows)
    seen = sum(row["seconds"] * row["images_per_second"] for row in rows)
    facts: dict[str, Any] = {
        "test": scores,
        "epochs": len(rows),
        "optimizer_steps": int(rows[-1]["step"]),
        "fit_seconds": seconds,
        "images_per_second": seen / seconds,
        "seed": settings.seed,
        "device": device,
        "versions": versions(),
        "config": settings.model_dump(serialize_as_any=True),
    }
    write_json(folder / "results.json", facts)
    if settings.figures:
        save_figure(loss_figure(rows, settings.loss), folder / "figures" / "loss.png")
        for name, title, images in (
            ("train", "training images", data.train.images),
            ("test", "test images, never seen in training", data.test.images),
        ):
            examples = Examples.choose(images, settings.examples, settings.eval_seed)
            save_figure(examples.figure(tested, title), folder / "figures" / f"{name}_examples.png")
    print(f"checkpoints, metrics, results{' and figures' if settings.figures else ''}: {folder}")
    return rows[-1]["train/loss"] if best is None else best


def _test(trainer: pl.Trainer, model: DenoisingAutoencoder, data: ImageDataModule) -> dict[str, Scores]:
    """The scores of the model and of two floors under it on the same test images with the same noise."""
    (metrics,) = trainer.test(model, datamodule=data, verbose=False)
    scores: Scores = {task: {} for task in TASKS}
    for name, value in metrics.items():
        _, task, metric = name.split("/")
        scores[task][metric] = value
    model.cpu()

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        batches = range(int(trainer.num_test_batches[0]))  # fewer than all under trainer.limit_test_batches
        for _, (images, indices) in zip(batches, data.test_dataloader(), strict=False):
            clean = as_float(images)
            yield clean, model.corrupt_fixed(clean, indices)

    return {
        "model": scores,
        "noisy_input": score(lambda noisy: noisy, pairs()),
        "mean_image": score(mean_image(data.train.images, model.noise), pairs()),
    }
