"""A search: which settings to train next is asked of Optuna, and what came of each is told to it.

A trial is a job like those of a grid (run_jobs.py). The study, in its journal, says which trials there are; the jobs'
folders say how they ended. What a killed search leaves behind are trials that still run: their jobs are resumed.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.trial import FrozenTrial, TrialState

from dae_lightning import config as schemas
from dae_lightning.cli.hydra_app import plain, settings_of
from dae_lightning.errors import CheckpointError, ConfigError
from dae_lightning.kinds import monitored
from dae_lightning.schema import check
from dae_lightning.signals import RELAY
from dae_lightning.sweeps.jobs import Job, differing
from dae_lightning.sweeps.run_jobs import tell
from dae_lightning.sweeps.space import Space, read_space
from dae_lightning.sweeps.study import JOURNAL, make_sampler, open_storage, open_study
from dae_lightning.sweeps.sweep import PLAN, SEEDS, read_sweep
from dae_lightning.threads import usable_cpus

AGAIN = "again"  # an attribute of a trial: the settings of a failed one that it tries again


def search(arguments: Sequence[str], context: HydraContext, task: TaskFunction, config: DictConfig) -> None:
    """Search, or continue the search in hydra.sweep.dir: what Hydra's sweeper does, with its arguments.

    Raises:
        ConfigError, CheckpointError: one line, before any job begins.
        Interrupted: a signal stops the search.
    """
    given: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    del given["_target_"]
    settings = check(schemas.Search, given, "hydra.sweeper")
    in_file = [f"{key}={value}" for key, value in (settings.params or {}).items()]
    space = read_space([*in_file, *arguments], context.config_loader)
    base = _checked(space, context, config)
    folder = Path(config.hydra.sweep.dir).absolute()
    study = _begun(folder, space, base)
    OmegaConf.save(config, folder / PLAN)

    workers = _workers(config.hydra.launcher)
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=config)
    trials = _to_run(study, space, settings)
    while batch := list(islice(trials, workers)):
        _run(batch, study, space, folder, launcher)
    again = _to_confirm(folder, settings.confirm)
    for first in range(0, len(again), workers):
        _launch(again[first : first + workers], launcher, settings.trials + first)


def _checked(space: Space, context: HydraContext, config: DictConfig) -> dict[str, Any]:
    """Compose the jobs at the ends of every axis, so that a mistake is found before anything is trained.

    Returns:
        The settings of the first, as they are recorded.
    """
    found: list[dict[str, Any]] = []
    for overrides in space.corners():
        cfg = context.config_loader.load_sweep_config(config, overrides)
        with open_dict(cfg):
            del cfg["hydra"]
        settings = settings_of(cfg)
        if settings.data.val_size == 0:
            raise ConfigError(
                f"data.val_size=0: a search compares {monitored(settings.loss)}, for which images must be held out; "
                "give data.val_size=N"
            )
        found.append(plain(cfg))
    return found[0]


def _begun(folder: Path, space: Space, base: dict[str, Any]) -> optuna.Study:
    """The folder's study, which has to be over the same axes, with the same other settings.

    Raises:
        CheckpointError: it is of another search.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = open_study(open_storage(folder))
    if "search" not in study.user_attrs:
        study.set_user_attr("search", {"axes": dict(space.said), "settings": base})
    recorded = study.user_attrs["search"]
    axes = {key for key, _ in recorded["axes"].items() ^ space.said.items()}
    if other := sorted(axes) or differing(recorded["settings"], base):
        raise CheckpointError(
            f"{folder / JOURNAL}: holds a search with another {', '.join(other)}; "
            "another hydra.sweep.dir starts a new one"
        )
    return study


