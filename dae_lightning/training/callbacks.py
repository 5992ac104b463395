"""What is recorded and shown while a model trains: metrics.csv, the progress bar."""

import math
import sys
import time
from collections.abc import Sized
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from tqdm.auto import tqdm

from dae_lightning.data.chunks import ChunkLoader
from dae_lightning.evaluation.report import write_csv
from dae_lightning.kinds import monitored
from dae_lightning.training.many_steps import ManySteps

Row = dict[str, float]


class History(Checkpoint):
    """One row an epoch: epoch (from 1), step, lr, train/loss, val/*, seconds, images_per_second.

    The checkpoint holds the rows, so a resumed run continues with exactly those of its finished epochs; metrics.csv is
    rewritten as a whole after every epoch. (A subclass of Lightning's Checkpoint: those are called last, when the
    epoch's metrics are complete. It has to come before the callback that saves.)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        self._seconds, self._images = 0.0, 0  # of the epoch so far

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer)  # without the rows after the checkpoint that is resumed

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._clock = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += sum(map(len, batch))
        self._tick()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tick()
        model: Any = pl_module
        epoch, rate = trainer.current_epoch + 1, trainer.optimizers[0].param_groups[0]["lr"]
        row: Row = {"epoch": epoch, "step": model.batches_seen, "lr": rate}
        validated = epoch % (trainer.check_val_every_n_epoch or 1) == 0
        for name, value in sorted(trainer.callback_metrics.items()):
            # "step" is there already, and Lightning keeps the validation of an earlier epoch
            if name != "step" and (validated or not name.startswith("val/")):
                row[name] = float(value)
        row |= {"seconds": self._seconds, "images_per_second": self._images / self._seconds}
        self.rows.append(row)
        self._seconds, self._images = 0.0, 0
        self._write(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self._seconds, "images": self._images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]
        self._seconds, self._images = state_dict["seconds"], state_dict["images"]

    def _tick(self) -> None:
        now = time.perf_counter()
        self._seconds, self._clock = self._seconds + now - self._clock, now

    def _write(self, trainer: Trainer) -> None:
        if self.rows and trainer.is_global_zero:
            write_csv(self.path, self.rows)


MONITORED = (monitored("bce"), monitored("mse"))  # a model has one of them
SHOWN = ("train/loss", *MONITORED, "val/denoising/psnr")


class TrainingBar(ProgressBar):
    """One bar for a whole fit, or a line an epoch where stderr is neither a terminal nor a notebook's.

    It shows the epoch, the time left, images/s, the loss and the last validation's. It suits any Trainer, which
    then adds no bar of its own: `Trainer(callbacks=[TrainingBar()])`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        self._values: dict[str, str] = {}
        self._shown = True

    def disable(self) -> None:  # Lightning does, in every process but the first
        self._shown = False

    def enable(self) -> None:
        self._shown = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loader: Any = trainer.train_dataloader
        batches, begin, end = trainer.num_training_batches, float(trainer.current_epoch), trainer.max_epochs or 0.0
        images, batch_size = getattr(loader, "dataset", None), getattr(loader, "batch_size", None)
        if isinstance(loader, ChunkLoader):
            images, batch_size = range(loader.epoch_size), loader.chunk_size
            begin += loader.seen(trainer.current_epoch) / batches  # in epochs
        if isinstance(pl_module, ManySteps) and (left := pl_module.steps_left()) is not None:
            end = min(end, round(begin + left / loader.batches_in(int(batches)), 6))
        self._epochs = math.ceil(end)
        total = None
        if batch_size and isinstance(images, Sized) and end > 0:
            total = round((end - begin) * min(batches * batch_size, len(images)))
        # disable=None: no bar where stderr is not a terminal; a notebook has one if ipywidgets is installed
        hidden = None if self._shown else True
        self._bar = tqdm(total=total, unit=" images", unit_scale=True, dynamic_ncols=True, disable=hidden)
        self._bar.set_description(self._epoch(trainer), refresh=False)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bar.set_description(self._epoch(trainer), refresh=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(pl_module, ManySteps):
            images = sum(map(len, batch))
        else:
            images = len(batch[0] if isinstance(batch, (list, tuple)) else batch)
        if self._bar.update(images):  # it was drawn: reading the loss waits for the device
            self._values["loss"] = _short(outputs["loss"].item())
            self._bar.set_postfix(self._values, refresh=False)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._bar.set_description(f"{self._epoch(trainer)}, validation")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        shown = {name: _short(float(metrics[name])) for name in SHOWN if name in metrics}
        if self._bar.disable:
            if self._shown:
                print(self._epoch(trainer), *map(" ".join, shown.items()), sep="  ", file=sys.stderr)
            return
        if "train/loss" in shown:
            self._values["loss"] = shown["train/loss"]
        for name in MONITORED:
            if name in shown:
                self._values["val"] = shown[name]
        self._bar.set_description(self._epoch(trainer), refresh=False)
        self._bar.set_postfix(self._values)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._bar is not None:
            self._bar.close()

    def _epoch(self, trainer: Trainer) -> str:
        number = trainer.current_epoch + 1
        return f"epoch {number}/{self._epochs}" if self._epochs > 0 else f"epoch {number}"  # max_epochs=-1 has no end


def _short(value: float) -> str:
    return f"{value:.4f}" if abs(value) >= 0.01 else f"{value:.3g}"
