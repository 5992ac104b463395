"""What a finished training leaves: its test results, on the terminal and in results.json, and its figures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from dae_lightning import config
from dae_lightning.data.datamodule import ImageDataModule, as_float
from dae_lightning.evaluation.estimators import mean_image, score
from dae_lightning.evaluation.report import Scores, run_table, versions, write_json
from dae_lightning.figures import Examples, loss_figure, save_figure
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.model.metrics import TASKS

Rows = Sequence[Mapping[str, float]]  # of metrics.csv


def report(
    settings: config.Train,
    folder: Path,
    trainer: pl.Trainer,
    model: DenoisingAutoencoder,
    data: ImageDataModule,
    rows: Rows,
    device: str,
) -> None:
    """Test the model; print the scores, and write results.json and figures."""
    scores = test_scores(trainer, model, data)
    print(run_table(scores))
    seconds = sum(row["seconds"] for row in rows)
    images = sum(row["seconds"] * row["images_per_second"] for row in rows)
    facts: dict[str, Any] = {
        "test": scores,
        "epochs": len(rows),
        "optimizer_steps": int(rows[-1]["step"]),
        "fit_seconds": seconds,
        "images_per_second": images / seconds,
        "seed": settings.seed,
        "device": device,
        "versions": versions(),
        "config": settings.model_dump(serialize_as_any=True),
    }
    write_json(folder / "results.json", facts)
    if settings.figures:
        draw(settings, model, data, rows, folder / "figures")
    print(f"checkpoints, metrics, results{' and figures' if settings.figures else ''}: {folder}")


def test_scores(trainer: pl.Trainer, model: DenoisingAutoencoder, data: ImageDataModule) -> dict[str, Scores]:
    """The model and two floors under it on the same test images with the same noise."""
    (metrics,) = trainer.test(model, datamodule=data, verbose=False)
    scores: dict[str, Scores] = {"model": {task: {} for task in TASKS}}
    for name, value in metrics.items():
        _, task, metric = name.split("/")
        scores["model"][task][metric] = value
    batches = int(trainer.num_test_batches[0])  # fewer than all under trainer.limit_test_batches
    scores["noisy_input"] = score(lambda noisy: noisy, _test_pairs(model.cpu(), data, batches))
    scores["mean_image"] = score(mean_image(data.train.images, model.noise), _test_pairs(model, data, batches))
    return scores


def draw(
    settings: config.Train,
    model: DenoisingAutoencoder,
    data: ImageDataModule,
    rows: Rows,
    folder: Path,
) -> None:
    """loss.png, train_examples.png and test_examples.png."""
    save_figure(loss_figure(rows), folder / "loss.png")
    for name, title, images in (
        ("train", "training images", data.train.images),
        ("test", "test images, never seen in training", data.test.images),
    ):
        examples = Examples.choose(images, settings.examples, settings.eval_seed)
        save_figure(examples.figure(model, title), folder / f"{name}_examples.png")


def _test_pairs(model: DenoisingAutoencoder, data: ImageDataModule, batches: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The test images as the model saw them: (clean, noisy) batches."""
    for _, (images, indices) in zip(range(batches), data.test_dataloader(), strict=False):
        clean = as_float(images)
        yield clean, model.corrupt_fixed(clean, indices)