def _to_run(study: optuna.Study, space: Space, settings: schemas.Search) -> Iterator[int]:
    """Numbers of trials: those that were interrupted, those that try failed ones again, then new ones."""
    earlier = study.get_trials()
    begun = [trial for trial in earlier if trial.params.keys() == space.axes.keys()]
    for trial in earlier:
        if trial.state == TrialState.RUNNING and trial not in begun:  # killed in the instant in which it was asked for
            study.tell(trial.number, state=TrialState.FAIL)
    yield from (trial.number for trial in begun if trial.state == TrialState.RUNNING)
    tried = [trial.user_attrs.get(AGAIN, trial.params) for trial in earlier if trial.state != TrialState.FAIL]
    for trial in begun:
        if trial.params not in tried:
            tried.append(trial.params)
            study.enqueue_trial(trial.params, {AGAIN: trial.params})
    left = settings.trials - sum(trial.state != TrialState.FAIL for trial in begun)
    for _ in range(left):
        study.sampler = make_sampler(settings.seed, len(study.get_trials(deepcopy=False)))
        yield study.ask(dict(space.axes)).number


def _run(batch: Sequence[int], study: optuna.Study, space: Space, folder: Path, launcher: Launcher) -> None:
    """Run trials side by side, and tell the study how they ended; one that repeats another shares its job."""
    trials = study.get_trials(deepcopy=False)
    original = {number: _original(trials, number) for number in batch}
    new = [
        [*space.overrides(trials[number].params), f"hydra.sweeper.trial={number}"]
        for number in batch
        if original[number] == number
    ]
    _launch(new, launcher, batch[0])
    for number in batch:
        if original[number] != number:
            tell(f"trial {number} has the settings of trial {original[number]}, and its outcome", sys.stdout)
        answers = {each: job for job in read_sweep(folder).jobs for each in job.trials}
        if (job := answers.get(original[number])) is None:  # it was refused its folder
            continue
        if number not in job.trials and (record := Job.read(job.folder)):
            replace(record, trials=[*record.trials, number]).write()
        _tell(study, number, job)


def _original(trials: Sequence[FrozenTrial], number: int) -> int:
    """The trial before this one that has the same settings; itself where there is none, or where that failed before."""
    if AGAIN in trials[number].user_attrs:
        return number
    same = [trial.number for trial in trials[:number] if trial.params == trials[number].params]
    return max(same, default=number)


def _tell(study: optuna.Study, number: int, job: Job) -> None:
    """What was interrupted goes on some time: for Optuna it still runs."""
    if job.status == "finished":
        study.tell(number, job.value, None if job.value is not None else TrialState.FAIL)
    elif job.status == "pruned":
        study.tell(number, state=TrialState.PRUNED)
    elif job.status == "diverged":
        study.tell(number, math.inf)  # a result, the worst there is: the search keeps away from it
    elif job.status == "failed":
        study.tell(number, state=TrialState.FAIL)


def _launch(jobs: Sequence[Sequence[str]], launcher: Launcher, first: int) -> None:
    """Run jobs, given by their overrides, to their end; how each ended is in its folder.

    Raises:
        Interrupted: a signal stops the search.
    """
    for job in launcher.launch(jobs, initial_job_idx=first) if jobs else ():
        _ = job.return_value  # raises what kept Hydra from running it
    RELAY.raise_if_received()


def _to_confirm(folder: Path, count: int) -> list[list[str]]:
    """Jobs with the best settings and other seeds."""
    found = []
    for job in (setting.trial for setting in read_sweep(folder).best[:count]):
        same = [override for override in job.overrides or [] if not override.startswith("seed=")]
        found += [[*same, f"seed={int(job.get('seed')) + more}"] for more in range(1, SEEDS)]
    return found


def _workers(launcher: DictConfig) -> int:
    """How many jobs a launcher runs side by side."""
    if "joblib" in launcher._target_:
        from joblib import effective_n_jobs

        return int(effective_n_jobs(launcher.n_jobs))
    if "submitit" in launcher._target_:
        on_this_machine = max(1, usable_cpus() // (launcher.cpus_per_task or 1))
        return int(launcher.get("array_parallelism") or on_this_machine)
    return 1
