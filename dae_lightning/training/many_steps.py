"""Manual optimisation: one Lightning step takes several optimiser steps, because a fit's time goes into the former."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from dae_lightning import config
from dae_lightning.data.datamodule import as_float
from dae_lightning.errors import CheckpointError, TrainingError
from dae_lightning.model.optim import make_optimizer
from dae_lightning.training.cuda_graphs import RecordedStep
from dae_lightning.training.ddp import average, share
from dae_lightning.training.ranks import Rank


class ChunkOptimization(LightningModule):
    """A LightningModule that takes one optimiser step per batch of a chunk.

    The model that derives from it gives `corrupted`, `loss` and `check_batch`, and calls `__init__` with its
    optimiser's settings. On a GPU its steps are replayed as a CUDA graph, unless `cuda_graph` is set to False.
    """

    cuda_graph = True

    def __init__(self, optim: config.Optim) -> None:
        super().__init__()
        self.optim = optim
        self.automatic_optimization = False
        self._rank = Rank()
        self._epoch_loss, self._epoch_images = 0.0, 0  # sum over the images of the epoch so far
        self._recorded: RecordedStep | None = None

    def corrupted(self, clean: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """What the loss of the optimiser step `step` is taken of: the batch (B, *input_shape), noisy and clean."""
        raise NotImplementedError

    def loss(self, noisy: Tensor, clean: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar with gradients; a function of its arguments and the weights alone."""
        raise NotImplementedError

    def check_batch(self, clean: Tensor) -> None:
        """Raise TypeError or ValueError for images that cannot be trained on."""
        raise NotImplementedError

    def training_step(self, batches: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """One optimiser step per batch: `batches` are clean images (B, *input_shape), one tensor or several.

        Bytes become floats here, batch by batch. They are checked in the first Lightning step of an epoch only.
        """
        # torch's own optimiser: Lightning's wrappers round backward() and step() take a tenth of a step's time
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        schedule: Any = self.lr_schedulers()
        batches = (batches,) if isinstance(batches, Tensor) else tuple(batches)
        if batch_idx == 0:
            for images in batches:
                self.check_batch(as_float(images))
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress  # of trainer.global_step
        step = first_step = self.trainer.global_step
        take_step = self._take_step(optimizer)
        losses = []
        for images in batches:
            if step == self.trainer.max_steps:
                break
            losses.append(take_step(*self.corrupted(as_float(images), step)))
            progress.increment_ready()
            progress.increment_completed()
            if schedule is not None:
                schedule.step()
            step += 1
        return self._account(torch.stack(losses), first_step, [len(images) for images in batches[: len(losses)]])

    def _take_step(self, optimizer: Any) -> Callable[[Tensor, Tensor], Tensor]:
        """What takes a step, one and the same for the whole fit: this function, or its recording."""

        def step(noisy: Tensor, clean: Tensor) -> Tensor:
            loss = self.loss(self.share(noisy), self.share(clean))
            loss.backward()
            if self._rank.size > 1:  # gradients and loss of the whole batch
                loss = average(loss, self.parameters(), len(self.share(clean)), len(clean))
            # on a GPU reading every loss would wait for every step: see _account
            if loss.device.type == "cpu" and not math.isfinite(value := loss.item()):
                raise self._divergence(value, self.trainer.global_step)
            optimizer.update()
            return loss.detach()

        replay = self.cuda_graph and self.device.type == "cuda" and self._rank.size == 1
        if not replay or torch.is_anomaly_enabled():  # which reads every value, and so waits
            return step
        if self._recorded is None:
            self._recorded = RecordedStep(step, optimizer)
        return self._recorded

    def share(self, images: Tensor) -> Tensor:
        """This process's rows of a batch: all, unless several train together."""
        return images if self._rank.size == 1 else share(images, self._rank)

    def _account(self, losses: Tensor, first_step: int, sizes: list[int]) -> Tensor:
        """Add the losses of batches of these sizes to the epoch's; their mean over the images is returned."""
        values = losses.tolist()
        # On a GPU the chunk goes on behind a loss that is not finite; but no callback sees it, so it is never saved.
        for step, loss in enumerate(values, first_step):
            if not math.isfinite(loss):
                raise self._divergence(loss, step)
        # not torch's dot: its last bit depends on where the tensors lie in memory
        total = math.fsum(size * loss for size, loss in zip(sizes, values, strict=True))
        self._epoch_loss += total
        self._epoch_images += sum(sizes)
        return losses.new_tensor(total / sum(sizes))

    def _divergence(self, loss: float, step: int) -> TrainingError:
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        return TrainingError(f"the loss of step {step}, at rate {rate:g}, is {loss}: lower optim.lr={self.optim.lr:g}")

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

    def on_train_end(self) -> None:
        self._recorded = None  # it is of this fit's optimiser and of the weights' place

    def on_fit_start(self) -> None:
        self._rank = Rank(self.trainer.global_rank, self.trainer.world_size)

    def on_fit_end(self) -> None:
        self._rank = Rank()  # whoever tests this model does so alone

    def on_train_start(self) -> None:
        self._recorded = None
        schedule = self.lr_schedulers()
        if schedule is None:  # a checkpoint has brought the rate of before; what the command says now counts
            for group in self.trainer.optimizers[0].param_groups:
                group |= {"lr": self.optim.lr, "betas": self.optim.betas, "eps": self.optim.eps}
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
