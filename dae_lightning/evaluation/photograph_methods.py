"""What denoises whole photographs: models of patches, and classical methods at one strength each."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from dae_lightning.evaluation.filters import FILTERS, Filter
from dae_lightning.inference.photographs import checked_stride, denoise_photograph
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.model.noise import GaussianNoise
from dae_lightning.model.photograph_noise import photograph_sigma

# of filters (see there), chosen on 10 crops of the Berkeley training set as nearly the best at sigma 15, 25 and 50/255
USUAL = {"total_variation": 0.75, "nl_means": 0.7, "wavelet": 1.4, "median": 1.0, "gaussian_blur": 0.9}

Denoise = Callable[[Tensor, float], Tensor]  # a noisy photograph (H, W), and the sigma of its noise, denoised
Strengths = dict[str, dict[float, float]]  # by a filter's name and sigma


class Method(NamedTuple):
    """A denoiser, its names in files (`name`, `checkpoint`) and in tables and figures (`title`)."""

    name: str
    denoise: Denoise
    checkpoint: str = ""
    title: str = ""
    in_gallery: bool = True


def names_or_default(names: Sequence[str] | None) -> tuple[str, ...]:
    """The methods asked for, or else those that are installed and take no minute for a photograph."""
    if names is not None:
        return tuple(names)
    filters = ("total_variation", "nl_means", "wavelet") if find_spec("skimage") and find_spec("pywt") else ()
    return ("noisy", *filters)


def of_models(models: Mapping[str, DenoisingAutoencoder], stride: int | None) -> list[Method]:
    """The models, estimating sigma; and those that take it also told it."""
    found = []
    for place, model in models.items():
        patch, title = model.input_shape, "model" if len(models) == 1 else f"model, {place}"
        told = partial(denoise_photograph, model.network, patch, stride=checked_stride(stride, patch), bar=False)
        if model.network.takes_sigma:
            found.append(Method("model", partial(_estimating, told), place, title))
            found.append(Method("model_told", told, place, f"{title}, told sigma", in_gallery=False))
        else:
            found.append(Method("model", partial(_blind, told), place, title))
    return found


def _estimating(denoise: Denoise, noisy: Tensor, sigma: float) -> Tensor:
    return denoise(noisy, photograph_sigma(noisy))


def _blind(denoise: Callable[[Tensor], Tensor], noisy: Tensor, sigma: float) -> Tensor:
    return denoise(noisy)


def classical(names: Sequence[str], strengths: Strengths) -> list[Method]:
    denoisers: dict[str, Denoise] = {"noisy": lambda noisy, sigma: noisy, "bm3d": bm3d}
    denoisers |= {name: partial(filtered, name, strengths[name]) for name in strengths}
    return [Method(name, denoisers[name], title=name.replace("_", " ")) for name in names]


def filtered(name: str, strengths: Mapping[float, float], noisy: Tensor, sigma: float) -> Tensor:
    """By a filter of `filters.py`."""
    denoised: Tensor = Filter(FILTERS[name], strengths[sigma], max(sigma, 1e-4), 0.0)(noisy[None])[0]
    return denoised


def bm3d(noisy: Tensor, sigma: float) -> Tensor:
    """Mäkinen, Azzari and Foi, Collaborative filtering of correlated noise (2020), with its defaults."""
    from bm3d import bm3d as denoise

    return torch.from_numpy(denoise(noisy.double().numpy(), max(sigma, 1e-4))).float().clamp(0, 1).view_as(noisy)


def strengths_of(names: Sequence[str], sigmas: Sequence[float], crops: Tensor | None) -> Strengths:
    """The strength of each filter at each sigma: the best on `crops` (N, H, W) uint8, or else the usual one."""
    if crops is None:
        return {name: dict.fromkeys(sigmas, USUAL[name]) for name in names if name in FILTERS}

    def best(name: str, sigma: float) -> float:
        return Filter.fit(FILTERS[name], crops, GaussianNoise(0.0, sigma)).strength

    return {name: {sigma: best(name, sigma) for sigma in sigmas} for name in names if name in FILTERS}
