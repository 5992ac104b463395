"""What a training was, epoch by epoch: one dense row each, kept in the checkpoint and written to metrics.csv."""

import csv
import io
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from dae_lightning.files import replace_text

Row = dict[str, float]


class History(Callback):
    """One row an epoch: epoch (from 1), step, lr, train/loss, val/*, seconds, images_per_second.

    The rows travel in the checkpoint, so a resumed run goes on with the rows of exactly the epochs that it has
    behind it, and metrics.csv is written anew, whole, after every epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start, self._images = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += sum(map(len, batch))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seconds = time.perf_counter() - self._start
        row: Row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        row |= {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        row |= {"seconds": seconds, "images_per_second": self._images / seconds}
        self.rows.append(row)
        self._write()

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]
        self._write()

    def _write(self) -> None:
        text = io.StringIO(newline="")
        # with check_val_every_n_epoch some rows have no val/*: the columns are those of any row
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        replace_text(self.path, text.getvalue())
