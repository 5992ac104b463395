"""What a trial does at the end of each epoch: it tells the search how it is, and stops when it is hopeless."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from dae_lightning.errors import Pruned, TrainingError
from dae_lightning.sweeps.study import attach, open_storage, open_study
from dae_lightning.training.callbacks import History


class Pruning(Checkpoint):
    """Reports the monitored score of every epoch to the study of the search in `folder`, as trial number `trial`.

    (A subclass of Lightning's Checkpoint, like those that write metrics.csv and last.ckpt, to be called after them.)
    """

    def __init__(self, folder: Path, trial: int, pruner: str) -> None:
        self._storage = open_storage(folder)
        self._study = open_study(self._storage, pruner)
        self._number = trial

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._report(trainer)  # a process that was killed may have left out its last epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._report(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._scores(trainer):
            raise TrainingError(f"no epoch has a {_monitored(trainer)}: a search compares trials by nothing else")

    def _report(self, trainer: Trainer) -> None:
        """
        Raises:
            Pruned: other trials were better after as many epochs, and there are epochs to save.
        """
        scores = self._scores(trainer)
        trial = attach(self._storage, self._study, self._number)
        known = self._study.get_trials(deepcopy=False)[self._number].intermediate_values
        for epoch in sorted(scores.keys() - known.keys()):
            trial.report(scores[epoch], epoch)
        epochs, last = trainer.max_epochs or 0, max(scores, default=0)
        if 0 < last < epochs and not trainer.should_stop and trial.should_prune():
            raise Pruned(min(scores.values()), last, epochs)

    def _scores(self, trainer: Trainer) -> dict[int, float]:
        """By epoch, from 1."""
        (history,) = (callback for callback in trainer.callbacks if isinstance(callback, History))  # type: ignore[attr-defined]
        name = _monitored(trainer)
        return {int(row["epoch"]): row[name] for row in history.rows if name in row}


def _monitored(trainer: Trainer) -> str:
    model: Any = trainer.lightning_module
    return str(model.monitored)
