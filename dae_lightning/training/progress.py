"""What a person sees while it runs: one bar for the whole training, or a line an epoch where there is no terminal."""

import math
import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

SHOWN = ("train/loss", "val/denoising/bce", "val/denoising/psnr")


class TrainingBar(ProgressBar):
    """Epoch, loss, images/s and the time left of the whole training of a ManySteps."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None

    def disable(self) -> None:
        """Lightning's word for "not on this rank"."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs = (trainer.max_epochs or 0) - trainer.current_epoch
        loader: Any = trainer.train_dataloader
        images = min(int(trainer.num_training_batches) * loader.chunk_size, len(loader.images)) * epochs
        images -= loader.seen(trainer.current_epoch) * loader.chunk_size  # when resumed
        model: Any = pl_module
        self._epochs = trainer.max_epochs or 0
        if (left := model.steps_left()) is not None:
            images = min(images, left * loader.batch_size)
            steps = loader.batches_in(int(trainer.num_training_batches))
            self._epochs = min(self._epochs, math.ceil(model.max_steps / steps))
        # disable=None: no bar where stderr is not a terminal
        self._bar = tqdm(total=images, unit=" images", unit_scale=True, dynamic_ncols=True, disable=None)
        self._bar.set_description(f"epoch {trainer.current_epoch + 1}/{self._epochs}", refresh=False)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bar.set_description(f"epoch {trainer.current_epoch + 1}/{self._epochs}", refresh=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar.update(sum(map(len, batch))):  # it was drawn: reading the loss waits for the device
            self._bar.set_postfix(loss=f"{outputs['loss'].item():.4f}", refresh=False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._bar.disable:
            metrics = trainer.callback_metrics
            text = "  ".join(f"{name} {float(metrics[name]):.4f}" for name in SHOWN if name in metrics)
            print(f"epoch {trainer.current_epoch + 1}/{self._epochs}  {text}", file=sys.stderr)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._bar is not None:
            self._bar.close()
