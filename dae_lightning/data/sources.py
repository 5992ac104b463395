"""The sources of images, by name."""

from contextlib import suppress
from dataclasses import dataclass

import torch

from dae_lightning import config
from dae_lightning.data.fashion_mnist import FashionMnist
from dae_lightning.data.glyphs import Glyphs
from dae_lightning.data.idx import IdxFolder
from dae_lightning.data.image_folder import ImageFolder
from dae_lightning.data.splits import ImageSource, Splits
from dae_lightning.errors import UserError

_loaded: dict[config.Data, "Loaded"] = {}


def make_source(data: config.Data) -> ImageSource:
    """The source that the configuration describes."""
    if data in _loaded:
        return _loaded[data]
    if isinstance(data, config.Glyphs):
        return Glyphs(data.train_size, data.test_size, data.seed)
    if isinstance(data, config.ImageFolder):
        return ImageFolder(data.root, data.test_fraction, data.seed)
    if isinstance(data, config.Idx):
        return IdxFolder(data.root)
    return FashionMnist(data.root)


@dataclass(frozen=True)
class Loaded:
    """Images that this process holds already."""

    images: Splits

    def prepare(self) -> None:
        """Nothing to fetch."""

    def load(self) -> Splits:
        return self.images


def load_ahead(data: config.Data) -> None:
    """Hold the images, if they can be read without fetching, for processes that are forked from this one."""
    if data in _loaded:
        return
    _loaded.clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a pool of threads, once begun, does not survive a fork
    with suppress(UserError, OSError):  # the job itself meets it, and tells
        _loaded[data] = Loaded(make_source(data).load())
    torch.set_num_threads(threads)
