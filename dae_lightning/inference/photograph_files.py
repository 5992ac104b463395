"""What `dae-denoise` does with photographs, and says of their noise. Imports torch only when it is called."""

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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

    model = denoiser.model
    height, width = model.input_shape
    for photograph in photographs:
        rows, columns = photograph.shape[-2:]
        if rows < height or columns < width:
            raise DataError(f"is {columns}x{rows} pixels; the model takes {width}x{height} and larger")
    noisy: list[Any] = list(photographs)
    if settings.corrupt:  # as floats, since whole numbers would clip the noise
        noisy = denoiser.corrupt(noisy, settings.sigma, seed)
    takes_sigma = model.network.takes_sigma
    told: float | list[float] | None = settings.sigma
    # of a model that never saw clipped noise, the clipping is what there is to say
    if noisy and told is None and (takes_sigma or (model.noise.in_range and not settings.corrupt)):
        estimates = [photograph_sigma(torch.from_numpy(as_floats(one))) for one in noisy]
        notes += noise_level_notes(median(estimates), model)
        told = estimates
    denoised = denoiser(noisy, told if takes_sigma else None, settings.stride)
    if settings.corrupt:
        each = zip(denoised, photographs, strict=True)
        denoised = [(one * white_of(came)).round().astype(came.dtype) for one, came in each]
    return denoised


def as_floats(photograph: NDArray[Any]) -> NDArray[Any]:
    """float32: whole numbers scaled to [0, 1], floats as they are."""
    return photograph.astype(np.float32) / (white_of(photograph) if photograph.dtype.kind == "u" else 1)


def white_of(photograph: Samples) -> int:
    return np.iinfo(photograph.dtype).max


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
