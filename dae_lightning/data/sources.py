"""The sources of images, by name."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from inspect import signature

import torch

from dae_lightning import config
from dae_lightning.data.fashion_mnist import FashionMnist
from dae_lightning.data.glyphs import Glyphs
from dae_lightning.data.idx import IdxFolder
from dae_lightning.data.image_folder import ImageFolder
from dae_lightning.data.splits import ImageSource, Splits
from dae_lightning.errors import UserError

SOURCES: dict[str, Callable[..., ImageSource]] = {
    "fashion_mnist": FashionMnist,
    "idx": IdxFolder,
    "glyphs": Glyphs,
    "image_folder": ImageFolder,
}

_loaded: dict[config.DataKind, "Loaded"] = {}


def make_source(data: config.DataKind) -> ImageSource:
    """The source that the configuration describes; it takes those of the settings that it has parameters for."""
    if data in _loaded:
        return _loaded[data]
    source, settings = SOURCES[data.kind], data.model_dump()
    return source(**{name: settings[name] for name in signature(source).parameters if name in settings})


@dataclass(frozen=True)
class Loaded:
    """Images that this process holds already."""

    images: Splits

    def prepare(self) -> None:
        """Nothing to fetch."""

    def load(self) -> Splits:
        return self.images


def load_ahead(data: config.DataKind) -> None:
    """Hold the images, if they can be read without fetching, for processes that are forked from this one."""
    if data in _loaded:
        return
    _loaded.clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a pool of threads, once begun, does not survive a fork
    with suppress(UserError, OSError):  # the job itself meets it, and tells
        _loaded[data] = Loaded(make_source(data).load())
    torch.set_num_threads(threads)
