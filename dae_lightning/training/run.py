"""Train: settings -> fit -> report."""

import logging
import math
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LambdaCallback

from dae_lightning import config, kinds
from dae_lightning.data.datamodule import ImageDataModule
from dae_lightning.errors import CheckpointError, ConfigError, TrainingError, UserError
from dae_lightning.files import remove_partial
from dae_lightning.model.autoencoder import DenoisingAutoencoder, load_model
from dae_lightning.signals import StopSignal
from dae_lightning.training.callbacks import ExampleImages, History, TrainingBar, tensorboard_logger
from dae_lightning.training.checkpoints import Checkpoints
from dae_lightning.training.ddp import agree, together
from dae_lightning.training.ranks import Rank
from dae_lightning.training.report import report
from dae_lightning.training.resume import check_resumable
from dae_lightning.training.setup import accelerator_of, device_name, make_data, make_model, make_trainer


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves to be tested."""

    folder: Path
    trainer: pl.Trainer
    data: ImageDataModule
    model: DenoisingAutoencoder
    history: History
    best: float | None  # val/denoising/bce of best.ckpt
    device: str


def train(
    settings: config.Train,
    folder: Path,
    checkpoint: Path | None = None,
    record: Callable[[], None] = lambda: None,
) -> float:
    """Train in the run folder, from `checkpoint` on if there is one; test, and leave results.json and figures.

    `record` is called with every checkpoint that is written. Of several ranks only the first writes, tests and draws.

    Returns:
        val/denoising/bce of the tested weights; where nothing is held out, the last training loss.

    Raises:
        ConfigError, DataError, CheckpointError, TrainingError: one line each.
    """
    _quieten_lightning(bool(settings.trainer.profiler or settings.trainer.enable_model_summary))
    rank = Rank.of_this_process() if settings.trainer.strategy is not None else None
    if settings.trainer.strategy is not None and rank is None:
        raise ConfigError("trainer.strategy=ddp: needs several processes; start them with dae-train, torchrun or srun")
    if rank is not None and rank.number > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    try:
        fitted = fit(settings, folder, checkpoint, record, rank)
        return math.nan if rank is not None and rank.number > 0 else _test(settings, fitted)
    except MisconfigurationException as error:  # Lightning's word for flags that do not fit each other or the data
        raise TrainingError(f"trainer: {' '.join(str(error).split())}") from error


def fit(
    settings: config.Train, folder: Path, checkpoint: Path | None, record: Callable[[], None], rank: Rank | None
) -> Fitted:
    """Train as one of several ranks, or alone."""
    first = rank is None or rank.number == 0
    accelerator = accelerator_of(settings)
    data = make_data(settings)
    data.prepare_data()
    data.setup()
    with together(rank, accelerator):
        if rank is not None:
            folder, checkpoint = agree(rank, accelerator, folder, checkpoint)
        model = make_model(settings, data.input_shape)
        if settings.output_bias == "mean_image":
            model.network.start_at(data.train.images.mean(0, dtype=torch.float32) / 255)
        history = History(folder / "metrics.csv")
        stop = StopSignal(silent=not first)
        checkpoints = Checkpoints(folder / "checkpoints", settings.data, settings.checkpoint, stop)
        recorder = LambdaCallback(on_save_checkpoint=lambda *_: record() if first else None)
        callbacks = [history, checkpoints, recorder]
        if settings.trainer.enable_progress_bar and first:
            callbacks.append(TrainingBar())
        logger = None
        if isinstance(settings.logger, kinds.TensorBoardLogger) and first:
            logger = tensorboard_logger(folder)
            callbacks.append(ExampleImages(settings.logger, data.test.images, settings.eval_seed))
        trainer = make_trainer(settings, accelerator, folder, data, callbacks, logger)
        if checkpoint is not None:
            check_resumable(checkpoint, model, data, trainer)
        print(_describe(data, model, device_name(trainer)))
        if first:
            _tidy(folder, resumed=checkpoint is not None)
        try:
            trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
            if checkpoint is None or checkpoints.started or isinstance(error, UserError):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise CheckpointError(f"{checkpoint}: cannot be resumed ({reason})") from error
        stop.raise_if_received()  # one that came after the last epoch's end
    # the device is asked for after the fit: Lightning sets the number of a rank's threads where nothing else does
    return Fitted(folder, trainer, data, model, history, checkpoints.best, device_name(trainer))


def _test(settings: config.Train, fitted: Fitted) -> float:
    """Test the best weights, in this process alone, and report."""
    rows = fitted.history.rows
    if not rows:
        raise TrainingError("no epoch was finished (trainer.max_time, trainer.max_steps): nothing to test")
    chosen = fitted.folder / "checkpoints" / ("last.ckpt" if fitted.best is None else "best.ckpt")
    model = load_model(chosen) if chosen.exists() else fitted.model  # with trainer.fast_dev_run there is none
    trainer = fitted.trainer
    if settings.trainer.strategy is not None:
        alone = settings.trainer.model_copy(update={"strategy": None, "devices": 1, "num_nodes": None})
        one_process = settings.model_copy(update={"trainer": alone})
        trainer = make_trainer(one_process, accelerator_of(settings), fitted.folder, fitted.data, [], trainer.logger)
    report(settings, fitted.folder, trainer, model, fitted.data, rows, fitted.device)
    return rows[-1]["train/loss"] if fitted.best is None else fitted.best


def _tidy(folder: Path, resumed: bool) -> None:
    """Remove half-written files of a killed process and, at a start, checkpoints of another run in this folder."""
    remove_partial(folder)
    if not resumed:
        for name in ("best.ckpt", "previous.ckpt"):
            (folder / "checkpoints" / name).unlink(missing_ok=True)


def _describe(data: ImageDataModule, model: DenoisingAutoencoder, device: str) -> str:
    sizes, pixels = [len(split.images) for split in (data.train, data.val, data.test)], math.prod(model.input_shape)
    return (
        f"{pixels} -> {model.latent} -> {pixels}, {model.noise}, "
        f"on {device}; {sizes[0]:,} training, {sizes[1]:,} validation, {sizes[2]:,} test images"
    )


def _quieten_lightning(asked: bool) -> None:
    """What Lightning says at every start is not about this run, unless it was asked; warnings still come through."""
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO if asked else logging.WARNING)
    logging.getLogger("lightning").propagate = False  # it has a handler of its own
    warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning 2.6 with torch 2.15
    warnings.filterwarnings("ignore", ".*sync_dist=True.*")  # what is logged is of all ranks already
