"""What a run tells its logger: its settings, the rows of metrics.csv, in the end its test results and figures.

A row is told before the checkpoint that holds it is written, and a resumed run tells what the logger has not: no step
is there twice, and none is lost. A logger that fails ends nothing but itself.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from dae_lightning import config, kinds
from dae_lightning.errors import Pruned, printable
from dae_lightning.figures import Examples, save_figure
from dae_lightning.signals import Interrupted
from dae_lightning.sweeps.jobs import RECORD
from dae_lightning.training.loggers import Place, RunLogger, open_logger


class HasRows(Protocol):
    """What the recorder needs of the History."""

    rows: list[dict[str, float]]


class Recorder(Checkpoint):
    """It has to come between `history` and the callback that saves. `images` are those that TensorBoard shows."""

    def __init__(self, settings: config.Train, folder: Path, history: HasRows, images: Tensor, resumed: bool) -> None:
        self.settings, self.folder, self.history, self.images, self.resumed = settings, folder, history, images, resumed
        self._log: RunLogger | None = None
        self._run_id: str | None = None
        self._told = 0  # rows

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._run_id = checkpoint.get("logger_run")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["logger_run"] = self._run_id

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with self._harmless():
            self._log = self._open()
        self._tell(self._rows)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell(self._rows)
        settings, epoch = self.settings.logger, len(self.history.rows)
        if isinstance(settings, kinds.TensorBoardLogger) and epoch % settings.every_n_epochs == 0:
            examples = Examples.choose(self.images, settings.examples, self.settings.eval_seed)
            figure = examples.figure(pl_module, f"test images, epoch {epoch}")  # type: ignore[arg-type]
            with TemporaryDirectory() as place:
                save_figure(figure, file := Path(place) / "examples.png")
                self._tell(lambda log: log.log_figure("test_examples", file, self._last_step()))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._end("KILLED" if isinstance(exception, (Interrupted, Pruned)) else "FAILED")

    def finish(self) -> None:
        """Tell the test results and figures that lie in the run folder now, which are the last."""
        self._tell(self._results)
        self._end("FINISHED")

    def _open(self) -> RunLogger:
        sweep = self.folder.parent.name if (self.folder / RECORD).exists() else None
        last = self._last_step() if self.resumed else None
        log = open_logger(self.settings.logger, Place(self.folder.absolute(), sweep, self._run_id, last))
        if log.run_id is None or log.run_id != self._run_id:  # MLflow's parameters cannot be changed
            log.log_hyperparams(self.settings.model_dump(serialize_as_any=True))
        self._run_id = log.run_id
        return log

    def _rows(self, log: RunLogger) -> None:
        for row in self.history.rows[self._told :]:
            self._new(log, {name: value for name, value in row.items() if name != "step"}, int(row["step"]))
            self._told += 1
        log.save()  # before the checkpoint is

    def _results(self, log: RunLogger) -> None:
        tested = json.loads((self.folder / "results.json").read_bytes())["test"]["model"]
        scores = {f"test/{task}/{name}": value for task in tested for name, value in tested[task].items()}
        known = {name: value for name, value in scores.items() if value is not None}
        if self._new(log, known, self._last_step()) and self.settings.figures:
            for file in sorted((self.folder / "figures").glob("*.png")):
                log.log_figure(f"figures/{file.stem}", file, self._last_step())

    def _new(self, log: RunLogger, metrics: dict[str, float], step: int) -> bool:
        """Tell those that are not there yet; whether there were any."""
        new = {name: value for name, value in metrics.items() if step not in log.steps_before(name)}
        if new:
            log.log_metrics(new, step)
        return bool(new)

    def _last_step(self) -> int:
        return int(self.history.rows[-1]["step"]) if self.history.rows else -1

    def _end(self, status: str) -> None:
        self._tell(lambda log: log.close(status))
        self._log = None

    def _tell(self, act: Callable[[RunLogger], object]) -> None:
        if self._log is not None:
            with self._harmless():
                act(self._log)

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """Where a logger fails there is one warning, and no logger any more."""
        try:
            yield
        except Exception as error:
            self._log = None
            reason = printable(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
            kind = self.settings.logger.kind
            print(f"warning: logger={kind}: {reason}; the training continues without it", file=sys.stderr)
