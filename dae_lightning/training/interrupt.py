"""The stop button of a notebook, or Ctrl-C, in a fit by any Trainer."""

import signal
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from dae_lightning.signals import Interrupted, handle


class StopAfterStep(Callback):
    """A fit that is interrupted ends after the current step, by raising `Interrupted`; a second time it ends at once.

    The model keeps all steps taken so far, whole, and another fit can continue with it. (By itself, Lightning 2.6 stops
    within a step and raises SystemExit, which a notebook shows as an attempt to exit.)
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._asked = False
        handle(self._note, signal.SIGINT)  # Lightning restores the handlers that it found, however the fit ends

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self._asked:
            raise Interrupted(signal.SIGINT, f" after step {trainer.global_step}")

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._asked = True
        handle(signal.default_int_handler, signal.SIGINT)
