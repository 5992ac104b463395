"""`logger=tensorboard`: Lightning's logger for the scalars, and the same few test images, denoised every few epochs."""

from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor

from dae_lightning import kinds
from dae_lightning.errors import ConfigError
from dae_lightning.figures import Examples, print_png
from dae_lightning.model.autoencoder import DenoisingAutoencoder


def make_logger(folder: Path) -> TensorBoardLogger:
    """Event files in `folder`/tensorboard.

    Raises:
        ConfigError: tensorboard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise ConfigError("logger=tensorboard: tensorboard is not installed; pip install 'dae_lightning[tensorboard]'")
    return TensorBoardLogger(str(folder), name="tensorboard", version="", default_hp_metric=False)


class ExampleImages(Callback):
    """The examples of the test set as a picture, every `every_n_epochs` epochs."""

    def __init__(self, settings: kinds.TensorBoardLogger, images: Tensor, seed: int) -> None:
        self.every_n_epochs = settings.every_n_epochs
        self.examples = Examples.choose(images, settings.examples, seed)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, DenoisingAutoencoder)
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs == 0 and isinstance(trainer.logger, TensorBoardLogger):
            file = BytesIO()
            print_png(self.examples.figure(pl_module, f"test images, epoch {epoch}"), file)
            picture = np.asarray(Image.open(file).convert("RGB"))
            trainer.logger.experiment.add_image("test_examples", picture, pl_module.batches_seen, dataformats="HWC")
