"""Using a trained model: images in, denoised images of the same type out."""

import math
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
Restore = Callable[[Tensor], Any]
Function = Callable[[Tensor, int], Tensor]  # of a batch and the place of its first image among all
BYTES = {np.dtype(np.uint8), torch.uint8}
BATCH_PIXELS = 2**20  # floats per batch; it affects the results by rounding only


class Denoiser:
    """A trained model in use. Only `corrupt` adds noise.

    Images are NumPy arrays, tensors or PIL images: one of the model's `input_shape`, many `(N, *input_shape)`, or a
    list or tuple of single ones. They are uint8, 0 to 255, or of a floating type; clean ones lie in [0, 1], noisy ones
    anywhere. Noisy uint8 images have been clipped, which the model has not seen in training: give floats where you can.

    The network computes in float32 on `device` ("auto": a CUDA GPU if there is one, else the CPU), in batches, so that
    its memory does not grow with the number of images. Tensors come back on their own device.

    Raises:
        ConfigError: there is no such device.
        TypeError, ValueError: in every method: values of another type or shape, or not finite.
    """

    def __init__(self, model: DenoisingAutoencoder, device: str = "auto") -> None:
        self.model = model.eval().to(_device(device))

    @classmethod
    def load(cls, checkpoint: str | Path, device: str = "auto") -> "Denoiser":
        """The model of a checkpoint, or of a run folder: its best checkpoint, else its last.

        Raises:
            CheckpointError: there is none, or it is damaged or foreign.
        """
        return cls(load_model(find_checkpoint(checkpoint)), device)

    def __call__(self, images: Images) -> Images:
        """Denoised images, of the type, dtype, shape and range of `images`."""
        denoised: Images = self._batched(lambda batch, _: self.model.network(batch), images)
        return denoised

    def encode(self, images: Any) -> Any:
        """Codes `(latent,)` or `(N, latent)`: like `images`, but always floats, and arrays for PIL images."""
        return self._batched(lambda batch, _: self.model.encode(batch), images, as_floats=True)

    def decode(self, codes: Any) -> Any:
        """Images in [0, 1] of codes as `encode` gives them: floats, arrays or tensors as the codes are."""
        return self._batched(lambda batch, _: self.model.decode(batch), codes, name="codes")

    def corrupt(self, images: Any, sigma: float | None = None, seed: int = 0) -> Any:
        """Noisy images, not clipped: always floats, and arrays for PIL images, since bytes cannot hold such noise.

        `sigma` None is the noise that the model was trained on; another keeps its mean. The noise is a function
        of `seed` and of an image's place among `images`, as in the evaluation of test images.

        Raises:
            ConfigError: a negative sigma, a sigma for noise that has none, or an invalid seed.
        """
        noise, seed = self.model.noise, check(Seed, seed, "seed")
        if sigma is not None:
            if noise.level != "sigma":
                raise ConfigError(f"sigma={sigma}: the model's noise, {noise}, has none; leave it out")
            noise = noise.at(check(NonNegative, sigma, "sigma"))

        def corrupted(batch: Tensor, first: int) -> Tensor:
            return corrupt_each(noise, batch, seed, torch.arange(first, first + len(batch)))

        return self._batched(corrupted, images, as_floats=True)

    @torch.no_grad()
    def _batched(self, function: Function, values: Any, name: str = "images", as_floats: bool = False) -> Any:
        """`function` of all `values`, in their type, as `to_batch` describes it."""
        shape = self.model.input_shape if name == "images" else (self.model.latent,)

        def apply(part: Any, first: int) -> Any:
            batch, restore = to_batch(part, shape, self.model.device, name, as_floats)
            return restore(function(batch, first))

        is_list = isinstance(values, (list, tuple))
        if not is_list and getattr(values, "ndim", 0) <= len(shape):
            return apply(values, 0)
        size = max(1, BATCH_PIXELS // math.prod(self.model.input_shape))
        part = apply(values[:size], 0)  # also of no images: an empty result of the right type
        if len(values) <= size:
            return part
        results = list(part) if is_list else _room_for(len(values), part)
        results[:size] = part
        for first in range(size, len(values), size):
            results[first : first + size] = apply(values[first : first + size], first)
        return type(values)(results) if is_list else results


def to_batch(
    values: Any,
    shape: tuple[int, ...],
    device: torch.device | str = "cpu",
    name: str = "images",
    as_floats: bool = False,
    many: bool = True,
) -> tuple[Tensor, Restore]:
    """`values` as float32 (N, *shape) on `device`, bytes scaled to [0, 1], and a function that turns results back.

    `restore(results)` gives results (N, ...) the type, dtype, range and device of `values`; a single one comes back
    single. With `as_floats` bytes come back as float32 and PIL images as arrays. `many` False takes single ones only.

    Raises:
        TypeError, ValueError: values of another type or shape, or not finite.
    """
    if many and isinstance(values, (list, tuple)):
        parts = [to_batch(value, shape, device, name, as_floats, many=False) for value in values]
        together = torch.cat([torch.empty(0, *shape, device=device), *(part for part, _ in parts)])
        return together, lambda results: type(values)(
            [restore(result[None]) for (_, restore), result in zip(parts, results, strict=True)]
        )
    if isinstance(values, Image) and name == "images" and (mode := mode_of(shape)):
        if values.mode != mode:
            raise TypeError(f"images are {values.mode}: must be {mode} (see PIL's image.convert)")
        array = pixels(values).reshape(*shape[:-2], values.height, values.width)
        batch, as_array = to_batch(array, shape, device, name, as_floats, many=False)
        return batch, as_array if as_floats else lambda results: picture(as_array(results))

    _check(values, shape, name, many)
    is_bytes, single = values.dtype in BYTES, tuple(values.shape) == shape
    tensor = values
    if isinstance(values, np.ndarray):
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, which is refused below
            tensor = torch.from_numpy(np.array(values, dtype=np.uint8 if is_bytes else np.float32))
    batch = tensor.to(device).float() / (255 if is_bytes else 1)
    if not batch.isfinite().all():
        raise ValueError(f"{name} hold NaN or infinity: must be finite")

    def restore(results: Tensor) -> Any:
        results = results[0] if single else results
        if is_bytes and not as_floats:
            results = results.mul(255).round().to(torch.uint8)
        if isinstance(values, Tensor):
            return results.to(values.device, results.dtype if is_bytes else values.dtype)
        array = results.cpu().numpy()
        return array if is_bytes else array.astype(values.dtype, copy=False)

    return batch[None] if single else batch, restore


def _check(values: Any, shape: tuple[int, ...], name: str, many: bool) -> None:
    if not isinstance(values, (np.ndarray, Tensor)):
        pictures = name == "images" and mode_of(shape) is not None
        kinds = "NumPy arrays, tensors or PIL images" if pictures else "NumPy arrays or tensors"
        raise TypeError(f"{name} are {type(values).__name__}: must be {kinds}, or a list of single ones")
    floating = values.is_floating_point() if isinstance(values, Tensor) else values.dtype.kind == "f"
    if not floating and not (name == "images" and values.dtype in BYTES):
        right = "uint8 (0 to 255) or floating point (clean ones in [0, 1])"
        raise TypeError(f"{name} are {values.dtype}: must be {right if name == 'images' else 'floating point'}")
    came = tuple(values.shape)
    if came != shape and not (many and came[1:] == shape):
        right = f"{shape} or (N, {', '.join(map(str, shape))})" if many else f"{shape} each in a list"
        raise ValueError(f"{name} are {came}: must be {right}")


def _room_for(count: int, part: Any) -> Any:
    """An uninitialised array or tensor for `count` results like those in `part`."""
    shape = (count, *part.shape[1:])
    return part.new_empty(shape) if isinstance(part, Tensor) else np.empty(shape, part.dtype)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device={name}: must be auto, cpu, or cuda, as torch names devices")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: torch sees no CUDA GPU here; device=cpu needs none")
    return device
