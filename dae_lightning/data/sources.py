"""The sources of images, by name."""

from dae_lightning import config
from dae_lightning.data.fashion_mnist import FashionMnist
from dae_lightning.data.glyphs import Glyphs
from dae_lightning.data.idx import IdxFolder
from dae_lightning.data.image_folder import ImageFolder
from dae_lightning.data.images import ImageSource


def make_source(data: config.Data) -> ImageSource:
    """The source that the configuration describes."""
    if isinstance(data, config.Glyphs):
        return Glyphs(data.train_size, data.test_size, data.seed)
    if isinstance(data, config.ImageFolder):
        return ImageFolder(data.root, data.test_fraction, data.seed)
    if isinstance(data, config.Idx):
        return IdxFolder(data.root)
    return FashionMnist(data.root)
