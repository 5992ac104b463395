"""Photographs of any size through a model of patches: overlapping patches are denoised, and averaged with weights.

A dense autoencoder on overlapping patches is that of Burger, Schuler and Harmeling, Image denoising: can plain neural
networks compete with BM3D? (2012).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from dae_lightning.errors import ConfigError
from dae_lightning.model.network import Network

STRIDE = 3  # pixels from one patch to the next
NARROW = 4  # the window's standard deviation is the patch's side over this
BATCH = 2**12  # patches at a time, so that memory does not grow with the picture
PATIENCE = 3.0  # seconds, after which a bar is shown
# luminance and two chrominances of red, green and blue, as in CBM3D (Dabov et al. 2007), here orthonormal: white noise
# has the same sigma in each
OPPONENT = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [1 / 2, 0, -1 / 2], [1 / 6, -1 / 3, 1 / 6]])
OPPONENT = OPPONENT / OPPONENT.norm(dim=1, keepdim=True)
# planes are scaled, and sigma with them, and moved, into [0, 1]: the luminance of white is the square root of 3
SCALES = (1 / math.sqrt(3),) * 3
MIDDLES = (0.0, 0.5, 0.5)


def checked_stride(stride: int | None, patch: tuple[int, ...]) -> int:
    """The stride to use with such patches, by default 3; raises ConfigError where there cannot be such a stride."""
    side = min(patch)
    if stride is None:
        return min(STRIDE, side)
    if type(stride) is not int or not 1 <= stride <= side:
        raise ConfigError(f"stride={stride}: must be a whole number from 1 to {side}, the side of the model's patches")
    return stride


@torch.no_grad()
def denoise_photograph(
    network: Network,
    patch: tuple[int, ...],
    noisy: Tensor,
    sigma: float | None = None,
    stride: int = STRIDE,
    bar: bool = True,
) -> Tensor:
    """A photograph (H, W) or (3, H, W), denoised by a network of patches of that size (h, w), in [0, 1].

    H and W are at least those of a patch. `sigma`, of the noise, is for a network that takes it. Of colour, luminance
    and chrominances are denoised apart. A `bar` shows how far it is, on a terminal and where that takes seconds.
    """
    planes = 1 if noisy.dim() == 2 else len(OPPONENT)
    steps = planes * len(_places(noisy.shape[-2], patch[0], stride))
    hidden = None if bar else True  # None: where there is no terminal
    with tqdm(total=steps, unit=" rows", delay=PATIENCE, disable=hidden, leave=False, dynamic_ncols=True) as progress:
        if noisy.dim() == 2:
            return _denoised(network, patch, noisy, sigma, stride, progress).clamp_(0, 1)
        result = torch.zeros_like(noisy)
        for weights, scale, middle in zip(OPPONENT.to(noisy), SCALES, MIDDLES, strict=True):
            plane = torch.tensordot(weights, noisy, 1).mul_(scale).add_(middle)
            level = None if sigma is None else sigma * scale
            denoised = _denoised(network, patch, plane, level, stride, progress).sub_(middle).div_(scale)
            for number, weight in enumerate(weights.tolist()):  # the inverse of the transform is its transpose
                result[number].add_(denoised, alpha=weight)
        return result.clamp_(0, 1)


def _denoised(
    network: Network, patch: tuple[int, ...], plane: Tensor, sigma: float | None, stride: int, progress: tqdm
) -> Tensor:
    """A plane (H, W): the weighted mean, at each pixel, of the denoised patches that hold it; not clipped."""
    height, width = patch
    # reflected as far as a patch reaches, so that as many patches hold a pixel at the border as in the middle
    padded = F.pad(plane[None], (width - 1, width - 1, height - 1, height - 1), mode="reflect")[0]
    windows = [_window(side).to(plane) for side in (height, width)]
    window = torch.outer(*windows)
    rows, columns = (_places(size, side, stride) for size, side in zip(plane.shape, (height, width), strict=True))
    right = columns[-1] + width
    total = torch.zeros_like(padded)
    at_once = max(1, BATCH // len(columns))
    for first in range(0, len(rows), at_once):
        some = rows[first : first + at_once]
        strip = slice(some[0], some[-1] + height)
        patches = padded[strip].unfold(0, height, stride).unfold(1, width, stride).reshape(-1, height, width)
        told = None if sigma is None else patches.new_full((len(patches),), sigma)
        denoised = network.regress(patches, told) * window
        size = (strip.stop - strip.start, right)
        total[strip, :right] += F.fold(denoised.flatten(1).T[None], size, (height, width), stride=stride)[0, 0]
        progress.update(len(some))
    total /= _coverage(windows[0], rows, len(padded))[:, None]
    total /= _coverage(windows[1], columns, padded.shape[1])
    return total[height - 1 : height - 1 + plane.shape[0], width - 1 : width - 1 + plane.shape[1]].contiguous()


def _places(size: int, side: int, stride: int) -> range:
    """Where patches begin in a picture of that size that is reflected by `side` - 1 pixels at both ends."""
    return range(0, size + side - 1, stride)


def _window(side: int) -> Tensor:
    """Gaussian weights (side,)."""
    place = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    return torch.exp(-place.square() / (2 * (side / NARROW) ** 2))


def _coverage(window: Tensor, places: range, size: int) -> Tensor:
    """What the windows at these places add up to, (size,)."""
    total = window.new_zeros(size)
    for place in places:
        total[place : place + len(window)] += window
    return total
