"""Several processes, the ranks, train one model: each takes its rows of every batch, and their gradients are summed.

Every rank walks the same batches and draws the noise of the whole batch, which is a function of (seed, step) alone: so
however many they are, they see what one process would see, and differ from it in the rounding of a sum only.
"""

import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed
from torch.nn import Parameter

from dae_lightning.errors import LostRankError, TrainingError
from dae_lightning.training.ranks import Rank, by_torchrun

LOADING = timedelta(minutes=30)  # in which every rank must have got to its first step: one may have to download
ANSWER = timedelta(seconds=20)  # in which every rank must answer from then on


c10d: Any = distributed  # mypy knows few of its names


class World:
    """The ranks, seen from one of them; `World()` is a process that trains alone."""

    def __init__(self, rank: Rank | None = None) -> None:
        self.rank = rank or Rank()
        self.first = self.rank.number == 0  # it writes and prints
        self._store = None if rank is None else _rendezvous(rank)
        if not self.first:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends

    def agree(self, folder: Path, checkpoint: Path | None) -> tuple[Path, Path | None]:
        """The first rank's run folder, and the checkpoint that it goes on from."""
        if self._store is None:
            return folder, checkpoint
        if self.first:
            self._store.set("run", json.dumps([str(folder.absolute()), checkpoint and str(checkpoint.absolute())]))
            return folder, checkpoint
        try:
            place, file = json.loads(self._store.get("run"))
        except RuntimeError as error:
            raise _lost(self.rank, error) from error
        if Path(place) != folder.absolute():
            with suppress(OSError):
                folder.rmdir()  # Hydra has made it, of this rank's own time
        return Path(place), file and Path(file)

    @contextmanager
    def together(self, device: str) -> Iterator[None]:
        """In here the ranks hear of each other: collective operations work, and a rank that is lost is an error.

        Raises:
            LostRankError: another one has died, or has not answered in time.
        """
        if self._store is None:
            yield
            return
        try:
            self._store.set(f"ready {self.rank.number}", "")
            self._store.wait([f"ready {number}" for number in range(self.rank.size)])
            distributed.init_process_group(
                "nccl" if device == "cuda" else "gloo",
                store=c10d.PrefixStore("group", self._store),
                rank=self.rank.number,
                world_size=self.rank.size,
                timeout=ANSWER,
                device_id=torch.device(device, self.rank.local) if device == "cuda" else None,
            )
            yield
        except RuntimeError as error:
            if isinstance(error, distributed.DistError) or "gloo" in str(error):
                raise _lost(self.rank, error) from error
            raise
        distributed.destroy_process_group()


def _rendezvous(rank: Rank) -> Any:
    """The ranks' common notice board; the first rank keeps it, or who has started them."""
    if not by_torchrun():  # then by SLURM: what torchrun's workers find, Lightning is to find too
        for name, value in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), rank, strict=True):
            os.environ[name] = str(value)
        os.environ |= {"GROUP_RANK": os.environ["SLURM_NODEID"], "TORCHELASTIC_RUN_ID": os.environ["SLURM_JOB_ID"]}
        first_node = SLURMEnvironment.resolve_root_node_address(os.environ["SLURM_STEP_NODELIST"])
        os.environ.setdefault("MASTER_ADDR", first_node)
        os.environ.setdefault("MASTER_PORT", str(15000 + int(os.environ["SLURM_JOB_ID"][-4:])))
    try:
        store, _, _ = next(c10d.rendezvous("env://", timeout=LOADING))
    except RuntimeError as error:
        raise _lost(rank, error) from error
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return c10d.PrefixStore(f"dae {attempt}", store)


def _lost(rank: Rank, error: Exception) -> LostRankError:
    text = " ".join(str(error).split())[:200]  # torch likes to add its stack
    return LostRankError(f"rank {rank.number}: another rank has died, or has not answered in time ({text})")


class SumOfRanks(DDPStrategy):
    """Lightning's DDP without torch's wrapper round the model, which reduces once a Lightning step: ours takes many."""

    def configure_ddp(self) -> None:
        """The model stays as it is; `average` reduces."""


def share(images: Tensor, rank: Rank) -> Tensor:
    """The rows of a batch that are a rank's: none, where there are fewer rows than ranks."""
    number, size, rows = rank.number, rank.size, len(images)
    return images[rows * number // size : rows * (number + 1) // size]


def average(loss: Tensor, parameters: Iterable[Parameter], rows: int, whole: int) -> Tensor:
    """Turn the gradients of the mean loss of this rank's `rows` into those of the `whole` batch's, which is returned.

    The loss travels with the gradients: one operation for all, and all ranks stop where it is not finite.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([part.detach().flatten() for part in (*gradients, loss)])
    if rows:
        flat *= rows / whole
    else:
        flat.zero_()  # the mean of nothing is nan
    distributed.all_reduce(flat)
    for gradient, total in zip(gradients, flat[:-1].split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))
    return flat[-1]


def highest(trainer: Trainer, *values: int) -> list[int]:
    """The highest of each value over the ranks."""
    if trainer.world_size == 1:
        return list(values)
    all_values: list[int] = trainer.strategy.reduce(
        torch.tensor(values, device=trainer.strategy.root_device), reduce_op="max"
    ).tolist()
    return all_values


class SameStart(Callback):
    """Sees that the ranks, on whatever machines, start from the same weights and images."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loader = trainer.train_dataloader
        digest = 0
        for tensor in (*pl_module.parameters(), loader.images):  # type: ignore[union-attr]
            digest = zlib.crc32(tensor.detach().cpu().numpy(), digest)
        most, least = highest(trainer, digest, -digest)
        if most != -least:
            raise TrainingError("the ranks do not start from the same images and weights: do they read the same files?")
