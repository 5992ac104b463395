"""The same few images, clean and noisy, through a model: what the pictures of a run show."""

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dae_lightning.data.datamodule import as_float
from dae_lightning.figures import examples_figure
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.randomness import generator


@dataclass(frozen=True)
class Examples:
    """Clean images (N, *input_shape) in [0, 1] and their indices (N,) in their split."""

    clean: Tensor
    indices: Tensor

    @classmethod
    def choose(cls, images: Tensor, count: int, seed: int) -> "Examples":
        """`count` of the uint8 `images` by seed, or all where there are fewer."""
        indices = torch.randperm(len(images), generator=generator(seed, "examples"))[:count]
        return cls(as_float(images[indices]), indices)

    @torch.no_grad()
    def figure(self, model: DenoisingAutoencoder, title: str) -> Figure:
        """Columns: the images; rows: original, noisy, denoised, reconstruction of the clean one."""
        training = model.training
        model.eval()
        clean = self.clean.to(model.device)
        noisy = model.corrupt_fixed(clean, self.indices)
        rows = {
            "original": clean,
            "noisy": noisy,
            "denoised": model(noisy),
            "reconstruction\nof the original": model(clean),
        }
        model.train(training)
        settings = model.noise.settings()
        kind = str(settings.pop("kind")).replace("_", " ")
        values = ", ".join(f"{name} {value:g}" for name, value in settings.items())
        return examples_figure(rows, f"{title}; {kind} noise, {values}")
