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
from dae_lightning.data.pictures import mode_of, picture, pixels
from dae_lightning.errors import ConfigError
from dae_lightning.model.autoencoder import DenoisingAutoencoder, load_model
from dae_lightning.model.noise import corrupt_each
from dae_lightning.schema import NonNegative, Seed, check

Images = TypeVar("Images")  # an array, a tensor, a PIL image, or a list or tuple of these
Function = Callable[[Tensor, int], Tensor]  # of a batch and the place of its first image among all
BYTES = {np.dtype(np.uint8), torch.uint8}
BYTE_LIKE = 16  # floats that exceed it, none of them negative, are taken for values from 0 to 255
BATCH_PIXELS = 2**20  # floats per batch; it affects the results by rounding only


class Denoiser:
    """A trained model in use. Only `corrupt` adds noise.

    Images are NumPy arrays, tensors or PIL images: one of the model's `input_shape`, many `(N, *input_shape)`, or a
    list or tuple of single ones. They are uint8, 0 to 255, or of a floating type; clean ones lie in [0, 1], noisy ones
    anywhere. Noisy uint8 images have been clipped, which only a model trained with `noise.clip` has seen: give others
    floats where you can.

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
        self.model = model.eval().to(_device(device), torch.float32)

    @classmethod
    def load(cls, checkpoint: str | Path, device: str = "auto") -> "Denoiser":
        """The model of a checkpoint, or of a run folder: its best checkpoint, else its last.

        Raises:
            CheckpointError: there is none, or it is damaged or foreign.
        """
        return cls(load_model(find_checkpoint(checkpoint)), device)

    def __call__(self, images: Images, sigma: Any = None) -> Images:
        """Denoised images, of the type, dtype, shape and range of `images`.

        `sigma`, of their noise, is a number or one per image, for a network that takes it: else it is estimated.

        Raises:
            ConfigError: a sigma of a wrong value or number, or for a network that cannot use it.
        """
        network, shape = self.model.network, self.model.input_shape
        if sigma is None:
            denoised: Images = self._apply(lambda batch, _: network(batch), images)
            return denoised
        if not network.takes_sigma:
            raise ConfigError(f"sigma={sigma}: network={network.kind} cannot use it; leave it out")
        told = sigma_of_each(sigma, images, shape)
        return self._apply(lambda batch, first: network(batch, told[first : first + len(batch)]), images)  # type: ignore[no-any-return]

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
        levels = None if sigma is None else sigma_of_each(sigma, images, self.model.input_shape)

        def corrupted(batch: Tensor, first: int) -> Tensor:
            places = torch.arange(first, first + len(batch))
            if levels is None or not len(batch):
                return corrupt_each(noise, batch, seed, places)
            each = zip(levels[places].tolist(), batch.split(1), places.split(1), strict=True)
            return torch.cat([corrupt_each(noise.at(level), image, seed, place) for level, image, place in each])

        return self._apply(corrupted, images, as_floats=True)

    @torch.no_grad()
    def _apply(self, function: Function, values: Any, name: str = "images", as_floats: bool = False) -> Any:
        """`function` of all `values`, batch by batch, in their type; bytes and pictures may become floats."""
        shape = self.model.input_shape if name == "images" else (self.model.latent,)

        def apply(part: Any, first: int = 0, in_list: bool = False) -> Any:
            batch = to_tensor(part, shape, self.model.device, name, in_list)
            return like(function(batch, first), part, shape, as_floats)

        if isinstance(values, (list, tuple)):
            return type(values)(apply(value, place, in_list=True) for place, value in enumerate(values))
        if getattr(values, "ndim", 0) <= len(shape):  # a single one, or of a wrong type
            return apply(values)
        size = max(1, BATCH_PIXELS // math.prod(self.model.input_shape))
        firsts = range(0, max(1, len(values)), size)  # no images are one batch, whose result has the right type
        results = [apply(values[first : first + size], first) for first in firsts]
        return torch.cat(results) if isinstance(values, Tensor) else np.concatenate(results, dtype=results[0].dtype)


def to_tensor(values: Any, shape: tuple[int, ...], device: torch.device, name: str, in_list: bool) -> Tensor:
    """`values` as float32 (N, *shape) on `device`, bytes scaled to [0, 1].

    Raises:
        TypeError, ValueError: values of another type or shape, or not finite.
    """
    if isinstance(values, Image) and name == "images":
        mode = mode_of(shape)
        if values.mode != mode:
            remedy = f"{mode} (see PIL's image.convert)" if mode else "NumPy arrays or tensors"
            raise TypeError(f"images are {values.mode}: must be {remedy}")
        values = pixels(values).reshape(*shape[:-2], values.height, values.width)
    if not isinstance(values, (np.ndarray, Tensor)):
        kinds = "NumPy arrays, tensors or PIL images, or a list of single ones"
        raise TypeError(f"{name} are {type(values).__name__}: must be {kinds}")
    is_bytes = name == "images" and values.dtype in BYTES
    if not is_bytes and not (values.is_floating_point() if isinstance(values, Tensor) else values.dtype.kind == "f"):
        right = "uint8 (0 to 255) or floating point (clean ones in [0, 1])" if name == "images" else "floating point"
        raise TypeError(f"{name} are {values.dtype}: must be {right}")
    came = tuple(values.shape)
    if came != shape and (in_list or came[1:] != shape):
        right = f"{shape} each in a list" if in_list else f"{shape} or (N, {', '.join(map(str, shape))})"
        raise ValueError(f"{name} are {came}: must be {right}")
    if isinstance(values, np.ndarray):
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, which is refused below
            values = torch.from_numpy(np.array(values, dtype=np.uint8 if is_bytes else np.float32))
    tensor: Tensor = values.to(device).float().reshape(-1, *shape) / (255 if is_bytes else 1)
    if not tensor.isfinite().all():
        raise ValueError(f"{name} hold NaN or infinity: must be finite")
    # noise that is strong enough for such values makes some of them negative
    if name == "images" and tensor.numel() and tensor.min() >= 0 and (high := tensor.max()) > BYTE_LIKE:
        raise ValueError(f"images reach {high:.3g}: divide by 255; clean floats lie in [0, 1]")
    return tensor


def sigma_of_each(sigma: Any, images: Any, shape: tuple[int, ...]) -> Tensor:
    """`sigma`, a number or one for each of `images`, as (N,); raises ConfigError."""
    several = isinstance(images, (list, tuple)) or getattr(images, "ndim", 0) > len(shape)
    count = len(images) if several else 1
    if np.ndim(sigma) == 0:
        return torch.full((count,), check(NonNegative, sigma, "sigma"), dtype=torch.float64)
    levels = torch.as_tensor(np.asarray(sigma, dtype=float))
    if levels.shape != (count,) or not bool((levels.isfinite() & (levels >= 0)).all()):
        given = f"sigma of shape {tuple(levels.shape)}, lowest {levels.min():g}, highest {levels.max():g}"
        raise ConfigError(f"{given}: must be one number for each of the {count} images, at least 0")
    return levels


def like(results: Tensor, values: Any, shape: tuple[int, ...], as_floats: bool) -> Any:
    """`results` (N, ...) of `values` of that `shape` in the type, dtype, range and device of `values`.

    A single one comes back single. With `as_floats` bytes come back as float32, and PIL images as arrays.
    """
    is_picture = isinstance(values, Image)
    is_bytes = is_picture or values.dtype in BYTES
    if is_picture or tuple(values.shape) == shape:
        results = results[0]
    if is_bytes and not as_floats:
        results = results.mul(255).round().byte()
    if isinstance(values, Tensor):
        return results.to(values.device, results.dtype if is_bytes else values.dtype)
    array = results.cpu().numpy()
    if is_picture:
        return array if as_floats else picture(array)
    return array if is_bytes else array.astype(values.dtype, copy=False)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ConfigError(f"device={name}: must be auto, cpu, or cuda, as torch names devices")
    if name != "cpu" and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: torch sees no CUDA GPU here; device=cpu needs none")
    return torch.device(name)
