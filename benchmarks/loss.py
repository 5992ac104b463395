"""Our BCE on logits against torch's, forward and backward, at two sizes of training, two threads.

python benchmarks/loss.py
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dae_lightning.loss import bce_with_logits


def microseconds(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Tensor) -> float:
    logits.grad = None
    start = time.perf_counter()
    loss(logits, targets).backward()
    return (time.perf_counter() - start) * 1e6


if __name__ == "__main__":
    torch.set_num_threads(2)
    for batch in (32, 512):
        logits, targets = torch.randn(batch, 784, requires_grad=True), torch.rand(batch, 784)
        pairs = [
            [microseconds(loss, logits, targets) for loss in (F.binary_cross_entropy_with_logits, bce_with_logits)]
            for _ in range(500)
        ]
        theirs, ours = map(statistics.median, zip(*pairs, strict=True))
        print(f"batch {batch:4}: torch {theirs:7.1f} us, ours {ours:7.1f} us, ratio {ours / theirs:.2f}")
