"""What a training was, epoch by epoch: one dense row each, kept in the checkpoint and written to metrics.csv."""

import csv
import io
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from dae_lightning.files import replace_text

Row = dict[str, float]


class History(Checkpoint):
    """One row an epoch: epoch (from 1), step, lr, train/loss, val/*, seconds, images_per_second.

    The checkpoint holds the rows, so a resumed run continues with exactly those of its finished epochs; metrics.csv is
    rewritten as a whole after every epoch. (A subclass of Lightning's Checkpoint: those are called last, when the
    epoch's metrics are complete. It has to come before the callback that saves.)
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path  # None: nothing is written
        self.rows: list[Row] = []
        self._seconds, self._images = 0.0, 0  # of the epoch so far
        self._validated = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._clock = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += sum(map(len, batch))
        self._tick()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tick()
        row: Row = {"epoch": trainer.current_epoch + 1, "step": int(pl_module.batches_seen)}  # type: ignore[arg-type]
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        for name, value in sorted(trainer.callback_metrics.items()):
            # "step" is there already, and Lightning keeps the validation of an earlier epoch
            if name != "step" and (self._validated or not name.startswith("val/")):
                row[name] = float(value)
        row |= {"seconds": self._seconds, "images_per_second": self._images / self._seconds}
        self.rows.append(row)
        self._seconds, self._images, self._validated = 0.0, 0, False
        self._write()

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self._seconds, "images": self._images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]
        self._seconds, self._images = state_dict["seconds"], state_dict["images"]
        self._write()

    def _tick(self) -> None:
        now = time.perf_counter()
        self._seconds, self._clock = self._seconds + now - self._clock, now

    def _write(self) -> None:
        if self.path is None:
            return
        text = io.StringIO(newline="")
        # with trainer.check_val_every_n_epoch some rows have no val/*: the columns are those of any row
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        replace_text(self.path, text.getvalue())
