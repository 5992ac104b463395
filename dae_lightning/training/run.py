"""Configuration -> fit -> test -> results and figures."""

import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor

from dae_lightning import config, kinds
from dae_lightning.data.datamodule import ImageDataModule, as_float
from dae_lightning.data.sources import make_source
from dae_lightning.errors import CheckpointError, ConfigError, TrainingError, UserError
from dae_lightning.evaluation.estimators import MeanImage, score
from dae_lightning.evaluation.report import Scores, run_table, versions, write_json
from dae_lightning.figures import Examples, loss_figure, save_figure
from dae_lightning.files import remove_partial
from dae_lightning.model.autoencoder import DenoisingAutoencoder, load_model
from dae_lightning.model.metrics import TASKS
from dae_lightning.signals import StopSignal
from dae_lightning.training.checkpoints import AtomicCheckpointIO, Checkpoints
from dae_lightning.training.ddp import SameStart, SumOfRanks, agree, together
from dae_lightning.training.history import History
from dae_lightning.training.many_steps import ManySteps
from dae_lightning.training.progress import TrainingBar
from dae_lightning.training.ranks import Rank
from dae_lightning.training.resume import check_resumable
from dae_lightning.training.tensorboard import ExampleImages, make_logger


def train(
    settings: config.Train,
    folder: Path,
    checkpoint: Path | None = None,
    record: Callable[[], None] = lambda: None,
) -> float:
    """Train in the run folder, from `checkpoint` on if there is one; test, and leave results.json and figures.

    `record` is called with every checkpoint that is written.

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
        return _train(settings, folder, checkpoint, record, rank)
    except MisconfigurationException as error:  # Lightning's word for flags that do not fit each other or the data
        raise TrainingError(f"trainer: {' '.join(str(error).split())}") from error


def _train(
    settings: config.Train, folder: Path, checkpoint: Path | None, record: Callable[[], None], rank: Rank | None
) -> float:
    first = rank is None or rank.number == 0  # it writes, tests and draws
    accelerator = _accelerator(settings)
    data = make_data(settings)
    data.prepare_data()
    data.setup()
    with together(rank, accelerator):
        if rank is not None:
            folder, checkpoint = agree(rank, accelerator, folder, checkpoint)
        if first:
            remove_partial(folder)
        model: DenoisingAutoencoder = make_model(settings, data.input_shape)
        if settings.output_bias == "mean_image":
            model.network.start_at(data.train.images.mean(0, dtype=torch.float32) / 255)
        history = History(folder / "metrics.csv" if first else None)
        stop = StopSignal(silent=not first)
        checkpoints = Checkpoints(folder / "checkpoints", settings.data, settings.checkpoint, stop)
        recorder = LambdaCallback(on_save_checkpoint=lambda *_: record() if first else None)
        trainer = make_trainer(settings, accelerator, folder, data, [history, checkpoints, recorder], first)
        if checkpoint is not None:
            check_resumable(checkpoint, model, data, trainer)
        print(_describe(data, model, _device_name(trainer)))

        if checkpoint is None and first:
            for name in ("best.ckpt", "previous.ckpt"):  # of another run that used this folder
                (folder / "checkpoints" / name).unlink(missing_ok=True)
        try:
            trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
            if checkpoint is None or checkpoints.started or isinstance(error, UserError):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise CheckpointError(f"{checkpoint}: cannot be resumed ({reason})") from error
        stop.raise_if_received()  # one that came after the last epoch's end
    if not first:
        return math.nan  # the first one does the rest, alone
    device = _device_name(trainer)  # only now: where nobody has set a rank's threads, Lightning does
    if settings.trainer.strategy is not None:
        alone = settings.trainer.model_copy(update={"strategy": None, "devices": 1, "num_nodes": None})
        trainer = make_trainer(settings.model_copy(update={"trainer": alone}), accelerator, folder, data, [])

    if not history.rows:
        raise TrainingError("no epoch was finished (trainer.max_time, trainer.max_steps): nothing to test")
    chosen = folder / "checkpoints" / ("last.ckpt" if checkpoints.best is None else "best.ckpt")
    if chosen.exists():  # with trainer.fast_dev_run there is none
        model = load_model(chosen)
    scores = test_scores(trainer, model, data)
    print(run_table(scores))
    seconds = sum(row["seconds"] for row in history.rows)
    images = sum(row["seconds"] * row["images_per_second"] for row in history.rows)
    write_json(
        folder / "results.json",
        {
            "test": scores,
            "epochs": len(history.rows),
            "optimizer_steps": int(history.rows[-1]["step"]),
            "fit_seconds": seconds,
            "images_per_second": images / seconds,
            "seed": settings.seed,
            "device": device,
            "versions": versions(),
            "config": settings.model_dump(),
        },
    )
    draw(settings, model, data, history, folder / "figures")
    print(f"checkpoints, metrics, results and figures: {folder}")
    return history.rows[-1]["train/loss"] if checkpoints.best is None else checkpoints.best


def make_data(settings: config.Train) -> ImageDataModule:
    """The images that the configuration asks for; nothing is read yet."""
    return ImageDataModule(
        make_source(settings.data),
        settings.batch_size,
        settings.steps_per_execution,
        settings.data.val_size,
        settings.seed,
        settings.data.seed,
    )


def make_model(settings: config.Train, input_shape: tuple[int, ...]) -> ManySteps:
    """The model that the configuration asks for, with its initial weights."""
    model = ManySteps(
        input_shape,
        settings.latent,
        settings.noise.model_dump(),
        settings.network.model_dump(),
        settings.optim.model_dump(),
        settings.seed,
        settings.eval_seed,
    )
    model.cuda_graph = settings.cuda_graph
    # as many steps as asked for, whatever Lightning calls a step
    model.max_steps = int(settings.trainer.fast_dev_run or 0) or settings.trainer.max_steps
    return model


def make_trainer(
    settings: config.Train,
    accelerator: str,
    folder: Path,
    data: ImageDataModule,
    callbacks: list[pl.Callback],
    first: bool = True,
) -> pl.Trainer:
    """Lightning's Trainer with the configured flags and what this project does in its own way.

    Of several ranks only the `first` shows and logs anything.
    """
    flags = settings.trainer.model_dump(exclude_none=True)
    flags.pop("max_steps", None)  # of the model's own steps: ManySteps.max_steps
    flags["enable_progress_bar"] &= first
    if flags["enable_progress_bar"]:
        callbacks = [*callbacks, TrainingBar()]
    logger: Any = False
    if isinstance(settings.logger, kinds.TensorBoardLogger) and first:
        logger = make_logger(folder)
        shown = Examples.choose(data.test.images, settings.logger.examples, settings.eval_seed)
        callbacks = [*callbacks, ExampleImages(settings.logger.every_n_epochs, shown)]
    # in a batch job of SLURM's that was given more tasks, Lightning would refuse to train without srun
    alone = [LightningEnvironment()] if settings.trainer.strategy is None else []
    ours: dict[str, Any] = {
        "accelerator": accelerator,
        "logger": logger,
        "callbacks": callbacks,
        "plugins": [AtomicCheckpointIO(), *alone],
        "default_root_dir": folder,
        "use_distributed_sampler": False,  # the order of the images is ours
    }
    if settings.trainer.strategy is not None:
        ours |= {"strategy": SumOfRanks(), "callbacks": [*callbacks, SameStart()]}
    if not len(data.val.images):
        ours["limit_val_batches"] = 0
    defaults = {"enable_model_summary": False, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
    return pl.Trainer(**defaults | flags | ours)


def test_scores(trainer: pl.Trainer, model: DenoisingAutoencoder, data: ImageDataModule) -> dict[str, Scores]:
    """The model and two floors under it on the same test images with the same noise."""
    (metrics,) = trainer.test(model, datamodule=data, verbose=False)
    scores: dict[str, Scores] = {"model": {task: {} for task in TASKS}}
    for name, value in metrics.items():
        _, task, metric = name.split("/")
        scores["model"][task][metric] = value
    batches = int(trainer.num_test_batches[0])  # fewer than all under trainer.limit_test_batches
    scores["noisy_input"] = score(lambda noisy: noisy, _test_pairs(model.cpu(), data, batches))
    mean_image = MeanImage()
    mean_image.fit(data.train.images, model.noise)
    scores["mean_image"] = score(mean_image, _test_pairs(model, data, batches))
    return scores


def draw(
    settings: config.Train, model: DenoisingAutoencoder, data: ImageDataModule, history: History, folder: Path
) -> None:
    """loss.png, train_examples.png and test_examples.png."""
    save_figure(loss_figure(history.rows), folder / "loss.png")
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


def _accelerator(settings: config.Train) -> str:
    """Lightning's "auto" would take other accelerators too, on which this project has never run."""
    wanted = settings.trainer.accelerator
    if wanted == "gpu" and not torch.cuda.is_available():
        raise TrainingError("trainer.accelerator=gpu: torch sees no CUDA GPU here; trainer=cpu needs none")
    devices = settings.trainer.devices
    if wanted != "cpu" and torch.cuda.is_available():
        if isinstance(devices, int) and devices > (count := torch.cuda.device_count()):
            raise TrainingError(
                f"trainer.devices={devices}: a process takes a GPU each, and torch sees {count} here; "
                f"trainer.accelerator=cpu needs none"
            )
        return "cuda"
    if not isinstance(devices, int):
        raise TrainingError(f"trainer.devices={list(devices)}: names a GPU, but this run is on the CPU")
    return "cpu"


def _device_name(trainer: pl.Trainer) -> str:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    ranks = f"{trainer.world_size} ranks, the first on " if trainer.world_size > 1 else ""
    return f"{ranks}{device} ({name})"


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
