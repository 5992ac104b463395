"""The model's training steps, many to one Lightning step, to amortise what Lightning does around each of them."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Adam
from torch.optim.adam import adam
from torch.optim.lr_scheduler import OneCycleLR
from torchmetrics import MeanMetric

from dae_lightning.data.chunks import ChunkLoader
from dae_lightning.data.datamodule import as_float
from dae_lightning.errors import CheckpointError, DivergenceError
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.model.image_checks import check_clean
from dae_lightning.training.cuda_graphs import RecordedStep
from dae_lightning.training.ddp import average, check_same_start, share
from dae_lightning.training.ranks import Rank


class FusedAdam(Adam):
    """torch's fused Adam, whose `update` is `step` and then `zero_grad` with little but the kernel's call.

    What torch does round the kernel (records for profilers, hooks, checks) takes a tenth of a training step of 32
    images, and a further fifth where Lightning is imported and there is no GPU, for which it then looks in every step.
    """

    def __init__(self, parameters: Iterable[Parameter], **settings: Any) -> None:
        super().__init__(parameters, **{"fused": True} | settings)

    @torch.no_grad()
    def update(self) -> None:
        """Take the step that the gradients say, and drop them."""
        for group in self.param_groups:
            parameters, (beta1, beta2) = group["params"], group["betas"]
            states = [self.state[parameter] for parameter in parameters]
            if not all(states):
                self.step()  # the first one, of all groups; it makes the moments
                break
            adam(
                parameters,
                [parameter.grad for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=beta1,
                beta2=beta2,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


class ManySteps(DenoisingAutoencoder):
    """A DenoisingAutoencoder that takes an optimiser step per batch of a chunk, under manual optimisation.

    It calls the model's own noise and loss in the same order, so the weights are those of the textbook step: to the
    bit with `optimizer_class = Adam`, to rounding with the fused one. On a GPU the steps are replayed as a CUDA graph
    unless `cuda_graph` is False. `max_steps` ends the fit; Lightning's own counter knows nothing of these steps. The
    gradients of every step are clipped as its Trainer's flags of these names would.
    """

    optimizer_class: type[Adam] = FusedAdam
    takes_chunks = True  # ImageDataModule asks
    cuda_graph = True
    max_steps: int | None = None
    gradient_clip_val: float | None = None
    gradient_clip_algorithm = "norm"  # or "value"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False
        self._epoch_loss, self._epoch_images = 0.0, 0  # sum over the images of the epoch so far
        self._logged_loss = MeanMetric(sync_on_compute=False)  # every rank has the loss of the whole batch
        self._recorded: RecordedStep | None = None
        self._noisy_val: dict[int, tuple[Tensor, ...]] = {}

    def training_step(self, batches: Sequence[Tensor], batch_idx: int) -> Tensor:
        """One optimiser step per batch: `batches` are uint8 images (B, *input_shape), as ImageDataModule gives chunks.

        Bytes become floats here, batch by batch. They are checked in the first Lightning step of an epoch only.
        """
        schedule: Any = self.lr_schedulers()
        if batch_idx == 0:
            for images in batches:
                check_clean(self.images_of(as_float(images)))
        take_step, first_step, losses = self._recorded or self._take_step, self.batches_seen, []
        for images in batches[: self.steps_left()]:
            clean = as_float(images)
            losses.append(take_step(clean, *self.corrupt(clean, self.noise_generator())))
            if schedule is not None:
                schedule.step()
        self.trainer.should_stop |= self.steps_left() == 0
        return self._account(torch.stack(losses), first_step, [len(images) for images in batches[: len(losses)]])

    def steps_left(self) -> int | None:
        """Until `max_steps`; None without such a limit."""
        return None if self.max_steps is None else max(0, self.max_steps - self.batches_seen)

    def _take_step(self, *batch: Tensor) -> Tensor:
        """One optimiser step on clean and noisy images, and sigma for a network that is told it; its loss."""
        clean, noisy, *sigma = (share(part, self._rank) for part in batch)
        loss = self.loss(noisy, clean, *sigma)
        loss.backward()
        if self._rank.size > 1:  # gradients and loss of the whole batch
            loss = average(loss, self.parameters(), len(clean), len(batch[0]))
        # on a GPU reading every loss would wait for every step: see _account
        if loss.device.type == "cpu" and not math.isfinite(value := loss.item()):
            raise self._divergence(value, self.batches_seen - 1)
        if self.gradient_clip_val is not None:
            clip = clip_grad_norm_ if self.gradient_clip_algorithm == "norm" else clip_grad_value_
            clip(self.parameters(), self.gradient_clip_val)
        # torch's own optimiser: Lightning's wrappers around backward() and step() take a tenth of a step's time
        optimizer = self.trainer.optimizers[0]
        if isinstance(optimizer, FusedAdam):
            optimizer.update()
        else:
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    def _account(self, losses: Tensor, first_step: int, sizes: list[int]) -> Tensor:
        """Add the losses of batches of these sizes to the epoch's; their mean over the images is returned."""
        values = losses.tolist()
        # On a GPU a chunk runs on after a loss that is not finite; but no callback sees it, so it is never saved.
        for step, loss in enumerate(values, first_step):
            if not math.isfinite(loss):
                raise self._divergence(loss, step)
        # not torch's dot: its last bit depends on where the tensors lie in memory
        total = math.fsum(size * loss for size, loss in zip(sizes, values, strict=True))
        self._epoch_loss += total
        self._epoch_images += sum(sizes)
        # the mean of this value alone: one over Lightning's steps would start again when a training is resumed
        self._logged_loss.reset()
        self._logged_loss.update(self._epoch_loss / self._epoch_images)
        self.log("train/loss", self._logged_loss, on_step=False, on_epoch=True)
        return losses.new_tensor(total / sum(sizes))

    def _divergence(self, loss: float, step: int) -> DivergenceError:
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        return DivergenceError(
            f"the loss of step {step}, at rate {rate:g}, is {loss}: lower optim.lr={self.optim.lr:g}"
        )

    def on_train_epoch_end(self) -> None:
        self.log("step", float(self.batches_seen))  # a logger's x axis; Lightning would count its own steps
        self._epoch_loss, self._epoch_images = 0.0, 0

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        if not isinstance(self.trainer.val_dataloaders, ChunkLoader):  # others give no indices, and may shuffle
            return super().validation_step(batch, batch_idx)
        clean, indices = (share(part, self._rank) for part in batch)
        # the draw is the same in every epoch, and making it takes as long as the rest of the validation
        if batch_idx not in self._noisy_val:
            self._noisy_val[batch_idx] = self.corrupt_fixed(clean, indices), *self.fixed_sigma(clean, indices)
        return self.judge("val", clean, *self._noisy_val[batch_idx])

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if not self.trainer.sanity_checking:
            self.log("step", float(self.batches_seen))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["epoch_loss"] = [self._epoch_loss, self._epoch_images]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._epoch_loss, self._epoch_images = checkpoint["epoch_loss"]

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self._rank = Rank(self.trainer.global_rank, self.trainer.world_size)
        self._recorded = None  # it belongs to one fit's optimiser and to where the weights lie
        self._noisy_val.clear()  # another fit may come with other images

    def on_train_start(self) -> None:
        (optimizer,), schedule = self.trainer.optimizers, self.lr_schedulers()
        if schedule is None:  # a checkpoint has restored the earlier rate; what the command says counts
            for group in optimizer.param_groups:
                group |= {"lr": self.optim.lr, "betas": self.optim.betas, "eps": self.optim.eps}
        if isinstance(schedule, OneCycleLR) and schedule.total_steps != (steps := self.total_steps()):
            raise CheckpointError(
                f"the rate was planned for {schedule.total_steps} optimiser steps, not {steps}: "
                f"a one-cycle run cannot be made longer or shorter"
            )
        if self._rank.size > 1:
            check_same_start(self.trainer)
        elif self.cuda_graph and self.device.type == "cuda" and not torch.is_anomaly_enabled():
            # (detecting anomalies reads every value, and so waits: it cannot be recorded)
            self._recorded = RecordedStep(self._take_step, optimizer)
        self.trainer.should_stop |= self.steps_left() == 0

    def total_steps(self) -> int:
        epochs = self.trainer.estimated_stepping_batches and max(self.trainer.max_epochs or 1, 1)  # loads the data
        loader: Any = self.trainer.train_dataloader
        steps: int = loader.batches_in(int(self.trainer.num_training_batches)) * int(epochs)
        return steps if self.max_steps is None else min(steps, self.max_steps)
