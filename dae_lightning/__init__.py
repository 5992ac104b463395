"""The denoising autoencoder of a well-known teaching notebook, in PyTorch Lightning."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dae_lightning.data.datamodule import ImageDataModule as ImageDataModule
    from dae_lightning.data.glyphs import Glyphs as Glyphs
    from dae_lightning.data.idx import IdxFolder as IdxFolder
    from dae_lightning.data.image_folder import ImageFolder as ImageFolder
    from dae_lightning.data.mnist import FashionMnist as FashionMnist
    from dae_lightning.data.mnist import KMnist as KMnist
    from dae_lightning.data.mnist import Mnist as Mnist
    from dae_lightning.inference.denoiser import Denoiser as Denoiser
    from dae_lightning.model.autoencoder import DenoisingAutoencoder as DenoisingAutoencoder
    from dae_lightning.model.noise import GaussianNoise as GaussianNoise
    from dae_lightning.model.noise import GaussianRange as GaussianRange
    from dae_lightning.model.noise import MaskingNoise as MaskingNoise
    from dae_lightning.model.noise import SaltAndPepperNoise as SaltAndPepperNoise
    from dae_lightning.training.callbacks import TrainingBar as TrainingBar
    from dae_lightning.training.interrupt import StopAfterStep as StopAfterStep

__version__: str

_MODULES = {
    "Denoiser": "inference.denoiser",
    "DenoisingAutoencoder": "model.autoencoder",
    "FashionMnist": "data.mnist",
    "GaussianNoise": "model.noise",
    "GaussianRange": "model.noise",
    "Glyphs": "data.glyphs",
    "IdxFolder": "data.idx",
    "ImageDataModule": "data.datamodule",
    "ImageFolder": "data.image_folder",
    "KMnist": "data.mnist",
    "MaskingNoise": "model.noise",
    "Mnist": "data.mnist",
    "SaltAndPepperNoise": "model.noise",
    "StopAfterStep": "training.interrupt",
    "TrainingBar": "training.callbacks",
}
__all__ = [*_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a module when its name is first used: torch and lightning take seconds (PEP 562)."""
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("dae_lightning")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
