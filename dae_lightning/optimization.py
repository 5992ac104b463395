"""Manual optimisation: one Lightning step takes several optimiser steps, because a fit's time goes into the former."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from dae_lightning import config
from dae_lightning.distributed import average, share
from dae_lightning.errors import CheckpointError, TrainingError
from dae_lightning.optim import make_optimizer
from dae_lightning.ranks import Rank


class ChunkOptimization(LightningModule):
    """A LightningModule that takes one optimiser step per batch of a chunk.

    The model that derives from it gives `loss` and `check_batch`, and calls `__init__` with its optimiser's settings.
    """

    def __init__(self, optim: config.Optim) -> None:
        super().__init__()
        self.optim = optim
        self.automatic_optimization = False
        self._rank = Rank()
        self._epoch_loss, self._epoch_images = 0.0, 0  # sum over the images of the epoch so far

    def loss(self, clean: Tensor, step: int) -> Tensor:
        """The mean loss of a batch (B, *input_shape) in the fit's optimiser step `step`, a scalar with gradients.

        Of several processes that train together each takes its own rows: see `share`.
        """
        raise NotImplementedError

    def share(self, images: Tensor) -> Tensor:
        """This process's rows of a batch: all, unless several train together."""
        return images if self._rank.size == 1 else share(images, self._rank)

    def check_batch(self, clean: Tensor) -> None:
        """Raise TypeError or ValueError for images that cannot be trained on."""
        raise NotImplementedError

    def training_step(self, batches: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """One optimiser step per batch: `batches` are clean images (B, *input_shape), one tensor or several.

        They are checked in the first Lightning step of an epoch only: it takes time.
        """
        # torch's own optimiser: Lightning's wrappers round backward() and step() take a tenth of a step's time
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        schedule: Any = self.lr_schedulers()
        batches = (batches,) if isinstance(batches, Tensor) else tuple(batches)
        if batch_idx == 0:
            for clean in batches:
                self.check_batch(clean)
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress  # of trainer.global_step
        step = first_step = self.trainer.global_step
        losses = []
        for clean in batches:
            if step == self.trainer.max_steps:
                break
            loss = self.loss(clean, step)
            if self._rank.size == 1:
                self._check_early(loss, step)
            optimizer.zero_grad()
            loss.backward()
            if self._rank.size > 1:  # gradients and loss of the whole batch
                loss = average(loss, self.parameters(), len(self.share(clean)), len(clean))
                self._check_early(loss, step)
            optimizer.step()
            progress.increment_ready()
            progress.increment_completed()
            if schedule is not None:
                schedule.step()
            losses.append(loss.detach())
            step += 1
        return self._account(torch.stack(losses), first_step, sum(map(len, batches[: len(losses)])))

    def _check_early(self, loss: Tensor, step: int) -> None:
        if loss.device.type == "cpu":  # on a GPU reading every loss would wait for every step: see _account
            self._check_finite(loss.item(), step)

    def _account(self, losses: Tensor, first_step: int, images: int) -> Tensor:
        if not losses.isfinite().all():
            first = int(losses.isfinite().logical_not().nonzero()[0])
            self._check_finite(losses[first].item(), first_step + first)
        loss = losses.mean()
        self._epoch_loss += images * loss.item()
        self._epoch_images += images
        return loss

    def _check_finite(self, loss: float, step: int) -> None:
        if not math.isfinite(loss):
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise TrainingError(
                f"the loss of step {step}, at rate {rate:g}, is {loss}: lower optim.lr={self.optim.lr:g}"
            )

    def configure_optimizers(self) -> Any:
        optimizer, schedule = make_optimizer(self.optim, self.parameters(), self._total_steps())
        return optimizer if schedule is None else ([optimizer], [schedule])

    @property
    def epoch_loss(self) -> float:
        """The training loss of the epoch so far, mean over its images."""
        return self._epoch_loss / max(self._epoch_images, 1)

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", self.epoch_loss)
        self.log_step()
        self._epoch_loss, self._epoch_images = 0.0, 0

    def log_step(self) -> None:
        """A logger's x axis counts optimiser steps; Lightning would count its own."""
        self.log("step", float(self.trainer.global_step))

    # Lightning's own running mean would start anew in a training that is resumed within an epoch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["epoch_loss"] = [self._epoch_loss, self._epoch_images]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._epoch_loss, self._epoch_images = checkpoint["epoch_loss"]

    def on_fit_start(self) -> None:
        self._rank = Rank(self.trainer.global_rank, self.trainer.world_size)

    def on_fit_end(self) -> None:
        self._rank = Rank()  # whoever tests this model does so alone

    def on_train_start(self) -> None:
        schedule = self.lr_schedulers()
        if isinstance(schedule, OneCycleLR) and schedule.total_steps != (steps := self._total_steps()):
            raise CheckpointError(
                f"the rate was planned for {schedule.total_steps} optimiser steps, not {steps}: "
                f"a one-cycle run cannot be made longer or shorter"
            )

    def _total_steps(self) -> int:
        """Optimiser steps of the whole fit. Lightning counts its own steps, and ours execute several."""
        self.trainer.fit_loop.setup_data()  # makes the loader, as `trainer.estimated_stepping_batches` does
        epochs = max(self.trainer.max_epochs or 1, 1)
        batches_in = getattr(self.trainer.train_dataloader, "batches_in", int)
        steps = batches_in(int(self.trainer.num_training_batches)) * epochs
        return steps if self.trainer.max_steps < 0 else min(steps, self.trainer.max_steps)
