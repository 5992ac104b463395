"""The denoising autoencoder: noise, encoder, decoder, loss."""

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dae_lightning import config
from dae_lightning.model.image_checks import check_clean, check_images, check_shape
from dae_lightning.model.metrics import TASKS, ImageQuality
from dae_lightning.model.noise import Noise, corrupt_each, make_noise
from dae_lightning.model.optim import NOTEBOOK_ADAM, check_optim
from dae_lightning.model.reading import read_checkpoint
from dae_lightning.randomness import generator
from dae_lightning.schema import Positive, Seed, check
from dae_lightning.training.many_steps import ChunkOptimization

NEGATIVE_SLOPE = 0.3  # Keras' default LeakyReLU; PyTorch's is 0.01


class DenoisingAutoencoder(ChunkOptimization):
    """A dense denoising autoencoder (Vincent et al. 2008, 2010), as a Keras teaching notebook builds it.

    images -> noise -> flatten -> scale -> Linear(latent) -> LeakyReLU(0.3) -> Linear(pixels) -> sigmoid -> reshape.

    Images are (B, *input_shape) floats; clean ones lie in [0, 1], noisy ones anywhere.

    Args:
        input_shape: of one image: a positive int, or a tuple or list of them.
        latent: size of the code, at least 1.
        noise: a corruption process, or its settings as plain values; it acts in training mode only.
        optim: settings of the optimiser (see `conf/optim/`), by default the notebook's Adam.
        seed: initial weights and training noise are functions of it.
        eval_seed: the noise on validation and test images is a function of it and of an image's place.
        input_scale: the encoder sees images times this. With less than 1, the notebook's, it begins with smaller
            codes, and under Adam learns more slowly than the decoder: as if its initial weights and its learning rate
            were as much smaller.

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
        input_scale: float = 1.0,
    ) -> None:
        super().__init__(check_optim(optim))
        self.input_shape = check_shape(input_shape)
        self.latent: int = check(config.Latent, latent, "latent")
        self.noise = noise if isinstance(noise, Noise) else make_noise(noise)
        self.seed: int = check(Seed, seed, "seed")
        self.eval_seed: int = check(Seed, eval_seed, "eval_seed")
        self.input_scale: float = check(Positive, input_scale, "input_scale")

        pixels = math.prod(self.input_shape)
        self.encoder = nn.Linear(pixels, latent)
        self.decoder = nn.Linear(latent, pixels)
        self._initialise()
        # validating must not slow the training down: no SSIM, and no entropy of the targets
        quality = {f"val_{task}": ImageQuality(("bce", "psnr")) for task in TASKS}
        self.quality = nn.ModuleDict(quality | {f"test_{task}": ImageQuality() for task in TASKS})
        self._noisy_val: dict[int, Tensor] = {}
        # plain values only: the checkpoint loads with weights_only=True and needs no file beside it
        self.save_hyperparameters(
            {
                "input_shape": list(self.input_shape),
                "latent": latent,
                "noise": self.noise.settings(),
                "optim": {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.optim).items()},
                "seed": seed,
                "eval_seed": eval_seed,
                "input_scale": self.input_scale,
            }
        )

    def _initialise(self) -> None:
        """Keras' defaults: Glorot uniform weights (Glorot and Bengio 2010, eq. 16), zero biases."""
        for name, layer in (("encoder", self.encoder), ("decoder", self.decoder)):
            nn.init.xavier_uniform_(layer.weight, generator=generator(self.seed, "weights", name))
            nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def start_at(self, mean_image: Tensor) -> None:
        """Let the untrained model answer with this image (*input_shape) in [0, 1], and not with grey.

        At Adam's pace the output bias needs thousands of steps to where corners that are always black want it.
        """
        self.decoder.bias.copy_(mean_image.flatten().clamp(1e-3, 1 - 1e-3).logit())

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
        pixels = images.flatten(1)
        if self.input_scale != 1:  # a pass over the pixels, 3 % of a step, that the notebook does without
            pixels = self.input_scale * pixels
        return F.leaky_relu(self.encoder(pixels), NEGATIVE_SLOPE)

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

    def corrupted(self, clean: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """A batch with noise that is a function of (seed, step), and without."""
        return self.noise(clean, generator(self.seed, "noise", step, device=self.device)), clean

    def loss(self, noisy: Tensor, clean: Tensor) -> Tensor:
        """BCE of what is made of the noisy images against the clean ones."""
        logits = self.decode_logits(self.encode(noisy)).to(clean.dtype)  # they are bfloat16 under autocast
        return F.binary_cross_entropy_with_logits(logits, clean)

    def check_batch(self, clean: Tensor) -> None:
        check_images(clean, self.input_shape, self.encoder.weight.dtype)
        check_clean(clean)

    # --- validation and test --------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        self._noisy_val.clear()  # another fit may come with other images

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        clean, indices = map(self.share, batch)
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
            self.log_step()

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
