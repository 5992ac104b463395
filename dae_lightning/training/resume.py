"""Which checkpoint a training resumes from, and whether it belongs to that training."""

import sys
from pathlib import Path

import lightning.pytorch as pl

from dae_lightning import kinds
from dae_lightning.data.datamodule import ImageDataModule
from dae_lightning.errors import CheckpointError
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.model.checkpoint import read_checkpoint
from dae_lightning.schema import check

SAME_TASK = ("input_shape", "latent", "network", "noise", "eval_seed")  # or the best score is of another task


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
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointError:
            continue
        reached[path] = checkpoint["batches_seen"]
    if not reached:
        raise CheckpointError(f"{damage}; and there is no intact one beside it")
    furthest = max(reached, key=reached.__getitem__)
    print(f"warning: skipped {damage}; resuming from {furthest.name}, step {reached[furthest]:,}", file=sys.stderr)
    return furthest


def check_resumable(path: Path, model: DenoisingAutoencoder, data: ImageDataModule, trainer: pl.Trainer) -> None:
    """See that a checkpoint is of this model, optimiser and held-out split.

    Raises:
        CheckpointError: it is not, or the training asked for ends before the checkpoint.
    """
    checkpoint = read_checkpoint(path)
    recorded = checkpoint["hyper_parameters"]
    for key in SAME_TASK:
        if recorded.get(key) != (wanted := model.hparams[key]):
            raise CheckpointError(f"{path}: has {key} {recorded.get(key)}, but the settings and data ask for {wanted}")
    try:
        optim, held_out = check(kinds.OptimKind, recorded["optim"], "optim"), checkpoint["data"]
        done = len(checkpoint["callbacks"]["History"]["rows"])
        then = {key: held_out[key] for key in ("val_size", "seed")}
    except (ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{path}: cannot be resumed ({type(error).__name__}: {error})") from error
    if optim.kind != model.optim.kind:
        raise CheckpointError(f"{path}: optim is {optim.kind}, but the settings ask for {model.optim.kind}")
    if optim.kind == "adam_onecycle" and optim != model.optim:
        raise CheckpointError(f"{path}: a one-cycle run cannot change its optim: the schedule is in the checkpoint")
    for key, now in (("val_size", data.val_size), ("seed", data.split_seed)):
        if then[key] != now:
            raise CheckpointError(
                f"{path}: data.{key} was {then[key]}, not {now}: images held out now may have been trained on"
            )
    if trainer.max_epochs is not None and trainer.max_epochs < done:
        raise CheckpointError(f"trainer.max_epochs={trainer.max_epochs}: the run has already trained {done} epochs")
