"""`callbacks=early_stopping`: the training ends when a metric has not improved for some epochs."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer, callbacks

from dae_lightning import config, kinds
from dae_lightning.data.datamodule import ImageDataModule
from dae_lightning.errors import TrainingError


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's, for runs that are resumed: one that has stopped stays so unless `patience` is now higher.

    Raises:
        TrainingError: the metric is of held-out images, and there are none.
    """

    def __init__(self, settings: kinds.EarlyStopping, trainer: config.Trainer, data: ImageDataModule) -> None:
        if settings.monitor.startswith("val/") and (trainer.limit_val_batches == 0 or not len(data.val.images)):
            why = "data.val_size" if trainer.limit_val_batches != 0 else "trainer.limit_val_batches"
            wrong = f"callbacks.monitor={settings.monitor}: nothing is validated ({why}=0)"
            raise TrainingError(f"{wrong}; callbacks.monitor=train/loss needs no validation")
        mode = "max" if settings.monitor.endswith(("psnr", "ssim")) else "min"
        super().__init__(settings.monitor, settings.min_delta, settings.patience, mode=mode)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True
            longer = "callbacks.patience=N with a higher N continues it"
            print(f"the run stopped early, after {trainer.current_epoch} epochs: it is only tested again; {longer}")
