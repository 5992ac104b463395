"""The denoising autoencoder of a well-known teaching notebook, in PyTorch Lightning."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dae_lightning.data.datamodule import ImageDataModule
    from dae_lightning.inference.denoiser import Denoiser
    from dae_lightning.model.autoencoder import DenoisingAutoencoder
    from dae_lightning.model.noise import GaussianNoise, GaussianRange, MaskingNoise, SaltAndPepperNoise

__all__ = [
    "Denoiser",
    "DenoisingAutoencoder",
    "GaussianNoise",
    "GaussianRange",
    "ImageDataModule",
    "MaskingNoise",
    "SaltAndPepperNoise",
]

_MODULES = {
    "Denoiser": "inference.denoiser",
    "DenoisingAutoencoder": "model.autoencoder",
    "GaussianNoise": "model.noise",
    "GaussianRange": "model.noise",
    "ImageDataModule": "data.datamodule",
    "MaskingNoise": "model.noise",
    "SaltAndPepperNoise": "model.noise",
}


def __getattr__(name: str) -> Any:
    """Import a module when its name is first used: torch and lightning take seconds (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
