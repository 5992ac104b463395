"""What `dae-denoise` does with photographs, and says of their noise. Imports torch only when it is called."""

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from dae_lightning import config
from dae_lightning.data.photograph_files import Samples
from dae_lightning.errors import DataError

if TYPE_CHECKING:
    from dae_lightning.inference.denoiser import Denoiser
    from dae_lightning.model.autoencoder import DenoisingAutoencoder

MARGIN = 1.25  # an estimate of sigma that is this much outside the training's is still inside


def denoise_photographs(
    photographs: Sequence[Samples], denoiser: "Denoiser", settings: config.Denoise, seed: int, notes: list[str]
) -> list[Samples]:
    """Photographs (H, W) or (3, H, W) of any sizes, denoised by a model of patches.

    Raises:
        DataError: one is smaller than a patch.
    """
    import torch

    from dae_lightning.model.photograph_noise import photograph_sigma

    model, noisy = denoiser.model, list[Any](photographs)
    told: Any = settings.sigma
    height, width = model.input_shape
    for photograph in photographs:
        rows, columns = photograph.shape[-2:]
        if rows < height or columns < width:
            raise DataError(f"is {columns}x{rows} pixels; the model takes {width}x{height} and larger")
    if settings.corrupt:  # as floats, since whole numbers would clip the noise
        noisy = denoiser.corrupt(noisy, settings.sigma, seed)
    whites = [np.iinfo(photograph.dtype).max for photograph in photographs]
    takes_sigma = model.network.takes_sigma
    if settings.sigma is None and (takes_sigma or (model.noise.in_range and not settings.corrupt)) and noisy:
        scales = [1] * len(noisy) if settings.corrupt else whites
        floats = (torch.from_numpy(one.astype(np.float32) / scale) for one, scale in zip(noisy, scales, strict=True))
        told = [photograph_sigma(one) for one in floats]
        notes += noise_level_notes(median(told), model)
    denoised = denoiser(noisy, told if takes_sigma else None, settings.stride)
    if not settings.corrupt:
        return denoised
    each = zip(denoised, photographs, whites, strict=True)
    return [(one * white).round().astype(photograph.dtype) for one, photograph, white in each]


def noise_level_notes(sigma: float, model: "DenoisingAutoencoder") -> list[str]:
    """The sigma of the noise, as estimated, where the network goes by it; and whether it was trained on such noise."""
    if model.noise.level != "sigma":
        return []
    low, high = min(model.noise.levels()), max(model.noise.levels())
    outside = not low / MARGIN <= sigma <= high * MARGIN
    if not outside and not model.network.takes_sigma:
        return []
    trained = f"{low:g} to {high:g}" if low < high else f"{low:g}"
    return [f"sigma of the noise is about {sigma:.2g}" + outside * f", and the model was trained at {trained}"]
