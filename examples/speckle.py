"""A noise of one's own: multiplicative (speckle) noise, as in ultrasound and radar images.

python train.py plugins=[examples.speckle] noise=speckle noise.sigma=0.5 data=glyphs
"""

import torch
from torch import Tensor

from dae_lightning.model.noise import Noise
from dae_lightning.schema import NonNegative, register


@register("noise", "speckle")
class Speckle(Noise):
    """clean * (1 + N(0, sigma^2)), per pixel."""

    kind = "speckle"
    level = "sigma"  # dae-evaluate tests it at several
    sigma: float

    def __init__(self, sigma: NonNegative = 0.5) -> None:
        super().__init__(sigma=sigma)

    def corrupt(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return clean * (1 + self.sigma * torch.empty_like(clean).normal_(generator=generator))
