"""The Optuna study of a search: a journal in its folder, to which the search and its jobs append."""

import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

JOURNAL = "study.journal"
NAME = "search"  # of the only study in the journal

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_storage(folder: Path) -> JournalStorage:
    """The journal of the search in this folder, which need not exist yet."""
    path = folder / JOURNAL
    # Optuna's own locks outlive a process that is killed
    lock: Any = FileLock(folder / f".{JOURNAL}.lock")
    if path.exists() and not _ends_with_a_line(path):
        with lock:
            _drop_half_a_line(path)
    return JournalStorage(JournalFileBackend(str(path), lock))


def open_study(storage: JournalStorage, pruner: str = "none") -> optuna.Study:
    """The study in a journal; a new one where there is none."""
    if NAME in optuna.get_all_study_names(storage):
        return optuna.load_study(study_name=NAME, storage=storage, pruner=make_pruner(pruner))
    return optuna.create_study(study_name=NAME, storage=storage, pruner=make_pruner(pruner))


def attach(storage: JournalStorage, study: optuna.Study, number: int) -> optuna.Trial:
    """A trial that another process has asked for."""
    study_id = storage.get_study_id_from_name(NAME)
    return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))


def make_pruner(name: str) -> BasePruner:
    """The median is compared with from the second epoch on, once five trials are complete."""
    return {"median": MedianPruner(n_startup_trials=5, n_warmup_steps=2), "none": NopPruner()}[name]


def make_sampler(seed: int, number: int) -> TPESampler:
    """What draws trial `number`: a function of it, the seed and the results so far, whichever process drew those."""
    return TPESampler(seed=int(np.random.SeedSequence((seed, number)).generate_state(1)[0]))


def importances(folder: Path) -> dict[str, float]:
    """Of a search's keys, the most important first, with a sum of 1; none where the trials do not tell."""
    if not (folder / JOURNAL).exists():
        return {}
    study = open_study(open_storage(folder))
    trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if sum(math.isfinite(trial.value or 0.0) for trial in trials) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*the same set of trials")
        try:
            found = optuna.importance.get_param_importances(study)
        except UserWarning:  # all of them are the best
            return {}
    return {key.lstrip("+"): share for key, share in found.items()}


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _drop_half_a_line(path: Path) -> None:
    """What a full disk or a power cut has left of a record; whoever wrote it has not gone on."""
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
