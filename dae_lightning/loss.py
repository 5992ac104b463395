"""Binary cross-entropy on logits, the loss of the notebook, in few passes over the pixels.

With s the sigmoid, -log s(l) = softplus(l) - l and -log(1 - s(l)) = softplus(l). The gradient is s(l) - t, without what
softplus would leave for it: `benchmarks/loss.py` compares the time with torch's own.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def bce_terms(logits: Tensor, targets: Tensor) -> Tensor:
    """-t log s(l) - (1 - t) log(1 - s(l)) = softplus(l) - t l per pixel, without gradients."""
    return F.softplus(logits).addcmul_(logits, targets, value=-1)


def bce_with_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean over all pixels, a scalar with gradients; both (B, *input_shape), targets in [0, 1]."""
    value: Tensor = _BceWithLogits.apply(logits.to(targets.dtype), targets)  # they are bfloat16 under autocast
    return value


class _BceWithLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        ctx.save_for_backward(logits, targets)
        return bce_terms(logits, targets).mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logits, targets = ctx.saved_tensors
        return torch.sigmoid(logits).sub_(targets).mul_(gradient / logits.numel()), None
