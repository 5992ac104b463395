"""How noisy a photograph is: sigma of its Gaussian noise, estimated where it has no texture of its own."""

import math

import torch
from torch import Tensor

SIDE = 5  # of the patches
MOST = 2**18  # patches looked at; a larger picture is sampled
# a patch whose squared differences of neighbours add up to less than this many sigma^2 has no texture: noise alone has
# more once in a million patches, by the Gamma distribution of Liu et al.
TEXTURE = 240.76
ROUNDS = 5
ENOUGH = 4 * SIDE**2  # patches for a covariance
STEPS = 24  # of a bisection


@torch.no_grad()
def photograph_sigma(picture: Tensor) -> float:
    """Sigma of the noise in a photograph (H, W) or (C, H, W), in its units, before any clipping; H and W at least 5.

    Of patches without texture, the smallest eigenvalue of their covariance is sigma^2; a patch has none where its
    gradients are those of noise of that sigma; and so on in turn (Liu, Tanaka and Okutomi, Single-image noise level
    estimation for blind denoising, 2013). Unlike `noise_level.estimate_sigma`, which takes texture for noise.

    A picture that lies in [0, 1] is taken for a clipped one, as 8-bit pictures are: its patches have a smaller variance
    the darker or brighter they are, and sigma is the one with which they would have the variance that is seen. Patches
    that are black or white throughout say nothing. Bias and spread: docs/photographs.md.
    """
    clipped = bool(picture.min() >= 0 and picture.max() <= 1)
    planes = picture.reshape(-1, *picture.shape[-2:])
    step = math.ceil(math.sqrt(planes.numel() / MOST))
    patches = planes.unfold(1, SIDE, step).unfold(2, SIDE, step).reshape(-1, SIDE, SIDE).double().cpu()
    if clipped:
        patches = patches[((patches > 0) & (patches < 1)).flatten(1).any(1)]
    rows, columns = patches.diff(dim=1), patches.diff(dim=2)
    gradients = rows.square().sum((1, 2)) + columns.square().sum((1, 2))
    patches = patches.flatten(1)
    sigma, chosen = 0.0, patches
    for _ in range(1 + ROUNDS):
        if len(chosen) < ENOUGH:
            break
        variance = float(torch.linalg.eigvalsh(torch.cov(chosen.T))[0].clamp(min=0))
        sigma = before_clipping(variance, chosen.mean(1)) if clipped else math.sqrt(variance)
        chosen = patches[gradients < TEXTURE * sigma**2]
    return sigma


def before_clipping(variance: float, means: Tensor) -> float:
    """Sigma of noise that, clipped to [0, 1], leaves patches of these means (N,) with this variance on average."""
    grey = torch.linspace(0, 1, 65, dtype=means.dtype)
    count = torch.histc(means, 64, 0, 1)
    middle = (grey[1:] + grey[:-1]) / 2
    low, high = math.sqrt(variance), 4.0  # more cannot be told
    for _ in range(STEPS):
        sigma = max((low + high) / 2, 1e-6)
        mean, left = _clipped(grey, sigma)
        upper = torch.searchsorted(mean, middle).clamp(1, 64)
        share = ((middle - mean[upper - 1]) / (mean[upper] - mean[upper - 1])).clamp(0, 1)
        average = (count * left[upper - 1].lerp(left[upper], share)).sum() / count.sum()
        low, high = (sigma, high) if average < variance else (low, sigma)
    return low


def _clipped(grey: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Mean and variance of N(grey, sigma^2) clipped to [0, 1]."""
    a, b = -grey / sigma, (1 - grey) / sigma
    inside, white = torch.special.ndtr(b) - torch.special.ndtr(a), torch.special.ndtr(-b)
    at_a, at_b = (torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi) for x in (a, b))
    mean = grey * inside + sigma * (at_a - at_b) + white
    square = (grey.square() + sigma**2) * inside + sigma * (at_a * grey - at_b * (1 + grey)) + white
    return mean, square - mean.square()
