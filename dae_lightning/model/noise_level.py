"""How noisy images are, by their own testimony: the standard deviation of Gaussian noise in each."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dae_lightning.errors import ConfigError

LEAST_SIGMA = 0.5 / 255  # that a network can be told in training; less is taken for this
NORMAL_MEDIAN = 0.6745  # of |N(0, 1)|
EDGE, DETAIL = 2.0, 2.5  # sigmas; what exceeds them is taken for the image's own
ROUNDS = 4
# variance of N(0, 1) between -DETAIL and DETAIL
TRUNCATED = 1 - DETAIL * math.exp(-(DETAIL**2) / 2) * math.sqrt(2 / math.pi) / math.erf(DETAIL / math.sqrt(2))
# (sigma, what the details say) of a picture whose pixels are clipped to [0, 1]: half of it black, half every grey alike
CLIPPED = (
    *((0.0, 0.0), (0.1, 0.0695), (0.25, 0.1636), (0.5, 0.2956), (0.75, 0.3806), (1.0, 0.4331)),
    *((1.5, 0.5023), (2.0, 0.5529), (3.0, 0.6423), (4.0, 0.7266)),
)


@torch.no_grad()
def estimate_sigma(images: Tensor) -> Tensor:
    """Sigma of the noise in each of `images` (B, H, W) or (B, C, H, W), H and W at least 2: (B,), before any clipping.

    Of white noise, the Haar details of a block of 2 x 2 pixels (horizontal, vertical, diagonal) are independent, and
    each has the sigma of a pixel. The median size of the diagonal ones, over that of standard normal ones, is a first
    estimate (Donoho and Johnstone, Ideal spatial adaptation by wavelet shrinkage, 1994), in which an image's own detail
    counts as noise. It is refined in `ROUNDS`, as in the sigma clipping of astronomers: only overlapping blocks count
    that are flat by the estimate so far, without an edge or a detail larger than noise would make it; sigma is then the
    root mean square of their diagonal details, over that of a normal distribution truncated alike. The mean of the
    noise does not matter.

    An image that lies in [0, 1] is taken for a clipped one, as 8-bit pictures are: clipping leaves of strong noise only
    part of its details, which are no longer normal; the true sigma is looked up for the median in `CLIPPED`, up to 4.
    Bias and spread: docs/any_sigma.md.
    """
    top, bottom = images[..., :-1, :], images[..., 1:, :]
    sums, differences = (top + bottom) / 2, (top - bottom) / 2
    horizontal, vertical = sums[..., :-1] - sums[..., 1:], differences[..., :-1] + differences[..., 1:]
    diagonal = (differences[..., :-1] - differences[..., 1:]).abs().flatten(1)
    first = _median(diagonal) / NORMAL_MEDIAN
    edges = torch.maximum(horizontal.abs(), vertical.abs()).flatten(1)
    flatness, power = torch.maximum(edges / EDGE, diagonal / DETAIL), diagonal.square()
    sigma = first
    for _ in range(ROUNDS):
        flat = (flatness < sigma[:, None]).to(power)
        sigma = ((flat * power).sum(1) / (flat.sum(1).clamp(min=1) * TRUNCATED)).sqrt()
    pixels = images.flatten(1)
    clipped = (pixels.amin(1) >= 0) & (pixels.amax(1) <= 1)
    return torch.where(clipped, before_clipping(first), sigma)


def sigma_of(noisy: Tensor, sigma: Tensor | float | None, between: tuple[float, float]) -> Tensor:
    """Sigma of each of `noisy`, (B, 1): as told, or else as estimated from the image; within those bounds."""
    sigma = estimate_sigma(noisy) if sigma is None else torch.as_tensor(sigma).to(noisy)
    return sigma.clamp(*between).expand(noisy.shape[0])[:, None]


def check_readable(input_shape: Sequence[int], network: str) -> None:
    """Raise ConfigError unless sigma can be estimated from images of this shape, as this network does."""
    if len(input_shape) not in (2, 3) or min(input_shape[-2:]) < 2:
        remedy = "sigma is estimated from images (H, W) or (C, H, W); network=dense takes others"
        raise ConfigError(f"network={network}: input_shape={tuple(input_shape)}: {remedy}")


def before_clipping(sigma: Tensor) -> Tensor:
    """Sigma before the noise was clipped, from what the details of clipped pictures say: CLIPPED, interpolated."""
    # a sum of ramps, since tables would have to be copied to a GPU, which no CUDA graph can record
    ramps = [
        (sigma - said).clamp(0.0, said_next - said) * ((true_next - true) / (said_next - said))
        for (true, said), (true_next, said_next) in pairwise(CLIPPED)
    ]
    return torch.stack(ramps).sum(0)


def _median(values: Tensor) -> Tensor:
    """The (lower) median of (B, N), (B,)."""
    if values.is_cuda or torch.compiler.is_exporting():  # ONNX has no median, and CUDA's is not deterministic
        return values.sort(1).values[:, (values.shape[1] - 1) // 2]
    return values.median(1).values  # in a third of the time
