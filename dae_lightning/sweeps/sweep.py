"""A multirun's folder: its jobs, what varies among them, and the settings that differ in more than their seed."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from dae_lightning.errors import SweepError
from dae_lightning.kinds import monitored
from dae_lightning.locks import is_held
from dae_lightning.sweeps.jobs import RECORD, STATUSES, Job, by_key, number

PLAN = "multirun.yaml"  # Hydra writes it before the first job, each time that a multirun starts in the folder
SEARCH = "hydra_plugins.dae_search.Search"  # the sweeper of a search
RESULTS = ("finished", "pruned", "diverged")  # ends of a trial that tell something about its settings
SEEDS = 3  # of a setting that a search confirms
PSNR, GAIN = "test/denoising/psnr", "test/denoising/psnr_gain"  # the gain in dB over the mean training image


@dataclass(frozen=True, eq=False)
class Setting:
    """The jobs that differ by nothing but their seed."""

    values: tuple[str, ...]  # of the sweep's axes
    jobs: tuple[Job, ...]

    @property
    def finished(self) -> list[Job]:
        return [job for job in self.jobs if job.status == "finished"]

    @property
    def trial(self) -> Job:
        """Of a search, the finished job that was a trial, not a confirmation."""
        return next(job for job in self.finished if job.trials)

    def scores(self, name: str) -> list[float]:
        """Of the finished jobs, a score that is defined."""
        return [score for job in self.finished if (score := job.scores.get(name)) is not None]

    def mean(self, name: str) -> float | None:
        return fmean(scores) if (scores := self.scores(name)) else None

    def deviation(self, name: str) -> float | None:
        """Standard deviation over seeds (n - 1); None of a single one."""
        return stdev(scores) if len(scores := self.scores(name)) > 1 else None

    @property
    def seconds(self) -> float | None:
        """Mean time of a finished job."""
        known = [job.seconds for job in self.finished if job.seconds is not None]
        return fmean(known) if known else None

    def count(self) -> str:
        """As in "2 finished, 1 failed"."""
        return ", ".join(f"{count} {status}" for status, count in counted(self.jobs).items())


@dataclass(frozen=True)
class Sweep:
    """A multirun, a grid or a search: the jobs that have begun, by name, and what its last command planned."""

    folder: Path
    jobs: tuple[Job, ...]
    planned: tuple[Mapping[str, str], ...]  # overrides of every job, in order; none where they cannot be told
    began: float  # when the last command did, a Unix time
    trials: int = 0  # of a search; 0 of a grid
    confirm: int = 0  # of a search: how many of the best settings get other seeds

    @cached_property
    def known(self) -> list[Job]:
        """The jobs that say what they are about."""
        return [job for job in self.jobs if job.overrides is not None]

    @cached_property
    def keys(self) -> list[str]:
        """All keys that are said anywhere, in the order of the command line."""
        said = [*self.planned[:1], *(job.said for job in self.known)]
        return list(dict.fromkeys(key for overrides in said for key in overrides))

    @cached_property
    def varying(self) -> list[str]:
        """The keys that differ between jobs."""
        return [key for key in self.keys if len(set(self._values(key))) > 1]

    @cached_property
    def axes(self) -> dict[str, list[str]]:
        """The values of every key that varies, but of the seed: numbers by size, others in the order of the grid."""
        return {key: in_order(self._values(key)) for key in self.varying if key != "seed"}

    @cached_property
    def settings(self) -> list[Setting]:
        """In the order of the grid, those of which at least one job has begun."""
        together: dict[tuple[str, ...], list[Job]] = {}
        for job in sorted(self.known, key=lambda job: number(job.get("seed")) or 0):
            together.setdefault(tuple(map(job.get, self.axes)), []).append(job)
        order = sorted(together, key=lambda values: list(map(list.index, self.axes.values(), values)))
        return [Setting(values, tuple(together[values])) for values in order]

    @cached_property
    def loss(self) -> str:
        """Of a search, the loss of every trial."""
        return next(filter(None, (job.get("loss") for job in self.known)), "bce")

    @property
    def value(self) -> str:
        """Of a search, the score by which it compares trials."""
        return monitored(self.loss)

    @property
    def digits(self) -> int:
        """How many of them a table has after the point of that score."""
        return {"bce": 4, "mse": 6}[self.loss]

    @cached_property
    def best(self) -> list[Setting]:
        """Of a search, the settings that have a finished trial, the best first, by that trial alone."""
        tried = [setting for setting in self.settings if any(job.trials for job in setting.finished)]
        return sorted(tried, key=lambda setting: setting.trial.scores[self.value] or math.inf)

    @cached_property
    def of_plan(self) -> list[Job | None]:
        """The job of each planned one; None where it has not begun."""
        if self.trials:
            left = max(0, self.trials - sum(len(job.trials) for job in self.jobs))
            confirmed = self.best[: self.confirm]
            seeds = sum(max(0, SEEDS - len(setting.jobs)) for setting in confirmed)
            seeds += (SEEDS - 1) * (self.confirm - len(confirmed)) if left else 0
            return [*self.jobs, *[None] * (left + seeds)]
        keys = tuple(self.planned[0]) if self.planned else ()
        # a job of an earlier, smaller grid has in its configuration what it does not say
        begun = {tuple(map(job.get, keys)): job for job in self.known if job.said.keys() <= set(keys)}
        return [begun.get(tuple(plan[key] for key in keys)) for plan in self.planned]

    @cached_property
    def to_run(self) -> list[Job | None]:
        """Of the planned ones, what has not begun, and what an earlier command has not finished."""
        again = ("failed", "interrupted", "unreadable")
        return [job for job in self.of_plan if job is None or (job.started < self.began and job.status in again)]

    @property
    def failures(self) -> int:
        """How many of the planned jobs are not finished, or were refused the folder they would have."""
        if self.trials:
            return sum(job is None or job.status not in RESULTS for job in self.of_plan)
        # only Hydra's own sweeper leaves a plan; of another's jobs, those count that this command has started
        planned = self.of_plan or [job for job in self.jobs if job.written_since(self.began)]
        return sum(job is None or job.status != "finished" or not job.written_since(self.began) for job in planned)

    def _values(self, key: str) -> list[str]:
        return [*(plan[key] for plan in self.planned if key in plan), *(job.get(key) for job in self.known)]


def read_sweep(folder: Path) -> Sweep:
    """What lies in a multirun's folder now.

    Raises:
        SweepError: there is no such folder, it is not a multirun's, or no job has begun.
    """
    if not folder.is_dir():
        raise SweepError(f"{folder}: {'not a' if folder.exists() else 'no such'} folder")
    plan = folder / PLAN
    places = [child for child in sorted(folder.iterdir()) if child.is_dir()]
    if not plan.is_file() and not any((place / RECORD).exists() for place in places):
        if (folder / ".hydra").is_dir() or (folder / "results.json").exists() or (folder / RECORD).exists():
            raise SweepError(f"{folder}: a single run's folder; give that of a multirun, which holds one per job")
        raise SweepError(f"{folder}: no sweep in it (there is no {PLAN}, which a multirun writes)")
    planned, trials, confirm = _read_plan(plan)
    jobs = tuple(job for place in places if (job := _read_job(place)) is not None)
    if not jobs and not planned and not trials:
        raise SweepError(f"{folder}: no job of this sweep has begun")
    if trials:
        jobs = tuple(sorted(map(_of_a_search, jobs), key=lambda job: min(job.trials, default=math.inf)))
    return Sweep(folder, jobs, planned, plan.stat().st_mtime if plan.exists() else 0.0, trials, confirm)


def counted(jobs: Iterable[Job]) -> Counter[str]:
    """How many jobs have each status that there is, in the order of STATUSES."""
    return Counter(sorted((job.status for job in jobs), key=STATUSES.index))


def numeric(values: Iterable[str]) -> bool:
    return all(number(value) is not None for value in values)


def in_order(values: Sequence[str]) -> list[str]:
    """Each once: numbers by size, other values as they come, with a missing one at the end."""
    once = [value for value in dict.fromkeys(values) if value]
    if numeric(once):
        once.sort(key=float)
    return once + [""] * ("" in values)


def _read_job(folder: Path) -> Job | None:
    """The job of a folder, with its scores; None where there never was one."""
    job = Job.read(folder)
    if job is not None and job.status == "finished":
        try:
            return _with_results(job)
        except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
            return job.unreadable("results.json", error)
    if job is not None and job.status == "running" and not is_held(folder):
        return replace(job, status="interrupted")
    return job


def _of_a_search(job: Job) -> Job:
    """A job whose value is the score that trials are compared by, and whose divergence is a result."""
    status = "diverged" if job.diverged else job.status
    return replace(job, status=status, scores={monitored(job.get("loss") or "bce"): job.value, **job.scores})


def _with_results(job: Job) -> Job:
    # NaN and Infinity are not JSON
    results = json.loads((job.folder / "results.json").read_bytes(), parse_constant=lambda name: None)
    test = results["test"]
    scores = {
        f"test/{task}/{metric}": None if value is None or not math.isfinite(value) else float(value)
        for task, of_task in test["model"].items()
        for metric, value in of_task.items()
    }
    floor = test["mean_image"]["denoising"]["psnr"]
    scores[GAIN] = None if floor is None or scores[PSNR] is None else scores[PSNR] - floor
    # after a resume, the former counts from there
    return replace(job, scores=scores, seconds=max(job.seconds or 0.0, results["fit_seconds"]))


def _read_plan(path: Path) -> tuple[tuple[Mapping[str, str], ...], int, int]:
    """The overrides of every job of the last command, as Hydra's own sweeper expands them; a search's two numbers."""
    try:
        settings = yaml.safe_load(path.read_bytes())["hydra"]
        if settings["sweeper"].get("_target_") == SEARCH:
            return (), int(settings["sweeper"]["trials"]), int(settings["sweeper"]["confirm"])
        said = [f"{key}={value}" for key, value in (settings["sweeper"].get("params") or {}).items()]
        overrides = OverridesParser.create().parse_overrides([*said, *settings["overrides"]["task"]])
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
    except (OSError, TypeError, AttributeError, LookupError, yaml.YAMLError, HydraException):
        return (), 0, 0  # no such file, a damaged one, or another sweeper's
    return tuple(by_key(job) for job in jobs), 0, 0
