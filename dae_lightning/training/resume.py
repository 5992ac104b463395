"""Which checkpoint a training resumes from, and whether it belongs to that training."""

import math
import sys
from contextlib import suppress
from pathlib import Path

import lightning.pytorch as pl

from dae_lightning import kinds
from dae_lightning.data.datamodule import ImageDataModule
from dae_lightning.errors import CheckpointError
from dae_lightning.model.checkpoint import read_checkpoint
from dae_lightning.schema import check
from dae_lightning.training.many_steps import ManySteps

# or the best score is of another task
SAME_TASK = ("input_shape", "latent", "network", "noise", "eval_seed", "loss", "patches")


def newest_intact(last: Path) -> Path:
    """`last`; where it is damaged, the one beside it that has come furthest, with a warning.

    Raises:
        CheckpointError: none is intact.
    """
    try:
        read_checkpoint(last)
        return last
    except CheckpointError as error:
        damage = error
    reached: dict[Path, int] = {}
    for path in sorted(last.parent.glob("*.ckpt")):
        with suppress(CheckpointError):
            reached[path] = read_checkpoint(path)["batches_seen"]
    if not reached:
        raise CheckpointError(f"{damage}; and there is no intact one beside it")
    furthest = max(reached, key=reached.__getitem__)
    print(f"warning: skipped {damage}; resuming from {furthest.name}, step {reached[furthest]:,}", file=sys.stderr)
    return furthest


def check_resumable(path: Path, model: ManySteps, data: ImageDataModule, trainer: pl.Trainer) -> None:
    """See that a checkpoint is of this model, optimiser and held-out split; say so where nothing is left to train.

    Raises:
        CheckpointError: it is not, or the training asked for ends before the checkpoint.
        LookupError, TypeError: it lacks what a training has written.
    """
    checkpoint = read_checkpoint(path)
    recorded, held_out = checkpoint["hyper_parameters"], checkpoint["data"]
    for key in SAME_TASK:
        if recorded.get(key) != (wanted := model.hparams.get(key)):
            raise CheckpointError(f"{path}: has {key} {recorded.get(key)}, but the settings and data ask for {wanted}")
    optim = check(kinds.OptimKind, recorded["optim"], "optim")
    if optim.kind != model.optim.kind:
        raise CheckpointError(f"{path}: optim is {optim.kind}, but the settings ask for {model.optim.kind}")
    if optim.kind != "adam" and optim != model.optim:
        raise CheckpointError(f"{path}: a one-cycle run cannot change its optim: the schedule is in the checkpoint")
    for key, now in (("val_size", data.val_size), ("seed", data.split_seed)):
        if held_out[key] != now:
            raise CheckpointError(
                f"{path}: data.{key} was {held_out[key]}, not {now}: images held out now may have been trained on"
            )
    done, steps = len(checkpoint["callbacks"]["History"]["rows"]), checkpoint["batches_seen"]
    if done > (trainer.max_epochs or 0):
        raise CheckpointError(f"trainer.max_epochs={trainer.max_epochs}: the run has already trained {done} epochs")
    if done == trainer.max_epochs or steps >= (model.max_steps or math.inf):
        limit = "trainer.max_epochs" if done == trainer.max_epochs else "trainer.max_steps"
        longer = f"{limit}=N with a higher N continues it"
        if model.optim.kind == "adam_onecycle":
            longer = "a one-cycle run cannot be made longer"
        print(f"the run is finished, after {done} epochs and {steps:,} steps: it is only tested again; {longer}")
