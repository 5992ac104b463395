"""What may go into a model, and the errors of what may not."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def in_our_names(init: Callable[P, None]) -> Callable[P, None]:
    """The model's constructor; to the notebook's own call it answers with the names of its arguments here."""

    @wraps(init)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        if theirs := kwargs.keys() & {"input_dim", "latent_dim", "noise_mean", "noise_stddev"}:
            ours = "DenoisingAutoencoder(input_shape=..., latent=..., noise=GaussianNoise(mean, sigma))"
            raise TypeError(f"{', '.join(sorted(theirs))}: named otherwise here, as in {ours}")
        init(*args, **kwargs)

    return checked


def check_shape(input_shape: int | Sequence[int]) -> tuple[int, ...]:
    """`input_shape` as a tuple, an int as (int,); raises TypeError or ValueError."""
    sizes = (input_shape,) if isinstance(input_shape, int) else input_shape
    if not isinstance(sizes, (tuple, list)) or not all(type(size) is int for size in sizes):
        raise TypeError(f"input_shape={input_shape!r}: must be an int, or a tuple or list of ints")
    if not sizes or min(sizes) < 1:
        raise ValueError(f"input_shape={input_shape!r}: must be positive")
    return tuple(sizes)


def check_images(images: Tensor, input_shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raise TypeError or ValueError unless `images` are (B, *input_shape) of `dtype`."""
    if not isinstance(images, Tensor):
        raise TypeError(f"images are {type(images).__name__}: must be a tensor")
    if images.dtype != dtype:
        raise TypeError(f"images are {images.dtype}: must be {dtype}, clean ones in [0, 1]")
    if images.shape[1:] != input_shape:
        raise ValueError(f"images are {tuple(images.shape)}: must be (B, {', '.join(map(str, input_shape))})")


def check_clean(images: Tensor) -> None:
    """Raise ValueError unless all of clean images lie in [0, 1]."""
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images lie in [{low:g}, {high:g}]: must lie in [0, 1] (divide bytes by 255)")
