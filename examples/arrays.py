"""A data set of one's own: arrays in memory, here pictures of random rectangles.

python train.py plugins=[examples.arrays] data=rectangles data.size=16
"""

from dataclasses import dataclass

import numpy as np
import torch

from dae_lightning.data.splits import ImageSet, Splits
from dae_lightning.schema import Count, register


@register("data", "rectangles")
@dataclass(frozen=True)
class Rectangles:
    size: Count = 16  # pixels a side
    count: Count = 1000
    seed: int = 0  # of what is held out, and here of the images too

    def prepare(self) -> None:
        """Nothing to download."""

    def load(self) -> Splits:
        """Both splits: uint8 images (N, H, W), and labels (N,) or None."""
        random = np.random.default_rng(self.seed)
        images = np.zeros((self.count, self.size, self.size), np.uint8)
        for image, (top, left) in zip(images, random.integers(0, self.size // 2, (self.count, 2)), strict=True):
            image[top : top + self.size // 2, left : left + self.size // 2] = random.integers(128, 256)
        train, test = torch.from_numpy(images).split([self.count - self.count // 5, self.count // 5])
        return Splits(ImageSet(train, None), ImageSet(test, None))
