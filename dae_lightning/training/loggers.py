"""Lightning's loggers, opened for one run: where each writes, what it has of the run already, how it takes a figure."""

import logging
import os
from collections import defaultdict
from collections.abc import Collection
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from filelock import FileLock
from lightning.pytorch import loggers
from PIL import Image

from dae_lightning import kinds


class Place(NamedTuple):
    """What a logger is opened for."""

    folder: Path  # of the run
    sweep: str | None  # the name of the sweep that it is a job of
    run_id: str | None  # of a run that is resumed, what the logger called it
    last_step: int | None  # of a run that is resumed, that of the checkpoint's last row; -1 where it has none


class RunLogger(Protocol):
    """One of Lightning's loggers, and what a run asks of it besides."""

    @property
    def run_id(self) -> str | None:
        """By which a resumed run finds it again."""

    def steps_before(self, name: str) -> Collection[int]:
        """The steps at which it had a metric when the run was resumed."""

    def log_figure(self, name: str, file: Path, step: int) -> None:
        """Take a PNG file."""

    def close(self, status: str) -> None:
        """End the run, whose status is one of MLflow's."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...
    def log_hyperparams(self, params: dict[str, Any]) -> None: ...
    def save(self) -> None: ...


def open_logger(settings: kinds.LoggerKind, place: Place) -> RunLogger:
    """The logger that the settings name; whatever its library raises, it raises too."""
    if isinstance(settings, kinds.MLflowLogger):
        return MLflow(settings, place)
    if isinstance(settings, kinds.WandbLogger):
        return Wandb(settings, place)
    return TensorBoard(place)


class TensorBoard(loggers.TensorBoardLogger):
    """Event files in the run's `tensorboard`; what they hold from after the resumed checkpoint is purged."""

    run_id = None

    def __init__(self, place: Place) -> None:
        last = place.last_step
        purge = None if last is None else last + 1
        super().__init__(str(place.folder), name="tensorboard", version="", default_hp_metric=False, purge_step=purge)
        self._before: dict[str, set[int]] = defaultdict(set)
        if last is not None and Path(self.log_dir).is_dir():
            from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

            events = EventAccumulator(self.log_dir, {"scalars": 0}).Reload()
            for name in events.Tags()["scalars"]:
                self._before[name] = {event.step for event in events.Scalars(name) if event.step <= last}

    def steps_before(self, name: str) -> Collection[int]:
        return self._before[name]

    def log_figure(self, name: str, file: Path, step: int) -> None:
        picture = np.asarray(Image.open(file).convert("RGB"))
        self.experiment.add_image(name, picture, step, dataformats="HWC")

    def close(self, status: str) -> None:
        self.finalize("success")


class MLflow(loggers.MLFlowLogger):
    """A run of an MLflow server's, or of an SQLite file's with its figures beside it. A resumed run continues there."""

    def __init__(self, settings: kinds.MLflowLogger, place: Place) -> None:
        for name in ("mlflow", "alembic", "lightning.pytorch.loggers.mlflow"):  # what they make when they are new
            logging.getLogger(name).setLevel(logging.ERROR)
        # its own patience with a server that does not answer would hold the training up for many minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        root, said = Path(settings.root).absolute(), os.environ.get("MLFLOW_TRACKING_URI")
        server = settings.tracking_uri or said
        if server is None:
            root.mkdir(parents=True, exist_ok=True)
        try:
            with nullcontext() if server else FileLock(root / ".lock"):  # jobs side by side: one makes the tables
                super().__init__(
                    settings.experiment,
                    run_name=place.folder.name,
                    # seconds, in which other jobs write
                    tracking_uri=server or f"sqlite:///{root / 'mlflow.db'}?timeout=60",
                    tags={"sweep": place.sweep} if place.sweep else None,
                    artifact_location=None if server else (root / "artifacts").as_uri(),
                    run_id=place.run_id,
                )
                client = self.experiment
        finally:
            if said is None:
                os.environ.pop("MLFLOW_TRACKING_URI", None)  # MLflow sets it for the whole process, and its next run
        if place.run_id is not None:
            client.update_run(place.run_id, status="RUNNING")
        self.steps_before = cache(self._steps) if place.run_id else lambda name: ()

    def _steps(self, name: str) -> Collection[int]:
        return {metric.step for metric in self.experiment.get_metric_history(self.run_id, name)}

    def log_figure(self, name: str, file: Path, step: int) -> None:
        self.experiment.log_artifact(self.run_id, str(file), "figures")

    def close(self, status: str) -> None:
        self.finalize(status)


class Wandb(loggers.WandbLogger):
    """A run of Weights & Biases, whose files are in the run's `wandb`.

    Resumed online, it continues. Offline it cannot know what it had: it begins anew under the same id, with all epochs.
    """

    def __init__(self, settings: kinds.WandbLogger, place: Place) -> None:
        import wandb

        super().__init__(
            place.folder.name,
            place.folder,
            place.run_id,
            settings.offline,
            project=settings.project,
            group=place.sweep,
            settings=wandb.Settings(console="off", init_timeout=30, finish_timeout=60),
        )
        self._before = dict(self.experiment.summary)

    @property
    def run_id(self) -> str | None:
        return str(self.experiment.id)

    def steps_before(self, name: str) -> Collection[int]:
        return range(int(self._before["trainer/global_step"]) + 1) if name in self._before else ()

    def log_figure(self, name: str, file: Path, step: int) -> None:
        self.log_image(name, [str(file)], step)

    def close(self, status: str) -> None:
        self.experiment.finish(exit_code=0 if status == "FINISHED" else 1)
