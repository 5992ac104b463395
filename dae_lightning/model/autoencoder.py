"""The denoising autoencoder: noise, encoder, decoder, loss, and how it is trained and evaluated."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR

from dae_lightning import kinds
from dae_lightning.errors import ConfigError
from dae_lightning.model.checkpoint import LoadedFromPlainValues
from dae_lightning.model.image_checks import check_clean, check_images, check_shape, in_our_names
from dae_lightning.model.metrics import TASKS, ImageQuality, mse
from dae_lightning.model.network import Network
from dae_lightning.model.noise import Noise, corrupt_each, sigma_of_each
from dae_lightning.model.noise_level import LEAST_SIGMA
from dae_lightning.model.residual import ResidualNetwork  # noqa: F401  # registers itself
from dae_lightning.randomness import derive, generator
from dae_lightning.schema import Seed, check

ADAM: Mapping[str, Any] = MappingProxyType({"kind": "adam"})
DENSE: Mapping[str, Any] = MappingProxyType({"kind": "dense"})


class DenoisingAutoencoder(LoadedFromPlainValues):
    """A denoising autoencoder (Vincent et al. 2008, 2010): noise -> network, trained towards the clean images.

    Images are (B, *input_shape) floats; clean ones lie in
    [0, 1], noisy ones anywhere. A batch is a tensor of images, or a list or tuple that begins with one, as
    torchvision's data sets give (images, labels); a model of (H, W) takes (B, 1, H, W) too.

    Args:
        input_shape: shape of one image: a positive int, or a tuple or list of them.
        latent: size of the code, at least 1.
        noise: a corruption process, or its settings as plain values; it acts in training mode only.
        network: a network, or the settings of one as plain values; by default the notebook's, one dense layer each way.
        loss: bce, binary cross-entropy, or mse, mean squared error.
        patches: whether images are patches of larger pictures, which a `Denoiser` then takes.
        optim: settings of the optimiser (see `conf/optim/`); the notebook's Adam, and its values where left out.
        seed: the initial weights and the training noise are functions of it.
        eval_seed: the noise on validation and test images is a function of it and of an image's position.

    Raises:
        TypeError, ValueError: an argument of the wrong type or range; the message names it.
    """

    optimizer_class: type[Adam] = Adam

    @in_our_names
    def __init__(
        self,
        input_shape: int | Sequence[int],
        latent: int,
        noise: Noise | Mapping[str, Any],
        network: Network | Mapping[str, Any] = DENSE,
        optim: Mapping[str, Any] = ADAM,
        seed: int = 0,
        eval_seed: int = 0,
        loss: str = "bce",
        patches: bool = False,
    ) -> None:
        super().__init__()
        self.input_shape = check_shape(input_shape)
        self.latent: int = check(kinds.Latent, latent, "latent")
        self.noise = Noise.of(noise)
        optim = {**ADAM, **optim} if isinstance(optim, Mapping) else optim
        self.optim: kinds.OptimKind = check(kinds.OptimKind, optim, "optim")
        self.loss_kind: kinds.Loss = check(kinds.Loss, loss, "loss")
        self.patches: bool = check(bool, patches, "patches")
        self.lr = self.optim.lr  # where Lightning's LearningRateFinder looks for it
        self.seed: int = check(Seed, seed, "seed")
        self.eval_seed: int = check(Seed, eval_seed, "eval_seed")
        with torch.random.fork_rng(devices=[]):  # for a network that draws its weights from torch's global generator
            torch.manual_seed(derive(seed, "weights"))
            self.network = Network.of(network, input_shape=self.input_shape, latent=self.latent, seed=seed)
        if self.network.is_told_in_training and not self.noise.tells_sigma:
            remedy = f"network={self.network.kind} has to be told sigma; noise=gaussian_range has one"
            raise ConfigError(f"noise={self.noise.kind}: {remedy}")

        # validation must not slow training down: no SSIM, and no entropy of the targets
        quality = {f"val_{task}": ImageQuality((self.loss_kind, "psnr")) for task in TASKS}
        self.quality = nn.ModuleDict(quality | {f"test_{task}": ImageQuality() for task in TASKS})
        self.monitored = kinds.monitored(self.loss_kind)  # the metric that says which weights are the best
        self.batches_seen = 0  # training batches so far
        self._position = 0  # of the next validation or test image in its loader
        # plain values only: the checkpoint loads with weights_only=True and needs no file beside it
        sizes = {"input_shape": list(self.input_shape), "latent": self.latent}
        parts = {"noise": self.noise.settings(), "network": self.network.settings()}
        training = {"optim": self.optim.model_dump(mode="json"), "seed": self.seed, "eval_seed": self.eval_seed}
        # absent where they are the defaults: so they are in the checkpoints of earlier versions
        newer = ({"loss": loss} if loss != "bce" else {}) | ({"patches": True} if patches else {})
        self.save_hyperparameters(sizes | parts | training | newer)

    def encode(self, images: Tensor) -> Tensor:
        """Codes (B, latent) of images (B, *input_shape), clean or noisy; no noise is added."""
        return self.network.encode(self.images_of(images))

    def decode(self, codes: Tensor) -> Tensor:
        """Images (B, *input_shape) in [0, 1] of codes (B, latent)."""
        return self.network.decode(codes)

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Estimates of the clean images, in [0, 1] and of the shape of `images`; in training mode noise is added first.

        Raises:
            TypeError, ValueError: images of another shape or dtype.
        """
        denoised: Tensor = self.network(self.noise(self.images_of(images), generator))
        return denoised.view_as(images)

    def loss(self, noisy: Tensor, clean: Tensor, *sigma: Tensor) -> Tensor:
        """Mean loss of the denoised images against the clean ones; override it for another loss.

        `sigma` (B,) is of the noise: there only for a network that is told it in training. The squared error of each
        image is then divided by its sigma, with which it grows: else the strongest noise alone would count.
        """
        if self.loss_kind == "mse":
            error = mse(self.network.regress(noisy, *sigma).to(clean.dtype), clean)  # (B,)
            return (error / sigma[0].clamp(min=LEAST_SIGMA) if sigma else error).mean()
        logits = self.network.logits(noisy, *sigma).to(clean.dtype)  # from bfloat16 under autocast
        return F.binary_cross_entropy_with_logits(logits, clean)

    def corrupt(self, clean: Tensor, random: torch.Generator | None = None) -> tuple[Tensor, ...]:
        """(noisy,), or (noisy, sigma) for a network that is told sigma (B,) in training.

        In training and evaluation mode alike: a loaded model may be in the latter, which Lightning keeps.
        """
        if not self.network.is_told_in_training:
            return (self.noise.corrupt(clean, random),)
        return self.noise.corrupt_and_tell(clean, random)

    # --- training -----------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        launcher = self.trainer.strategy.launcher
        if launcher is not None and launcher.is_interactive_compatible:  # it forks, as that of strategy="ddp_notebook"
            # OpenMP's other threads do not survive a fork, and would be waited for without end
            torch.set_num_threads(1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        clean = self.images_of(batch)
        if batch_idx == 0:
            check_clean(clean)
        noisy, *sigma = self.corrupt(clean, self.noise_generator(self.global_rank))
        loss = self.loss(noisy, clean, *sigma)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(clean), sync_dist=True)
        return loss

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # it cannot trace the making of a generator
    def noise_generator(self, rank: int = 0) -> torch.Generator:
        """The random numbers of the next training batch: a function of (seed, batches before it, rank)."""
        stream = (self.batches_seen, rank) if rank else (self.batches_seen,)
        self.batches_seen += 1
        return generator(self.seed, "noise", *stream, device=self.device)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer_class(self.parameters(), lr=self.lr, betas=self.optim.betas, eps=self.optim.eps)
        if not isinstance(self.optim, kinds.AdamOneCycle):
            return optimizer
        steps = self.total_steps()
        # OneCycleLR divides by warmup * steps - 1, and by (1 - warmup) * steps
        warmup = self.optim.warmup if self.optim.warmup * steps > 1 else 0.0
        # Smith and Topin, Super-Convergence, 2018; the momentum stays as it is
        schedule = OneCycleLR(optimizer, self.lr, steps, pct_start=warmup, cycle_momentum=False)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def total_steps(self) -> int:
        """Optimiser steps of the whole fit, which a one-cycle schedule is planned for."""
        return int(self.trainer.estimated_stepping_batches)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["batches_seen"] = self.batches_seen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches_seen = checkpoint["batches_seen"]

    # --- validation, test, prediction ---------------------------------------------------------------------------

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate("val", batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate("test", batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Denoised images; no noise is added."""
        images: Tensor = batch if isinstance(batch, Tensor) else batch[0]
        return self(images)  # type: ignore[no-any-return]

    def on_validation_epoch_end(self) -> None:
        self.log_quality("val")

    def on_test_epoch_end(self) -> None:
        self.log_quality("test")

    def corrupt_fixed(self, clean: Tensor, indices: Tensor) -> Tensor:
        """Noisy images for evaluation: one fixed draw per (eval_seed, index), in training and evaluation mode alike."""
        return corrupt_each(self.noise, clean, self.eval_seed, indices)

    def fixed_sigma(self, clean: Tensor, indices: Tensor) -> tuple[Tensor, ...]:
        """(sigma,) of the noise in what `corrupt_fixed` gives, for a network that is told it in training, or ()."""
        if not self.network.is_told_in_training:
            return ()
        return (sigma_of_each(self.noise, clean, self.eval_seed, indices),)

    def judge(self, stage: str, clean: Tensor, noisy: Tensor, *sigma: Tensor) -> None:
        """Add images to the metrics of a stage, val or test: clean ones in for reconstruction, noisy for denoising."""
        none = tuple(torch.zeros_like(each) for each in sigma)
        for task, images, told in zip(TASKS, (clean, noisy), (none, sigma), strict=True):
            logits = self.network.logits(images, *told).float()  # whatever the model's precision
            quality: Any = self.quality[f"{stage}_{task}"]
            quality.update(torch.sigmoid(logits), clean.float(), logits)

    def log_quality(self, stage: str) -> None:
        """Log `<stage>/<task>/<metric>` of the images judged, and reset the metrics."""
        for task in TASKS:
            quality: Any = self.quality[f"{stage}_{task}"]
            self.log_dict({f"{stage}/{task}/{name}": value for name, value in quality.compute().items()})
            quality.reset()

    def images_of(self, batch: Any) -> Tensor:
        """The images of a batch as (B, *input_shape)."""
        images: Tensor = batch[0] if isinstance(batch, (list, tuple)) else batch
        if isinstance(images, Tensor) and images.shape[1:] == (1, *self.input_shape):
            images = images.squeeze(1)
        check_images(images, self.input_shape, next(self.parameters()).dtype)
        return images

    def _evaluate(self, stage: str, batch: Any, batch_idx: int) -> None:
        clean = self.images_of(batch)
        self._position = 0 if batch_idx == 0 else self._position
        places = self._position + torch.arange(len(clean))
        self._position += len(clean)
        # PyTorch's DistributedSampler deals images out in turn: each has the noise that it has in a single process
        places = places * self.trainer.world_size + self.global_rank
        self.judge(stage, clean, self.corrupt_fixed(clean, places), *self.fixed_sigma(clean, places))


def load_model(path: Path) -> DenoisingAutoencoder:
    """The model of a checkpoint, on the CPU and in evaluation mode: it adds no noise; raises CheckpointError."""
    return DenoisingAutoencoder.load_from_checkpoint(path).eval()
