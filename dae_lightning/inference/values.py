"""Images as a `Denoiser` takes and gives them: arrays, tensors and PIL images, to float tensors and back."""

from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from dae_lightning.data.pictures import mode_of, picture, pixels
from dae_lightning.errors import ConfigError
from dae_lightning.schema import NonNegative, check

BYTES: dict[Any, int] = {np.dtype(np.uint8): 255, torch.uint8: 255}  # types of whole numbers, and which one is white
WHOLE = BYTES | {np.dtype(np.uint16): 65535, torch.uint16: 65535}
MODES = ["L", "RGB", "I;16"]  # of photographs, in Pillow's names
BYTE_LIKE = 16  # floats that exceed it, none of them negative, are taken for values from 0 to 255


def shape_of(photographs: Any) -> tuple[int, ...]:
    """The shape of a single one of `photographs`: (H, W) or (3, H, W)."""
    if isinstance(photographs, Image):
        size = (photographs.height, photographs.width)
        return (3, *size) if photographs.mode == "RGB" else size
    came = tuple(getattr(photographs, "shape", ()))
    return came[-3:] if len(came) > 2 and came[-3] == 3 else came[-2:]


def to_tensor(
    values: Any,
    shape: tuple[int, ...],
    device: torch.device,
    name: str = "images",
    in_list: bool = False,
    of_any_size: bool = False,
) -> Tensor:
    """`values` as float32 (N, *shape) on `device`, whole numbers scaled to [0, 1].

    Photographs, `of_any_size`, may be of 16 bits.

    Raises:
        TypeError, ValueError: values of another type or shape, or not finite.
    """
    if isinstance(values, Image) and name == "images":
        modes = MODES if of_any_size else list(filter(None, [mode_of(shape)]))
        if values.mode not in modes:
            remedy = f"{' or '.join(modes)} (see PIL's image.convert)" if modes else "NumPy arrays or tensors"
            raise TypeError(f"images are {values.mode}: must be {remedy}")
        array = np.array(values) if values.mode == "I;16" else pixels(values)
        values = array.reshape(*shape[:-2], values.height, values.width)
    if not isinstance(values, (np.ndarray, Tensor)):
        remedy = "NumPy arrays, tensors or PIL images, or a list of single ones"
        raise TypeError(f"{name} are {type(values).__name__}: must be {remedy}")
    whole = {} if name == "codes" else WHOLE if of_any_size else BYTES
    white = whole.get(values.dtype)
    if not white and not (values.is_floating_point() if isinstance(values, Tensor) else values.dtype.kind == "f"):
        named = [f"{kind} (0 to {highest})" for kind, highest in whole.items() if isinstance(kind, np.dtype)]
        clean = " (clean ones in [0, 1])" if whole else ""
        raise TypeError(f"{name} are {values.dtype}: must be {' or '.join([*named, 'floating point'])}{clean}")
    came = tuple(values.shape)
    if came != shape and (in_list or came[1:] != shape):
        right = f"{shape} each in a list" if in_list else f"{shape} or (N, {', '.join(map(str, shape))})"
        raise ValueError(f"{name} are {came}: must be {right}")
    if isinstance(values, np.ndarray):
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, which is refused below
            values = torch.from_numpy(np.array(values, dtype=values.dtype if white else np.float32))
    tensor: Tensor = values.to(device).float().reshape(-1, *shape) / (white or 1)
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
    white = (65535 if values.mode == "I;16" else 255) if is_picture else WHOLE.get(values.dtype)
    if is_picture or tuple(values.shape) == shape:
        results = results[0]
    if white and not as_floats:
        results = results.mul(white).round_().to(torch.uint8 if white == 255 else torch.uint16)
    if isinstance(values, Tensor):
        return results.to(values.device, results.dtype if white else values.dtype)
    array = results.cpu().numpy()
    if is_picture:
        return array if as_floats else picture(array)
    return array if white else array.astype(values.dtype, copy=False)
