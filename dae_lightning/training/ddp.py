"""Several processes, the ranks, train one model: each takes its rows of every batch, and their gradients are summed.

Every rank walks the same batches and draws the noise of the whole batch, which is a function of (seed, step) alone. So
any number of ranks sees what one process would see, and differs from it only in the rounding of a sum.
"""

import os
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed
from torch.nn import Parameter
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from dae_lightning.errors import LostRankError, TrainingError
from dae_lightning.training.ranks import Rank, by_torchrun

LOADING = timedelta(minutes=30)  # in which every rank must have loaded its images: one may have to download them
ANSWER = timedelta(seconds=20)  # in which every rank must answer from then on
GRACE = 2.0  # seconds before a rank reports that another is lost: the launcher is to see first the one that died


@contextmanager
def together(rank: Rank | None, device: str) -> Iterator[None]:
    """Wait until all ranks have come, and make them a process group; None trains alone.

    Raises:
        LostRankError: another rank has died, or has not answered in time.
    """
    if rank is None:
        yield
        return
    if not by_torchrun():
        _imitate_torchrun(rank)
    try:
        store, _, _ = next(distributed.rendezvous("env://", timeout=LOADING))  # type: ignore[attr-defined]
        store.set(f"ready {rank.number}", "")
        ready, deadline = [f"ready {number}" for number in range(rank.size)], time.monotonic() + LOADING.total_seconds()
        while not store.check(ready) and time.monotonic() < deadline:
            time.sleep(0.05)  # so that a signal is answered, as it is not while torch waits
        store.wait(ready, ANSWER)
        where = torch.device(device, rank.local) if device == "cuda" else None
        backend = "nccl" if device == "cuda" else "gloo"
        distributed.init_process_group(
            backend, store=store, rank=rank.number, world_size=rank.size, timeout=ANSWER, device_id=where
        )
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        time.sleep(GRACE)
        text = " ".join(str(error).split())[:200]  # torch likes to add its stack
        lost = f"rank {rank.number}: another rank has died, or has not answered in time ({text})"
        raise LostRankError(lost) from error
    distributed.destroy_process_group()


def _imitate_torchrun(rank: Rank) -> None:
    """Under SLURM, set the variables that torchrun sets, from which Lightning and torch know their ranks."""
    for name, value in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), rank, strict=True):
        os.environ[name] = str(value)
    os.environ |= {"GROUP_RANK": os.environ["SLURM_NODEID"], "TORCHELASTIC_RUN_ID": os.environ["SLURM_JOB_ID"]}
    first_node = SLURMEnvironment.resolve_root_node_address(os.environ["SLURM_STEP_NODELIST"])
    os.environ.setdefault("MASTER_ADDR", first_node)
    os.environ.setdefault("MASTER_PORT", str(15000 + int(os.environ["SLURM_JOB_ID"][-4:])))


def agree(rank: Rank, device: str, folder: Path, checkpoint: Path | None) -> tuple[Path, Path | None]:
    """The first rank's run folder, and the checkpoint that it resumes."""
    said: list[Any] = [folder.absolute(), checkpoint and checkpoint.absolute()]
    distributed.broadcast_object_list(said, src=0, device=torch.device(device, rank.local))
    if said[0] != folder.absolute():
        with suppress(OSError):
            folder.rmdir()  # Hydra named and made it by this rank's own clock
    return said[0], said[1]


class SumOfRanks(DDPStrategy):
    """Lightning's DDP without torch's wrapper, which reduces once per Lightning step: ours is many optimiser steps."""

    def configure_ddp(self) -> None:
        """Leave the model unwrapped; `average` reduces."""


def share(images: Tensor, rank: Rank) -> Tensor:
    """A rank's rows of a batch: none, where there are fewer rows than ranks."""
    number, size, rows = rank.number, rank.size, len(images)
    return images[rows * number // size : rows * (number + 1) // size]


def average(loss: Tensor, parameters: Iterable[Parameter], rows: int, whole: int) -> Tensor:
    """Turn the gradients of the mean loss of this rank's `rows` into those of the `whole` batch's, which is returned.

    The loss travels with the gradients: one operation for all, and all ranks stop where it is not finite.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = parameters_to_vector([*gradients, loss.detach()])
    if rows:
        flat *= rows / whole
    else:
        flat.zero_()  # the mean of nothing is nan
    distributed.all_reduce(flat)
    vector_to_parameters(flat, gradients)
    return flat[-1]


def highest(trainer: Trainer, *values: int) -> list[int]:
    """The highest of each value over the ranks."""
    if trainer.world_size == 1:
        return list(values)
    all_values: list[int] = trainer.strategy.reduce(
        torch.tensor(values, device=trainer.strategy.root_device), reduce_op="max"
    ).tolist()
    return all_values


def check_same_start(trainer: Trainer) -> None:
    """Raises TrainingError unless the ranks, on whatever machines, have the same weights and training images."""
    loader: Any = trainer.train_dataloader
    digest, images = 0, getattr(loader.images, "pixels", loader.images)  # of patches, those of their pictures
    for tensor in (*trainer.lightning_module.parameters(), images):
        digest = zlib.crc32(tensor.detach().cpu().numpy(), digest)
    most, least = highest(trainer, digest, -digest)
    if most != -least:
        raise TrainingError("the ranks do not start from the same images and weights: do they read the same files?")
