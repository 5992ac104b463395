"""Train: settings -> fit -> report."""

import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LambdaCallback

from dae_lightning import config, kinds
from dae_lightning.data.datamodule import ImageDataModule
from dae_lightning.errors import CheckpointError, ConfigError, TrainingError, UserError
from dae_lightning.files import remove_partial
from dae_lightning.signals import StopSignal
from dae_lightning.threads import take_as_many_as_pay
from dae_lightning.training.callbacks import History, Row, TrainingBar
from dae_lightning.training.checkpoints import Checkpoints
from dae_lightning.training.ddp import agree, together
from dae_lightning.training.early_stopping import EarlyStopping
from dae_lightning.training.many_steps import ManySteps
from dae_lightning.training.ranks import Rank
from dae_lightning.training.recorder import Recorder
from dae_lightning.training.report import report
from dae_lightning.training.resume import check_resumable
from dae_lightning.training.setup import accelerator_of, device_name, make_data, make_model, make_trainer


def train(
    settings: config.Train,
    folder: Path,
    checkpoint: Path | None = None,
    record: Callable[[], None] = lambda: None,
    callbacks: Iterable[pl.Callback] = (),
) -> float:
    """Train in the run folder, from `checkpoint` on if there is one; test, and leave results.json and figures.

    `record` is called with every checkpoint that is written; `callbacks` join those of the fit. Of several ranks only
    the first writes, tests and draws.

    Returns:
        val/denoising/bce (of loss=mse, val/denoising/mse) of the tested weights; where nothing is held out, the last
        training loss.

    Raises:
        ConfigError, DataError, CheckpointError, TrainingError: one line each.
    """
    _quieten_lightning(bool(settings.trainer.profiler or settings.trainer.enable_model_summary))
    rank = Rank.of_this_process() if settings.trainer.strategy is not None else None
    if settings.trainer.strategy is not None and rank is None:
        raise ConfigError("trainer.strategy=ddp: needs several processes; start them with dae-train, torchrun or srun")
    first = rank is None or rank.number == 0
    if not first:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    try:
        device = accelerator_of(settings)
        data = make_data(settings)
        data.prepare_data()
        data.setup()
        with together(rank, device):
            if rank is not None:
                folder, checkpoint = agree(rank, device, folder, checkpoint)
            trainer, rows, best = _fit(settings, data, folder, checkpoint, record, first, callbacks)
        if not first:
            return math.nan
        model, used = trainer.lightning_module, device_name(trainer)
        recorders = [callback for callback in trainer.callbacks if isinstance(callback, Recorder)]  # type: ignore[attr-defined]
        if rank is not None:  # it is tested in this process alone
            alone = settings.trainer.model_copy(update={"strategy": None, "devices": 1, "num_nodes": None})
            one_process = settings.model_copy(update={"trainer": alone})
            trainer = make_trainer(one_process, folder, data, [])
        value = report(settings, data, folder, trainer, model, rows, best, used)
        for recorder in recorders:
            recorder.finish()
        return value
    except MisconfigurationException as error:  # Lightning's word for flags that do not fit each other or the data
        raise TrainingError(f"trainer: {' '.join(str(error).split())}") from error


def _fit(
    settings: config.Train,
    data: ImageDataModule,
    folder: Path,
    checkpoint: Path | None,
    record: Callable[[], None],
    first: bool,
    more: Iterable[pl.Callback],
) -> tuple[pl.Trainer, list[Row], float | None]:
    """Train as one of several ranks, or alone.

    Returns:
        The Trainer, the rows of metrics.csv, and the monitored score of best.ckpt, if there is one.
    """
    take_as_many_as_pay(settings.batch_size * settings.latent * math.prod(data.input_shape))
    model = make_model(settings, data.input_shape)
    if settings.output_bias == "mean_image":
        model.network.start_at(data.train.images.mean(0, dtype=torch.float32) / 255)
    history = History(folder / "metrics.csv")
    stop = StopSignal(silent=not first)
    checkpoints = Checkpoints(folder / "checkpoints", settings.data, settings.checkpoint, stop)
    callbacks = [history, checkpoints, LambdaCallback(on_save_checkpoint=lambda *_: record()), *more]
    if first and settings.trainer.enable_progress_bar:
        callbacks.append(TrainingBar())
    if first and settings.logger.kind != "csv" and not settings.trainer.fast_dev_run:
        callbacks.insert(1, Recorder(settings, folder, history, data.test.images, checkpoint is not None))
    if isinstance(settings.callbacks, kinds.EarlyStopping):
        callbacks.append(EarlyStopping(settings.callbacks, settings.trainer, data))
    trainer = make_trainer(settings, folder, data, callbacks)
    try:
        if checkpoint is not None:
            check_resumable(checkpoint, model, data, trainer)
        print(_describe(data, model, device_name(trainer)))
        if first:
            remove_partial(folder)  # left behind by a killed process
        if first and checkpoint is None:  # checkpoints of another run in this folder
            for name in ("best.ckpt", "previous.ckpt"):
                (folder / "checkpoints" / name).unlink(missing_ok=True)
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        if checkpoint is None or checkpoints.started or isinstance(error, UserError):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise CheckpointError(f"{checkpoint}: cannot be resumed ({reason})") from error
    stop.raise_if_received()  # one that came after the last epoch's end
    return trainer, history.rows, checkpoints.best


def _describe(data: ImageDataModule, model: ManySteps, device: str) -> str:
    sizes, pixels = [split.size for split in (data.train, data.val, data.test)], math.prod(model.input_shape)
    what = "images" if data.train.patches is None else "pictures"
    return (
        f"{pixels} -> {model.latent} -> {pixels}, {model.noise}, "
        f"on {device}; {sizes[0]:,} training, {sizes[1]:,} validation, {sizes[2]:,} test {what}"
    )


def _quieten_lightning(asked: bool) -> None:
    """What Lightning says at every start is not about this run, unless it was asked; warnings still come through."""
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO if asked else logging.WARNING)
    logging.getLogger("lightning").propagate = False  # it has a handler of its own
    warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning 2.6 with torch 2.15
    warnings.filterwarnings("ignore", ".*sync_dist=True.*")  # what is logged is of all ranks already
