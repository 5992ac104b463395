"""The denoising autoencoder of a well-known teaching notebook, in PyTorch Lightning."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dae_lightning.data.datamodule import ImageDataModule
    from dae_lightning.inference import Denoiser
    from dae_lightning.model import DenoisingAutoencoder
    from dae_lightning.noise import GaussianNoise, MaskingNoise, SaltAndPepperNoise

__all__ = [
    "Denoiser",
    "DenoisingAutoencoder",
    "GaussianNoise",
    "ImageDataModule",
    "MaskingNoise",
    "SaltAndPepperNoise",
]

_ROOMS = {
    "Denoiser": "inference",
    "DenoisingAutoencoder": "model",
    "GaussianNoise": "noise",
    "ImageDataModule": "data.datamodule",
    "MaskingNoise": "noise",
    "SaltAndPepperNoise": "noise",
}


def __getattr__(name: str) -> Any:
    """Import a room when its name is first asked for: torch and lightning take seconds (PEP 562)."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
