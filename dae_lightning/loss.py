"""Binary cross-entropy on logits, the loss of the notebook, in the time that the machine needs for it.

On CPUs torch's own spends nine tenths of its time in log1p, which is not vectorised there (torch 2.15): a tenth of a
whole optimiser step. log(1 + x) of an x in (0, 1] is as good here: it differs by less than 1e-7 in the value, and the
gradient does not use it. `benchmarks/loss.py` measures both.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def bce_terms(logits: Tensor, targets: Tensor) -> Tensor:
    """-t log s(l) - (1 - t) log(1 - s(l)) = max(l, 0) - l t + log(1 + exp(-|l|)) per pixel, without gradients."""
    terms = logits.abs().neg_().exp_().add_(1).log_()
    return terms.add_(logits.clamp(min=0)).addcmul_(logits, targets, value=-1)


def bce_with_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean over all pixels, a scalar with gradients; both (B, *input_shape), targets in [0, 1]."""
    if logits.device.type == "cpu" and logits.dtype == targets.dtype:
        value: Tensor = _BceWithLogits.apply(logits, targets)
        return value
    return F.binary_cross_entropy_with_logits(logits, targets)


class _BceWithLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        ctx.save_for_backward(logits, targets)
        return bce_terms(logits, targets).mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logits, targets = ctx.saved_tensors
        return torch.sigmoid(logits).sub_(targets).mul_(gradient / logits.numel()), None
