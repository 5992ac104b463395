"""Using a trained model: images in, denoised images of the same type out."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from dae_lightning.cli.run_folders import find_checkpoint
from dae_lightning.errors import ConfigError
from dae_lightning.inference.photographs import checked_stride, denoise_photograph
from dae_lightning.inference.values import like, shape_of, sigma_of_each, to_tensor
from dae_lightning.model.autoencoder import DenoisingAutoencoder, load_model
from dae_lightning.model.noise import corrupt_each
from dae_lightning.model.photograph_noise import photograph_sigma
from dae_lightning.schema import Seed, check

Images = TypeVar("Images")  # an array, a tensor, a PIL image, or a list or tuple of these
Function = Callable[[Tensor, int], Tensor]  # of a batch and the place of its first image among all
BATCH_PIXELS = 2**20  # floats per batch; it affects the results by rounding only


class Denoiser:
    """A trained model in use. Only `corrupt` adds noise.

    Images are NumPy arrays, tensors or PIL images: one of the model's `input_shape`, many `(N, *input_shape)`, or a
    list or tuple of single ones. They are uint8, 0 to 255, or of a floating type; clean ones lie in [0, 1], noisy ones
    anywhere. Noisy uint8 images have been clipped, which only a model trained with `noise.clip` has seen: give others
    floats where you can.

    A model of patches takes photographs of any size from its patch upwards, (H, W) or (3, H, W), many (N, H, W) or
    (N, 3, H, W), or a list of single ones of different sizes; they may also be uint16, 0 to 65535. `encode` and
    `decode` are of its patches.

    The network computes in float32 on `device` ("auto": a CUDA GPU if there is one, else the CPU), in batches (a list
    one by one), so that its memory does not grow with the number of images. Tensors come back on their own device.

    Raises:
        ConfigError: there is no such device.
        TypeError, ValueError: in every method: values of another type or shape, not finite, or floats from 0 to 255.
    """

    def __init__(self, model: DenoisingAutoencoder, device: str = "auto") -> None:
        if not isinstance(model, DenoisingAutoencoder):
            remedy = "Denoiser.load reads a run folder or a checkpoint"
            raise TypeError(f"model is {type(model).__name__}: must be a DenoisingAutoencoder; {remedy}")
        if model.patches and len(model.input_shape) != 2:
            raise ConfigError(f"model.input_shape={model.input_shape}: patches of photographs must be (H, W)")
        self.model = model.eval().to(_device(device), torch.float32)

    @classmethod
    def load(cls, checkpoint: str | Path, device: str = "auto") -> "Denoiser":
        """The model of a checkpoint, or of a run folder: its best checkpoint, else its last.

        Raises:
            CheckpointError: there is none, or it is damaged or foreign.
        """
        return cls(load_model(find_checkpoint(checkpoint)), device)

    def __call__(self, images: Images, sigma: Any = None, stride: int | None = None) -> Images:
        """Denoised images, of the type, dtype, shape and range of `images`.

        `sigma`, of their noise, is a number or one per image, for a network that takes it: else it is estimated.
        `stride`, for a model of patches, is how many pixels lie between one patch and the next: 1 is best and slowest,
        None is 3.

        Raises:
            ConfigError: a sigma of a wrong value or number, or for a network that cannot use it; a wrong stride.
        """
        network, patch, step = self.model.network, self.model.input_shape, self.checked_stride(stride)
        if sigma is not None and not network.takes_sigma:
            raise ConfigError(f"sigma={sigma}: network={network.kind} cannot use it; leave it out")
        told = None if sigma is None else self._sigma_of_each(sigma, images)

        def of_batch(batch: Tensor, first: int) -> Tensor:
            return network(batch) if told is None else network(batch, told[first : first + len(batch)])  # type: ignore[no-any-return]

        def of_photograph(batch: Tensor, place: int) -> Tensor:
            denoised = []
            for number, noisy in enumerate(batch, place):
                level = None
                if network.takes_sigma:
                    level = photograph_sigma(noisy) if told is None else float(told[number])
                denoised.append(denoise_photograph(network, patch, noisy, level, step))
            return torch.stack(denoised) if denoised else batch

        function = of_photograph if self.model.patches else of_batch
        denoised: Images = self._apply(function, images, of_any_size=self.model.patches)
        return denoised

    def checked_stride(self, stride: int | None) -> int:
        """The stride to use, of no meaning where the model takes whole images; raises ConfigError if it cannot be."""
        if not self.model.patches and stride is not None:
            raise ConfigError(f"stride={stride}: the model takes whole images, not patches; leave it out")
        return checked_stride(stride, self.model.input_shape)

    def encode(self, images: Any) -> Any:
        """Codes `(latent,)` or `(N, latent)`: like `images`, but always floats, and arrays for PIL images."""
        return self._apply(lambda batch, _: self.model.encode(batch), images, as_floats=True)

    def decode(self, codes: Any) -> Any:
        """Images in [0, 1] of codes as `encode` gives them: floats, arrays or tensors as the codes are."""
        return self._apply(lambda batch, _: self.model.decode(batch), codes, name="codes")

    def corrupt(self, images: Any, sigma: Any = None, seed: int = 0) -> Any:
        """Noisy images: always floats, and arrays for PIL images, since bytes cannot hold noise that is not clipped.

        `sigma` None is the noise that the model was trained on; another, a number or one per image, keeps its mean. The
        noise is a function of `seed` and of an image's place among `images`, as in the evaluation of test images.

        Raises:
            ConfigError: a sigma of a wrong value or number, a sigma for noise that has none, or an invalid seed.
        """
        noise, seed = self.model.noise, check(Seed, seed, "seed")
        if sigma is not None and noise.level != "sigma":
            raise ConfigError(f"sigma={sigma}: the model's noise, {noise}, has none; leave it out")
        levels = None if sigma is None else self._sigma_of_each(sigma, images)

        def corrupted(batch: Tensor, first: int) -> Tensor:
            places = torch.arange(first, first + len(batch))
            if levels is None or not len(batch):
                return corrupt_each(noise, batch, seed, places)
            each = zip(levels[places].tolist(), batch.split(1), places.split(1), strict=True)
            return torch.cat([corrupt_each(noise.at(level), image, seed, place) for level, image, place in each])

        return self._apply(corrupted, images, as_floats=True, of_any_size=self.model.patches)

    def _sigma_of_each(self, sigma: Any, images: Any) -> Tensor:
        return sigma_of_each(sigma, images, shape_of(images) if self.model.patches else self.model.input_shape)

    @torch.no_grad()
    def _apply(
        self, function: Function, values: Any, name: str = "images", as_floats: bool = False, of_any_size: bool = False
    ) -> Any:
        """`function` of all `values`, batch by batch, in their type; bytes and pictures may become floats."""
        shape = self.model.input_shape if name == "images" else (self.model.latent,)
        if of_any_size and not isinstance(values, (list, tuple)):
            shape = shape_of(values)

        def apply(part: Any, first: int = 0, in_list: bool = False) -> Any:
            own = shape_of(part) if of_any_size else shape
            batch = to_tensor(part, own, self.model.device, name, in_list, of_any_size)
            if of_any_size:
                self._check_size(own, part)
            return like(function(batch, first), part, own, as_floats)

        if isinstance(values, (list, tuple)):
            return type(values)(apply(value, place, in_list=True) for place, value in enumerate(values))
        if getattr(values, "ndim", 0) <= len(shape):  # a single one, or of a wrong type
            return apply(values)
        size = max(1, BATCH_PIXELS // math.prod(shape))
        firsts = range(0, max(1, len(values)), size)  # no images are one batch, whose result has the right type
        results = [apply(values[first : first + size], first) for first in firsts]
        return torch.cat(results) if isinstance(values, Tensor) else np.concatenate(results, dtype=results[0].dtype)

    def _check_size(self, shape: tuple[int, ...], came: Any) -> None:
        height, width = self.model.input_shape
        if len(shape) < 2 or shape[-2] < height or shape[-1] < width:
            given = f"{came.width}x{came.height}" if isinstance(came, Image) else tuple(came.shape)
            raise ValueError(f"images are {given}: must be (H, W) or (3, H, W), at least {height} and {width}")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(f"device={name}: must be auto, cpu, or cuda, as torch names devices")
    if name != "cpu" and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: torch sees no CUDA GPU here; device=cpu needs none")
    return torch.device(name)
