"""A trained model at work: images in, denoised images of the same kind out."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from dae_lightning.cli.run_folders import find_checkpoint
from dae_lightning.data.pictures import mode_of, picture, pixels
from dae_lightning.errors import ConfigError
from dae_lightning.model.autoencoder import DenoisingAutoencoder, load_model
from dae_lightning.model.noise import Noise, corrupt_each
from dae_lightning.schema import Seed, check

Images = TypeVar("Images")  # an array, a tensor, a PIL image, or a list or tuple of these
Function = Callable[[Tensor, int], Tensor]
BATCH_PIXELS = 2**20  # floats that go through the network at a time; the results depend on it by rounding only
BYTES = {np.dtype(np.uint8), torch.uint8}


class _Space(NamedTuple):
    """Where values live, and the shape of one."""

    name: str
    shape: tuple[int, ...]


class Denoiser:
    """A model in use. It adds no noise, except in `corrupt`.

    Images are NumPy arrays, tensors or PIL images; one of the model's `input_shape`, or many `(N, *input_shape)`,
    or a list or tuple of single ones. They are uint8, 0 to 255, or of a floating type, clean ones in [0, 1]; noisy
    ones may lie anywhere. Noise in uint8 images has been clipped by their type, which the model has not seen in
    training: give noisy images as floats where you can.

    The network computes in float32 on `device` ("auto": a CUDA GPU where there is one, else the CPU), some images
    at a time, so that memory hardly grows with their number. Tensors come back on the device they came from.

    Raises:
        ConfigError: there is no such device.
        TypeError, ValueError: in every method: values of another type or shape, or not finite.
    """

    def __init__(self, model: DenoisingAutoencoder, device: str = "auto") -> None:
        self.model = model.eval().to(_device(device))
        self._images = _Space("images", model.input_shape)
        self._codes = _Space("codes", (model.latent,))
        self._batch = max(1, BATCH_PIXELS // math.prod(model.input_shape))

    @classmethod
    def load(cls, checkpoint: str | Path, device: str = "auto") -> "Denoiser":
        """The model of a checkpoint, or of a run folder: its best checkpoint, else its last.

        Raises:
            CheckpointError: there is none, or it is damaged or foreign.
        """
        return cls(load_model(find_checkpoint(checkpoint)), device)

    def __call__(self, images: Images) -> Images:
        """Denoised images, of the type, dtype, shape and range of those that came."""
        return self._through(self._denoised, images, self._images, self._images, keep=True)  # type: ignore[no-any-return]

    def encode(self, images: Any) -> Any:
        """Codes `(latent,)` or `(N, latent)`: like `images`, but floats in any case, and arrays for PIL images."""
        return self._through(self._encoded, images, self._images, self._codes)

    def decode(self, codes: Any) -> Any:
        """Images in [0, 1] of codes as `encode` gives them: floats, arrays or tensors as the codes are."""
        return self._through(self._decoded, codes, self._codes, self._images)

    def corrupt(self, images: Any, sigma: float | None = None, seed: int = 0) -> Any:
        """Noisy images, not clipped: floats in any case, and arrays for PIL images, since bytes hold no such noise.

        `sigma` None is the noise that the model was trained on; another keeps its mean. The noise is a function
        of `seed` and of an image's place among `images`, as in the evaluation of test images.

        Raises:
            ConfigError: a negative sigma, or one for noise that has none; a seed that is none.
        """
        noise, seed = self._noise(sigma), check(Seed, seed, "seed")

        def corrupted(batch: Tensor, first: int) -> Tensor:
            return corrupt_each(noise, batch, seed, torch.arange(first, first + len(batch)))

        return self._through(corrupted, images, self._images, self._images)

    # a batch of floats on the model's device, and the place of its first among all -> the results

    def _denoised(self, batch: Tensor, first: int) -> Tensor:
        return self.model.decode(self.model.encode(batch))

    def _encoded(self, batch: Tensor, first: int) -> Tensor:
        return self.model.encode(batch)

    def _decoded(self, batch: Tensor, first: int) -> Tensor:
        return self.model.decode(batch)

    def _noise(self, sigma: float | None) -> Noise:
        trained = self.model.noise
        if sigma is None:
            return trained
        if trained.level != "sigma":
            raise ConfigError(f"sigma={sigma}: the model's noise, {trained}, has none; leave it out")
        return trained.at(sigma)

    @torch.no_grad()
    def _through(self, function: Function, values: Any, source: _Space, target: _Space, keep: bool = False) -> Any:
        """`function` of all `values`, batch by batch, in their kind of container.

        With `keep` results are of the type that came; without, bytes become float32 and PIL images arrays.
        """
        if isinstance(values, (list, tuple)):
            arrays = [_array(value, source, many=False) for value in values]
            results = [_empty(array, target.shape, keep) for array in arrays]
            for first in range(0, len(arrays), self._batch):
                part = slice(first, first + self._batch)
                batch = torch.stack([self._unit(array, source) for array in arrays[part]])
                for result, row in zip(results[part], function(batch, first), strict=True):
                    _store(row, result, ...)
            came = zip(results, values, strict=True)
            return type(values)([_as_came(result, value) if keep else result for result, value in came])

        array = _array(values, source, many=True)
        single = tuple(array.shape) == source.shape
        many = array[None] if single else array
        results = _empty(array, (len(many), *target.shape), keep)
        for first in range(0, len(many), self._batch):
            part = slice(first, first + self._batch)
            _store(function(self._unit(many[part], source), first), results, part)
        results = results[0] if single else results
        return _as_came(results, values) if keep else results

    def _unit(self, array: Any, space: _Space) -> Tensor:
        """As float32 on the model's device, bytes as [0, 1]."""
        if isinstance(array, np.ndarray):
            with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused below
                array = np.array(array, dtype=np.uint8 if array.dtype in BYTES else np.float32)
            array = torch.from_numpy(array)
        tensor: Tensor = array.to(self.model.device)
        if tensor.dtype in BYTES:
            return tensor.float().div_(255)
        if not (floats := tensor.float()).isfinite().all():
            raise ValueError(f"{space.name} hold NaN or infinity: must be finite")
        return floats


