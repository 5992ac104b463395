"""Which checkpoint a training goes on from, and whether it can: all that Lightning and torch will restore of it."""

import sys
from collections.abc import Container
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.nn import Parameter

from dae_lightning.data.datamodule import ImageDataModule
from dae_lightning.errors import CheckpointError
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.model.optim import check_optim, make_optimizer
from dae_lightning.model.reading import Hyperparameters, check_tensors, read_checkpoint, weight_shapes
from dae_lightning.schema import Count, check
from dae_lightning.training.history import check_row

MOST = 2**40  # steps, images, seconds that are believed
KEYS = {"epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "callbacks", "optimizer_states"}
KEYS |= {"lr_schedulers", "hparams_name", "hyper_parameters", "ImageDataModule", "epoch_loss", "data"}
LOOPS = ("fit_loop", "validate_loop", "test_loop", "predict_loop")
PROGRESS = ("epoch_progress", "epoch_loop.batch_progress", "epoch_loop.val_loop.batch_progress")
# what a schedule does not know from its beginning
MOVING = {"_last_lr", "last_epoch", "_step_count", "_is_initial", "_get_lr_called_within_step"}


def newest_intact(last: Path) -> Path:
    """`last`; where it is damaged, the one beside it that is furthest, with a warning.

    Raises:
        CheckpointError: none is intact.
    """
    try:
        read_checkpoint(last)
        return last
    except CheckpointError as error:
        damage = error
    furthest, step = None, -1
    for path in sorted(last.parent.glob("*.ckpt")):
        try:
            reached = read_checkpoint(path).get("batches_seen")
        except CheckpointError:
            continue
        if isinstance(reached, int) and reached > step:
            furthest, step = path, reached
    if furthest is None:
        raise CheckpointError(f"{damage}; and there is no intact one beside it")
    print(f"warning: skipped {damage}; going on from {furthest.name}, step {step:,}", file=sys.stderr)
    return furthest


def check_resumable(path: Path, model: DenoisingAutoencoder, data: ImageDataModule, trainer: pl.Trainer) -> None:
    """See that `trainer` can go on from a checkpoint with this model and data.

    Raises:
        CheckpointError: it is of another model, or holds what no training leaves there.
    """
    checkpoint = read_checkpoint(path)
    recorded = checkpoint["hyper_parameters"]
    for key in ("input_shape", "latent", "input_scale", "noise", "eval_seed"):  # or the best score is of another task
        if recorded[key] != (wanted := model.hparams[key]):
            raise CheckpointError(f"{path}: has {key} {recorded[key]}, but the settings and data ask for {wanted}")
    try:
        if recorded["optim"]["kind"] != model.optim.kind:
            raise ValueError(f"optim is {recorded['optim']['kind']}, but the settings ask for {model.optim.kind}")
        if model.optim.kind == "adam_onecycle" and check_optim(recorded["optim"]) != model.optim:
            raise ValueError("a one-cycle run cannot change its optim: the schedule is in the checkpoint")
        for key, now in (("val_size", data.val_size), ("seed", data.split_seed)):
            if (then := checkpoint["data"][key]) != now:
                raise ValueError(f"data.{key} was {then}, not {now}: images held out now may have been trained on")
        done = len(checkpoint["callbacks"]["History"]["rows"])
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{path}: cannot be gone on with ({' '.join(str(error).split())})") from error
    if trainer.max_epochs is not None and trainer.max_epochs < done:
        raise CheckpointError(f"trainer.max_epochs={trainer.max_epochs}: the run already has {done} epochs behind it")


def _check_loops(checkpoint: dict[str, Any], data: ImageDataModule, trainer: pl.Trainer) -> None:
    """All counters must be those of one place in this training."""
    position, loops, step = checkpoint["ImageDataModule"]["position"], checkpoint["loops"], checkpoint["global_step"]
    fresh = {name: getattr(trainer, name).state_dict() for name in LOOPS}
    fresh["fit_loop"]["state_dict"] = {"combined_loader": [dict.fromkeys(("epoch", "chunks", "chunk_size"), 0)]}
    _check_like(loops, fresh, "loops")
    fit = loops["fit_loop"]
    for key in PROGRESS:
        for counts in (fit[key]["current"], fit[key]["total"]):
            ordered = [counts[name] for name in ("completed", "processed", "started", "ready")]
            if ordered != sorted(ordered) or ordered[-1] - ordered[0] > 1:
                raise ValueError(f"loops.fit_loop.{key} counts {counts}")
    epochs, chunks = fit["epoch_progress"]["current"], fit["epoch_loop.batch_progress"]["current"]["processed"]
    here = {"epoch": epochs["completed"], "chunks": chunks, "chunk_size": position["chunk_size"]}
    _check_like(position, here, "ImageDataModule.position", free=())
    _check_like(fit["state_dict"]["combined_loader"], [position], "loops.fit_loop.state_dict.combined_loader", free=())
    _check_like(checkpoint["epoch"], here["epoch"], "epoch", free=())
    steps = fit["epoch_loop.manual_optimization.optim_step_progress"]["total"]
    _check_like(steps, {"ready": step, "completed": step}, "loops.fit_loop.epoch_loop.optim_step_progress", free=())

    loader, limit = data.train_dataloader(), trainer.limit_train_batches
    most = min(len(loader), limit) if isinstance(limit, int) else int(len(loader) * limit)
    if epochs["processed"] == epochs["completed"] and chunks >= most:
        raise ValueError(f"{chunks} chunks into an epoch of {most}")
    for schedule in checkpoint["lr_schedulers"]:  # it refuses to be moved further than planned
        behind = here["epoch"] * loader.batches_in(most) + loader.batches_in(chunks)
        behind = min(behind, schedule["total_steps"])  # trainer.max_steps may end it within a chunk
        if not behind == step == schedule["last_epoch"]:
            raise ValueError(f"{step} steps, and {schedule['last_epoch']} of the rate, after {behind} batches")


def _check_optimizer(checkpoint: dict[str, Any]) -> None:
    """What follows from the hyperparameters must be as it follows from them; only rates and moments move."""
    hyperparameters: Hyperparameters = check(Hyperparameters, checkpoint["hyper_parameters"], "hyper_parameters")
    shapes = dict(enumerate(weight_shapes(hyperparameters).values()))
    schedules, (state,) = checkpoint["lr_schedulers"], checkpoint["optimizer_states"]
    steps = check(Count, schedules[0]["total_steps"], "total_steps") if schedules else 0
    # the groups and the schedule know nothing of the parameters' shapes
    optimizer, schedule = make_optimizer(hyperparameters.optim, [Parameter(torch.zeros(1)) for _ in shapes], steps)
    fresh = optimizer.state_dict()["param_groups"]
    _check_like(state["param_groups"], fresh, "optimizer.param_groups", free={"lr"})
    _check_like(schedules, [schedule.state_dict()] if schedule else [], "lr_schedulers", free=MOVING)
    if state["state"].keys() != shapes.keys():
        raise ValueError(f"the optimiser's state is not of {len(shapes)} parameters")
    for index, shape in shapes.items():
        moments = state["state"][index]
        check_tensors(moments, {"step": (), "exp_avg": shape, "exp_avg_sq": shape}, f"optimizer.state.{index}")
        if moments["step"] < 1 or moments["exp_avg_sq"].min() < 0:
            raise ValueError(f"optimizer.state.{index}: step must be at least 1, and exp_avg_sq 0")


def _check_callbacks(checkpoint: dict[str, Any]) -> None:
    """The sums so far, the best score, and one row for every epoch behind."""
    best, rows = checkpoint["callbacks"]["Checkpoints"]["best"], checkpoint["callbacks"]["History"]["rows"]
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    if not isinstance(rows, list) or len(rows) != epochs:
        raise ValueError(f"callbacks.History.rows is not a list of the {epochs} epochs behind")
    for row in rows:
        check_row(row)
    fresh = {"Checkpoints": {"best": None if best is None else 0.0}}
    _check_like({"Checkpoints": checkpoint["callbacks"]["Checkpoints"]}, fresh, "callbacks")
    history = {name: value for name, value in checkpoint["callbacks"]["History"].items() if name != "rows"}
    _check_like(history, {"seconds": 0.0, "images": 0}, "callbacks.History")
    if checkpoint["callbacks"].keys() != {"Checkpoints", "History"}:
        raise ValueError("callbacks must hold Checkpoints, History")
    _check_like(checkpoint["epoch_loss"], [0.0, 0], "epoch_loss")


def _check_like(value: Any, fresh: Any, key: str, free: Container[str] | None = None) -> None:
    """Raise ValueError unless `value` has the keys, lengths and types of `fresh`, and its values too.

    Numbers under the keys that are `free`, or under all, may be any that are finite and at least 0.
    """
    name = key.rpartition(".")[2]
    if type(value) is not type(fresh):
        raise ValueError(f"{key} is {type(value).__name__}, not {type(fresh).__name__}")
    if isinstance(fresh, dict):
        if value.keys() != fresh.keys():
            raise ValueError(f"{key} must hold {', '.join(map(str, fresh)) or 'nothing'}")
        for below in fresh:
            _check_like(value[below], fresh[below], f"{key}.{below}", free)
    elif isinstance(fresh, (list, tuple)):
        if len(value) != len(fresh):
            raise ValueError(f"{key} must hold {len(fresh)} values")
        for each, like in zip(value, fresh, strict=True):
            _check_like(each, like, key, free)
    elif isinstance(fresh, (int, float)) and (free is None or name in free):
        if not 0 <= value <= MOST:
            raise ValueError(f"{key} is {value}: must be in [0, {MOST}]")
    elif value != fresh:
        raise ValueError(f"{key} is {str(value)[:80]}, not {fresh}")
