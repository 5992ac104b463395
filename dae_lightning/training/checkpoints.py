"""Checkpoints: when they are written, and by whom they are written and read."""

import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from dae_lightning import config, kinds
from dae_lightning.errors import DivergenceError
from dae_lightning.files import keep
from dae_lightning.model.checkpoint import read_checkpoint, write_checkpoint
from dae_lightning.signals import Interrupted, StopSignal
from dae_lightning.training.ddp import highest


class Checkpoints(Checkpoint):
    """`last.ckpt` after every epoch and now and then within one, `previous.ckpt`, which it was before, and
    `best.ckpt`: the lowest val/denoising/bce (of loss=mse, val/denoising/mse) so far, where images are held out.

    (Lightning's ModelCheckpoint keeps absolute paths in its state, which a run that is moved trips over.)
    """

    def __init__(self, folder: Path, data: kinds.DataKind, when: config.Checkpoint, stop: StopSignal) -> None:
        self.folder, self.data, self.when, self.stop = folder, data, when, stop
        self.best: float | None = None
        self.started = False  # whether a checkpoint to resume from has been restored

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at, self._saved_step = time.monotonic(), int(pl_module.batches_seen)  # type: ignore[arg-type]
        self.started = True
        self.stop.listen()  # from here on: Lightning has just installed its own handlers

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # after the last batch comes the epoch's end, with its validation, and saves
        if trainer.is_last_batch:
            return
        # what one rank finds, all do: they stop and save together
        signum, due = highest(trainer, self.stop.signum or 0, self._due(pl_module))
        if signum or due:
            self._save(trainer, "last.ckpt")
        if signum:
            raise Interrupted(signum)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model: Any = pl_module
        score = trainer.callback_metrics.get(model.monitored)
        if score is not None and (self.best is None or float(score) < self.best):
            self.best = float(score)
            self._save(trainer, "best.ckpt")
        self._save(trainer, "last.ckpt")
        (signum,) = highest(trainer, self.stop.signum or 0)
        if signum:
            raise Interrupted(signum)

    def _due(self, model: Any) -> bool:
        step = model.batches_seen
        seconds, steps = self.when.every_seconds, self.when.every_n_steps
        late = seconds is not None and time.monotonic() - self._saved_at >= seconds
        return late or (steps is not None and step // steps > self._saved_step // steps)

    def _save(self, trainer: Trainer, name: str) -> None:
        model: Any = trainer.lightning_module
        if not all(bool(value.isfinite().all()) for value in model.parameters()):
            raise DivergenceError(f"the weights after step {model.batches_seen} are not finite: lower optim.lr")
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            if name == "last.ckpt" and trainer.is_global_zero:
                keep(self.folder / name, "previous.ckpt")
            trainer.save_checkpoint(self.folder / name, weights_only=False)
        self._saved_at, self._saved_step = time.monotonic(), model.batches_seen

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note what the model was trained on, so that a checkpoint can be evaluated on it wherever it lies."""
        checkpoint["data"] = self.data.model_dump()
        checkpoint["callbacks"].pop("Timer", None)  # of trainer.max_time, which each command has for itself

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the old checkpoint and renames; reads plain values and tensors only.

    (Lightning's own writer stages elsewhere and copies, which is not atomic across file systems, #21253.)
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        # what is resumed has been checked against this version of Lightning; none of its migrations applies
        return read_checkpoint(Path(path)) | {"pytorch-lightning_version": lightning.__version__}
