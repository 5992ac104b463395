"""The sources of images, by name."""

from contextlib import suppress
from dataclasses import dataclass

import torch

from dae_lightning import kinds
from dae_lightning.data.fashion_mnist import FashionMnist
from dae_lightning.data.glyphs import Glyphs
from dae_lightning.data.idx import IdxFolder
from dae_lightning.data.image_folder import ImageFolder
from dae_lightning.data.splits import ImageSource, Splits
from dae_lightning.errors import UserError
from dae_lightning.schema import make, register

for kind, source in {
    "fashion_mnist": FashionMnist,
    "idx": IdxFolder,
    "glyphs": Glyphs,
    "image_folder": ImageFolder,
}.items():
    register("data", kind)(source)

_loaded: dict[kinds.DataKind, "Loaded"] = {}


def make_source(data: kinds.DataKind) -> ImageSource:
    """The source that the configuration describes."""
    if data in _loaded:
        return _loaded[data]
    source: ImageSource = make("data", data)
    return source


@dataclass(frozen=True)
class Loaded:
    """Images that this process holds already."""

    images: Splits

    def prepare(self) -> None:
        """Nothing to fetch."""

    def load(self) -> Splits:
        return self.images


def load_ahead(data: kinds.DataKind) -> None:
    """Hold the images, if they can be read without fetching, for processes that are forked from this one."""
    if data in _loaded:
        return
    _loaded.clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a pool of threads, once begun, does not survive a fork
    with suppress(UserError, OSError):  # the job itself meets it, and tells
        _loaded[data] = Loaded(make_source(data).load())
    torch.set_num_threads(threads)
