"""What a training consists of, made from its settings: data, model, Trainer."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from dae_lightning import config, kinds
from dae_lightning.data.datamodule import ImageDataModule
from dae_lightning.data.sources import make_source
from dae_lightning.errors import TrainingError
from dae_lightning.training.checkpoints import AtomicCheckpointIO
from dae_lightning.training.ddp import SumOfRanks
from dae_lightning.training.many_steps import ManySteps


def make_data(settings: config.Train) -> ImageDataModule:
    """The images that the configuration asks for; nothing is read yet."""
    data, steps = settings.data, settings.steps_per_execution
    return ImageDataModule(make_source(data), settings.batch_size, steps, data.val_size, settings.seed, data.seed)


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
        settings.loss,
        isinstance(settings.data, kinds.Patches),
    )
    model.cuda_graph = settings.cuda_graph
    # as many steps as asked for, whatever Lightning calls a step
    model.max_steps = int(settings.trainer.fast_dev_run or 0) or settings.trainer.max_steps
    model.gradient_clip_val = settings.trainer.gradient_clip_val
    model.gradient_clip_algorithm = settings.trainer.gradient_clip_algorithm or "norm"
    return model


def make_trainer(
    settings: config.Train, folder: Path, data: ImageDataModule, callbacks: list[pl.Callback]
) -> pl.Trainer:
    """Lightning's Trainer with the configured flags and what this project does in its own way."""
    # these are of the model's own steps: ManySteps
    steps = {"max_steps", "gradient_clip_val", "gradient_clip_algorithm"}
    flags = settings.trainer.model_dump(exclude_none=True, exclude=steps)
    ours: dict[str, Any] = {
        "accelerator": accelerator_of(settings),
        "logger": False,  # Recorder has it
        "callbacks": callbacks,
        "plugins": [AtomicCheckpointIO()],
        "default_root_dir": folder,
        # ours alone: Lightning's are of one epoch each
        "enable_progress_bar": any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
        "use_distributed_sampler": False,  # the order of the images is ours
    }
    if settings.trainer.strategy is not None:
        ours["strategy"] = SumOfRanks()
    else:  # in a batch job of SLURM's that was given more tasks, Lightning would refuse to train without srun
        ours["plugins"].append(LightningEnvironment())
    if not len(data.val.images):
        ours["limit_val_batches"] = 0
    defaults = {"enable_model_summary": False, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
    return pl.Trainer(**defaults | flags | ours)


def accelerator_of(settings: config.Train) -> str:
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


def device_name(trainer: pl.Trainer) -> str:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    ranks = f"{trainer.world_size} ranks, the first on " if trainer.world_size > 1 else ""
    return f"{ranks}{device} ({name})"
