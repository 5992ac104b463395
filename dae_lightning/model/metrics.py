"""How good an estimate of clean images is: BCE, MSE, PSNR and SSIM, each taken per image, then averaged over images."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

TASKS = ("reconstruction", "denoising")  # clean in, noisy in
METRICS = ("bce", "bce_excess", "psnr", "ssim")
BCE_CLIP = 1e-6  # estimates without logits are clipped to [BCE_CLIP, 1 - BCE_CLIP] before their BCE is taken


def entropy(clean: Tensor) -> Tensor:
    """H(t) = -t log t - (1 - t) log(1 - t), mean over pixels, (B,): the BCE of grey targets that no model can pass."""
    return -(torch.xlogy(clean, clean) + torch.xlogy(1 - clean, 1 - clean)).flatten(1).mean(1)


def bce(logits: Tensor, clean: Tensor) -> Tensor:
    """Binary cross-entropy of the estimates s = sigmoid(logits), mean over pixels, (B,).

    -log s = softplus(l) - l and -log(1 - s) = softplus(l). The last bit of torch's own depends on the batch.
    """
    return F.softplus(logits).addcmul_(logits, clean, value=-1).flatten(1).mean(1)


def mse(estimate: Tensor, clean: Tensor) -> Tensor:
    """Mean squared error over pixels, (B,)."""
    return (estimate - clean).square_().flatten(1).mean(1)


def psnr(estimate: Tensor, clean: Tensor) -> Tensor:
    """10 log10(1 / MSE) in dB, (B,): the data range is 1 and the estimate is not clipped."""
    return -10 * torch.log10(mse(estimate, clean))


def ssim(estimate: Tensor, clean: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, eq. 13, Gaussian window), data range 1, mean over pixels, (B,).

    Both are (B, H, W) or (B, C, H, W), H and W at least 11, the window's size, which sees the image reflected at its
    borders, as torchmetrics has it; nan for images of other shapes.
    """
    if clean.dim() not in (3, 4) or min(clean.shape[-2:]) < 11:
        return torch.full((len(clean),), torch.nan, device=clean.device)
    # the window is a product of two, so two matrix products do, in a small part of a convolution's time
    rows, columns = (_gaussian_windows(size).to(clean) for size in clean.shape[-2:])

    def local_mean(images: Tensor) -> Tensor:
        return rows.T @ images @ columns

    mean_x, mean_y = local_mean(estimate), local_mean(clean)
    squares, product = mean_x.square() + mean_y.square(), mean_x * mean_y
    variances = (local_mean(estimate.square()) + local_mean(clean.square()) - squares).clamp(min=0)
    covariance = local_mean(estimate * clean) - product
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
    return similarity.flatten(1).mean(1)


def _gaussian_windows(size: int) -> Tensor:
    """(size, size): column j weighs the pixels j - 5 to j + 5 by a Gaussian of sigma 1.5, in all by 1."""
    weights = torch.exp(-torch.arange(-5, 6).square() / (2 * 1.5**2))
    windows = F.pad(torch.eye(size), (5, 5), mode="reflect").unfold(1, len(weights), 1)  # (size, size, 11)
    return windows @ (weights / weights.sum())


class ImageQuality(Metric):
    """Mean over images of those asked for of bce, bce_excess (over the targets' entropy), mse, psnr and ssim.

    Sums are kept in double precision: the result does not depend on the batches in which images came.
    """

    full_state_update = False
    total: Tensor
    squares: Tensor
    count: Tensor

    def __init__(self, names: Sequence[str] = METRICS) -> None:
        super().__init__()
        self.names = tuple(names)
        self.add_state("total", torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("squares", torch.zeros_like(self.total), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, estimate: Tensor, clean: Tensor, logits: Tensor | None = None) -> None:
        """`estimate` of `clean`, both (B, *input_shape); `logits` where the estimate is their sigmoid."""
        cross_entropy = bce(torch.logit(estimate, BCE_CLIP) if logits is None else logits, clean)
        values = {
            "bce": lambda: cross_entropy,
            "bce_excess": lambda: cross_entropy - entropy(clean),
            "mse": lambda: mse(estimate, clean),
            "psnr": lambda: psnr(estimate, clean),
            "ssim": lambda: ssim(estimate, clean),
        }
        with torch.autocast(clean.device.type, enabled=False):  # SSIM takes differences of matrix products
            each = torch.stack([values[name]() for name in self.names]).double()
        # not in place: after `trainer.validate` the sums are tensors of inference mode, which a fit could not change
        self.total = self.total + each.sum(1)
        self.squares = self.squares + each.square().sum(1)
        self.count = self.count + len(clean)

    def compute(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.total / self.count, strict=True))

    def ci95(self) -> dict[str, Tensor]:
        """Half the 95 % confidence interval of each mean: 1.96 standard errors over images; nan of a single one."""
        variance = (self.squares - self.total.square() / self.count).clamp(min=0) / (self.count - 1)
        return dict(zip(self.names, 1.96 * (variance / self.count).sqrt(), strict=True))
