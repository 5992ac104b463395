"""The denoising autoencoder: noise, encoder, decoder, loss, and the optimiser's steps."""

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from dae_lightning import config
from dae_lightning.errors import CheckpointError, TrainingError
from dae_lightning.image_checks import check_clean, check_images, check_shape
from dae_lightning.loss import bce_with_logits
from dae_lightning.metrics import TASKS, ImageQuality
from dae_lightning.noise import Noise, corrupt_each, make_noise
from dae_lightning.optim import NOTEBOOK_ADAM, check_optim, make_optimizer
from dae_lightning.randomness import derive, generator
from dae_lightning.reading import read_checkpoint
from dae_lightning.schema import Seed, check

NEGATIVE_SLOPE = 0.3  # Keras' default LeakyReLU; PyTorch's is 0.01


class DenoisingAutoencoder(LightningModule):
    """A dense denoising autoencoder (Vincent et al. 2008, 2010), as a Keras teaching notebook builds it.

    images -> noise -> flatten -> Linear(latent) -> LeakyReLU(0.3) -> Linear(pixels) -> sigmoid -> reshape.

    Images are (B, *input_shape) floats; clean ones lie in [0, 1], noisy ones anywhere.

    Args:
        input_shape: of one image: a positive int, or a tuple or list of them.
        latent: size of the code, at least 1.
        noise: a corruption process, or its settings as plain values; it acts in training mode only.
        optim: settings of the optimiser (see `conf/optim/`), by default the notebook's Adam.
        seed: initial weights and training noise are functions of it.
        eval_seed: the noise on validation and test images is a function of it and of an image's place.

    Raises:
        TypeError, ValueError: an argument of the wrong type or range; the message names it.
    """

    def __init__(
        self,
        input_shape: int | Sequence[int],
        latent: int,
        noise: Noise | Mapping[str, Any],
        optim: Mapping[str, Any] = NOTEBOOK_ADAM,
        seed: int = 0,
        eval_seed: int = 0,
    ) -> None:
        super().__init__()
        self.input_shape = check_shape(input_shape)
        self.latent: int = check(config.Latent, latent, "latent")
        self.noise = noise if isinstance(noise, Noise) else make_noise(noise)
        self.optim = check_optim(optim)
        self.seed: int = check(Seed, seed, "seed")
        self.eval_seed: int = check(Seed, eval_seed, "eval_seed")

        pixels = math.prod(self.input_shape)
        self.encoder = nn.Linear(pixels, latent)
        self.decoder = nn.Linear(latent, pixels)
        self._initialise()
        # validating must not slow the training down: no SSIM, and no entropy of the targets
        quality = {f"val_{task}": ImageQuality(("bce", "psnr")) for task in TASKS}
        self.quality = nn.ModuleDict(quality | {f"test_{task}": ImageQuality() for task in TASKS})
        # one Lightning step takes several optimiser steps (DESIGN: a fit's time goes into Lightning's steps)
        self.automatic_optimization = False
        self._noisy_val: dict[int, Tensor] = {}
        self._epoch_loss, self._epoch_images = 0.0, 0  # sum over the images of the epoch so far
        # plain values only: the checkpoint loads with weights_only=True and needs no file beside it
        self.save_hyperparameters(
            {
                "input_shape": list(self.input_shape),
                "latent": latent,
                "noise": self.noise.settings(),
                "optim": {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.optim).items()},
                "seed": seed,
                "eval_seed": eval_seed,
            }
        )

    def _initialise(self) -> None:
        """Keras' defaults: Glorot uniform weights (Glorot and Bengio 2010, eq. 16), zero biases."""
        for name, layer in (("encoder", self.encoder), ("decoder", self.decoder)):
            nn.init.xavier_uniform_(layer.weight, generator=generator(self.seed, "weights", name))
            nn.init.zeros_(layer.bias)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # files only, to one device
        cls,
        checkpoint_path: str | PathLike[str],
        map_location: str | torch.device | None = None,
        hparams_file: None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> "DenoisingAutoencoder":
        """The model of a checkpoint, on the CPU or on `map_location`; `kwargs` take the place of its arguments.

        Lightning's method of this name would fetch URLs, and call what a checkpoint names unless `weights_only` is
        True. This one reads files only, of plain values only, whatever `weights_only` or the environment say.

        Raises:
            CheckpointError: there is no such file, or it is damaged, or no checkpoint of this project.
        """
        if hparams_file is not None:
            raise TypeError(f"hparams_file={hparams_file}: give arguments as such; the checkpoint knows the others")
        checkpoint = read_checkpoint(Path(checkpoint_path))
        model = cls(**checkpoint["hyper_parameters"] | kwargs)
        model.load_state_dict(checkpoint["state_dict"], strict=strict is not False)
        return model.to(map_location or "cpu")

    def encode(self, images: Tensor) -> Tensor:
        """Codes (B, latent) of images (B, *input_shape), clean or noisy; no noise is added."""
        check_images(images, self.input_shape, self.encoder.weight.dtype)
        return F.leaky_relu(self.encoder(images.flatten(1)), NEGATIVE_SLOPE)

    def decode_logits(self, codes: Tensor) -> Tensor:
        """Logits (B, *input_shape) of codes (B, latent)."""
        logits: Tensor = self.decoder(codes)
        return logits.view(-1, *self.input_shape)

    def decode(self, codes: Tensor) -> Tensor:
        """Images (B, *input_shape) in [0, 1] of codes (B, latent)."""
        return torch.sigmoid(self.decode_logits(codes))

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Estimates (B, *input_shape) in [0, 1] of the clean images; in training mode noise is added first.

        Raises:
            TypeError, ValueError: images of another shape or dtype, not finite, or (in training mode) not in [0, 1].
        """
        check_images(images, self.input_shape, self.encoder.weight.dtype)
        if self.training:
            check_clean(images)
        elif not images.isfinite().all():
            raise ValueError("images hold NaN or infinity: must be finite")
        return self.decode(self.encode(self.noise(images, generator)))

    # --- training -------------------------------------------------------------------------------------------

    def training_step(self, batches: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        """One optimiser step per batch: `batches` are clean images (B, *input_shape), one tensor or several.

        Their range is checked in the first Lightning step of an epoch only: it takes time.
        """
        # torch's own optimiser: Lightning's wrappers round backward() and step() take a tenth of a step's time
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        schedule: Any = self.lr_schedulers()
        batches = (batches,) if isinstance(batches, Tensor) else tuple(batches)
        if batch_idx == 0:
            for clean in batches:
                check_images(clean, self.input_shape, self.encoder.weight.dtype)
                check_clean(clean)
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress  # of trainer.global_step
        step = first_step = self.trainer.global_step
        losses = []
        for clean in batches:
            if step == self.trainer.max_steps:
                break
            loss = self._loss(clean, step)
            if loss.device.type == "cpu":  # on a GPU reading every loss would wait for every step: see _account
                self._check_finite(loss.item(), step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress.increment_ready()
            progress.increment_completed()
            if schedule is not None:
                schedule.step()
            losses.append(loss.detach())
            step += 1
        return self._account(torch.stack(losses), first_step, sum(map(len, batches[: len(losses)])))

    def _loss(self, clean: Tensor, step: int) -> Tensor:
        noisy = self.noise(clean, self._generator(step))
        return bce_with_logits(self.decode_logits(self.encode(noisy)), clean)

    def _generator(self, step: int) -> torch.Generator:
        """The training noise is a function of (seed, step): nothing is drawn from the global generator."""
        return torch.Generator(self.device).manual_seed(derive(self.seed, "noise", step))

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
        self._log_step()
        self._epoch_loss, self._epoch_images = 0.0, 0

    def _log_step(self) -> None:
        """A logger's x axis counts optimiser steps; Lightning would count its own."""
        self.log("step", float(self.trainer.global_step))

    # Lightning's own running mean would start anew in a training that is resumed within an epoch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["epoch_loss"] = [self._epoch_loss, self._epoch_images]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._epoch_loss, self._epoch_images = checkpoint["epoch_loss"]

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

    # --- validation and test --------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        self._noisy_val.clear()  # another fit may come with other images

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        clean, indices = batch
        # the draw is the same in every epoch, and making it takes as long as the rest of the validation
        if batch_idx not in self._noisy_val:
            self._noisy_val[batch_idx] = self.corrupt_fixed(clean, indices)
        self._judge("val", clean, self._noisy_val[batch_idx])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        clean, indices = batch
        self._judge("test", clean, self.corrupt_fixed(clean, indices))

    def on_validation_epoch_end(self) -> None:
        self._log_quality("val")
        if not self.trainer.sanity_checking:
            self._log_step()

    def on_test_epoch_end(self) -> None:
        self._log_quality("test")

    def corrupt_fixed(self, clean: Tensor, indices: Tensor) -> Tensor:
        """Noisy images for evaluation: one fixed draw per (eval_seed, index), in whatever mode."""
        return corrupt_each(self.noise, clean, self.eval_seed, indices)

    def _judge(self, stage: str, clean: Tensor, noisy: Tensor) -> None:
        for task, images in zip(TASKS, (clean, noisy), strict=True):
            logits = self.decode_logits(self.encode(images)).float()
            self._quality(stage, task).update(torch.sigmoid(logits), clean, logits)

    def _log_quality(self, stage: str) -> None:
        for task in TASKS:
            quality = self._quality(stage, task)
            self.log_dict({f"{stage}/{task}/{name}": value for name, value in quality.compute().items()})
            quality.reset()

    def _quality(self, stage: str, task: str) -> ImageQuality:
        quality = self.quality[f"{stage}_{task}"]
        assert isinstance(quality, ImageQuality)
        return quality
