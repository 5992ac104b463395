"""The image sources by name."""

from contextlib import suppress
from dataclasses import dataclass

import torch

from dae_lightning import kinds
from dae_lightning.data.glyphs import Glyphs
from dae_lightning.data.idx import IdxFolder
from dae_lightning.data.image_folder import ImageFolder
from dae_lightning.data.mnist import FashionMnist, KMnist, Mnist
from dae_lightning.data.patches import Patches
from dae_lightning.data.splits import ImageSource, Splits
from dae_lightning.errors import UserError
from dae_lightning.schema import make, register

register("data", "fashion_mnist")(FashionMnist)
register("data", "mnist")(Mnist)
register("data", "kmnist")(KMnist)
register("data", "idx")(IdxFolder)
register("data", "glyphs")(Glyphs)
register("data", "image_folder")(ImageFolder)
register("data", "patches")(Patches)

_loaded: dict[kinds.DataKind, "Loaded"] = {}


def make_source(data: kinds.DataKind) -> ImageSource:
    """The image source that `data` describes."""
    if data in _loaded:
        return _loaded[data]
    source: ImageSource = make("data", data)
    return source


@dataclass(frozen=True)
class Loaded:
    """An `ImageSource` of images already in memory."""

    images: Splits

    def prepare(self) -> None:
        """Nothing to download."""

    def load(self) -> Splits:
        return self.images


def load_ahead(data: kinds.DataKind) -> None:
    """Load the images, unless they must be downloaded, for the processes to be forked from this one."""
    if data in _loaded:
        return
    _loaded.clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a thread pool that has started does not survive a fork
    with suppress(UserError, OSError):  # the job itself will report it
        _loaded[data] = Loaded(make_source(data).load())
    torch.set_num_threads(threads)