def _array(values: Any, space: _Space, many: bool) -> Any:
    """`values` as an array or tensor, checked: one of `space`'s shape, or several where `many` allows it."""
    name, shape = space
    pictures = name == "images" and mode_of(shape) is not None
    if pictures and isinstance(values, Image):
        if values.mode != mode_of(shape):
            raise TypeError(f"images are {values.mode}: must be {mode_of(shape)} (see PIL's image.convert)")
        values = pixels(values) if len(shape) == 2 or shape[0] == 3 else pixels(values)[None]
    if not isinstance(values, (np.ndarray, Tensor)):
        kinds = "NumPy arrays, tensors or PIL images" if pictures else "NumPy arrays or tensors"
        raise TypeError(f"{name} are {type(values).__name__}: must be {kinds}, or a list of single ones")
    floating = values.is_floating_point() if isinstance(values, Tensor) else values.dtype.kind == "f"
    if not floating and not (name == "images" and values.dtype in BYTES):
        right = "uint8 (0 to 255) or floating point (clean ones in [0, 1])"
        raise TypeError(f"{name} are {values.dtype}: must be {right if name == 'images' else 'floating point'}")
    came = tuple(values.shape)
    if came != shape and not (many and came[1:] == shape):
        one = f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
        right = f"{one} or (N, {', '.join(map(str, shape))})" if many else f"{one} each in a list"
        raise ValueError(f"{name} are {came}: must be {right}")
    return values


def _empty(like: Any, shape: tuple[int, ...], keep: bool) -> Any:
    """Room for results, where and of the type that `like` is; not for bytes, unless these are to be kept."""
    floats = like.dtype in BYTES and not keep
    if isinstance(like, Tensor):
        return torch.empty(shape, dtype=torch.float32 if floats else like.dtype, device=like.device)
    return np.empty(shape, dtype=np.float32 if floats else like.dtype)


def _store(values: Tensor, results: Any, where: Any) -> None:
    """results[where] = values, in the results' type; for bytes 1.0 is 255."""
    if results.dtype in BYTES:
        values = values.mul(255).round_().to(torch.uint8)
    results[where] = values if isinstance(results, Tensor) else values.cpu().numpy()


def _as_came(result: Any, value: Any) -> Any:
    return picture(result) if isinstance(value, Image) else result


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name}: must be auto, cpu, or cuda, as torch names devices") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device={name}: must be auto, cpu, or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: torch sees no CUDA GPU here; device=cpu needs none")
    return device
