"""What a sweep says: a table for people, summary.csv and summary.json for programs, and how far it has come.

summary.csv has a row per job, summary.json the settings, with mean and standard deviation over seeds, and the jobs.
`test/denoising/psnr_gain` is the PSNR in dB above that of the mean training image.
"""

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dae_lightning.errors import UserError
from dae_lightning.evaluation.report import write_csv
from dae_lightning.files import replace_text
from dae_lightning.locks import is_held
from dae_lightning.sweeps.jobs import STATUSES, Job, number
from dae_lightning.sweeps.run_jobs import tell
from dae_lightning.sweeps.sweep import GAIN, PSNR, Setting, Sweep, read_sweep

COLUMNS = (  # of the table, as many as fit
    ("denoising: PSNR", PSNR, 2),
    ("gain", GAIN, 2),
    ("BCE", "test/denoising/bce", 4),
    ("SSIM", "test/denoising/ssim", 3),
    ("reconstruction: PSNR", "test/reconstruction/psnr", 2),
    ("BCE", "test/reconstruction/bce", 4),
    ("SSIM", "test/reconstruction/ssim", 3),
)


class Summary(Callback):
    """Silent in a single run; a launcher's processes, where jobs end, get a copy. No failed summary fails a sweep."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._folder = Path(config.hydra.sweep.dir).absolute()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if self._folder is not None:
            try:
                sweep = read_sweep(self._folder)
                plan = sweep.of_plan()
                if plan and not any(
                    job is None or job.status == "running" or _to_run_again(job, sweep.began) for job in plan
                ):
                    return  # the summary will say it
                line = progress(sweep, True, time.time())
            except Exception as error:
                line = f"[sweep] how far is not known: {error}"
            tell(line, sys.stderr)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if self._folder is not None:
            try:
                summarize(self._folder, ended=True)
            except Exception as error:
                print(f"warning: no summary: {error}", file=sys.stderr, flush=True)


def summarize(folder: Path, ended: bool = False) -> None:
    """Print the table of a sweep and how far it is, and leave its files and figures in its folder.

    `ended`: by the sweep's own process, which still holds its folder.

    Raises:
        SweepError: it is none, or no job has begun.
    """
    sweep = read_sweep(folder)
    under_way = not ended and (is_held(folder) or any(job.status == "running" for job in sweep.jobs))
    if sweep.jobs:
        write_summary(sweep)
        print(table(sweep))
    print(progress(sweep, under_way, time.time()))
    if not sweep.jobs:
        return
    drawn = any(job.status == "finished" for job in sweep.jobs)
    if drawn:
        from dae_lightning.sweeps import figures as sweep_figures
        from dae_lightning.sweeps import gallery as sweep_gallery  # torch and lightning take seconds

        _drawn("heat map or curves", sweep_figures.draw, sweep)
        _drawn("gallery.png", sweep_gallery.draw, sweep)
    print(f"summary{' and figures' if drawn else ''}: {folder}", flush=True)


def write_summary(sweep: Sweep) -> None:
    """summary.csv and summary.json, in the sweep's folder."""
    names = list(dict.fromkeys(name for job in sweep.jobs for name in job.scores))
    rows = [_row(sweep, job, names) for job in sweep.jobs]
    typed = [row | {key: _value(row[key]) for key in sweep.varying} for row in rows]
    write_csv(sweep.folder / "summary.csv", rows)
    facts = {
        "axes": {axis: [_value(value) for value in values] for axis, values in sweep.axes.items()},
        "fixed": {
            key: _value(sweep.known[0].get(key)) for key in sweep.keys if key not in sweep.varying and sweep.known
        },
        "settings": [
            {
                "overrides": dict(zip(sweep.axes, map(_value, setting.values), strict=True)),
                "jobs": {status: count for status, count in _count(setting.jobs).items() if count},
                "seconds": setting.seconds,
                "test": {
                    name: {
                        "mean": setting.mean(name),
                        "std": setting.deviation(name),
                        "seeds": len(setting.scores(name)),
                    }
                    for name in names
                },
            }
            for setting in sweep.settings
        ],
        "jobs": typed,
    }
    replace_text(sweep.folder / "summary.json", json.dumps(facts, indent=2, allow_nan=False) + "\n")


def table(sweep: Sweep) -> str:
    """A line per setting, and one beneath for each job without a result; no wider than the terminal, if it can be."""
    settings = sweep.settings
    columns = [[axis, *(setting.values[place] or "-" for setting in settings)] for place, axis in enumerate(sweep.axes)]
    columns.append(["seeds", *(str(len(setting.finished)) for setting in settings)])
    last = [
        ["time", *("-" if s.seconds is None else duration(s.seconds) for s in settings)],
        ["status", *(setting.count() for setting in settings)],
    ]
    room = shutil.get_terminal_size((120, 24)).columns - sum(_width(column) for column in [*columns, *last])
    for title, name, digits in COLUMNS:
        column = [title, *(_with_deviation(setting, name, digits) for setting in settings)]
        if (room := room - _width(column)) < 0 and name != PSNR:
            break
        columns.append(column)
    *numbers, status = columns + last
    lines = [
        "  ".join([*(f"{cell:>{_width(column) - 2}}" for column, cell in zip(numbers, row, strict=True)), state])
        for *row, state in zip(*numbers, status, strict=True)
    ]
    lost = [job for job in sweep.jobs if job.status not in ("finished", "running")]
    return "\n".join(
        lines + [f"{job.status}: {_title(sweep, job)}{': ' if job.error else ''}{job.error or ''}" for job in lost]
    )


def progress(sweep: Sweep, under_way: bool, now: float) -> str:
    """How far a sweep has come at the Unix time `now`, in a line; when it is `under_way`, with its expected end."""
    counts = _count(sweep.jobs)
    plan = sweep.of_plan()
    left = sum(job is None for job in plan)
    if under_way:  # the jobs that an earlier command did not finish are to run again
        again = Counter(job.status for job in plan if job is not None and _to_run_again(job, sweep.began))
        counts -= again
        left += again.total()
    parts = [f"{counts['finished']} done"]
    parts += [f"{counts[status]} {status}" for status in STATUSES[1:] if counts[status]]
    if plan:
        parts.append(f"{left} left")
    text = f"[sweep] {', '.join(parts)} of {counts.total() + left}"
    if under_way and left + counts["running"] and (end := _expected_end(sweep, left, now)):
        today = end.date() == datetime.fromtimestamp(now).date()
        text += f"; expected end {end:{'%H:%M' if today else '%Y-%m-%d %H:%M'}}"
    return text


def _expected_end(sweep: Sweep, left: int, now: float) -> datetime | None:
    """From what the last command has done so far, running jobs counted in part; None until it has finished one.

    It holds for any number of jobs at a time, if those to come take as long as those done.
    """
    ended = [job for job in sweep.jobs if job.started >= sweep.began and job.status != "running"]
    times = [job.seconds for job in ended if job.status == "finished" and job.seconds]
    if not times or not sweep.planned:
        return None
    running = [min(1.0, (now - job.started) / fmean(times)) for job in sweep.jobs if job.status == "running"]
    done, to_come = len(ended) + sum(running), left + len(running) - sum(running)
    return datetime.fromtimestamp(now + to_come / done * (now - sweep.began))


def duration(seconds: float) -> str:
    """As in 8.1 s, 4:05 or 1:02:03."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _to_run_again(job: Job, began: float) -> bool:
    return job.started < began and job.status in ("failed", "interrupted", "unreadable")


def _count(jobs: Sequence[Job]) -> Counter[str]:
    return Counter({status: sum(job.status == status for job in jobs) for status in STATUSES})


def _drawn(name: str, draw: Callable[[Sweep], None], sweep: Sweep) -> None:
    """Draw, or say in a line why not: the numbers are written, whatever it is."""
    try:
        draw(sweep)
    except Exception as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        print(f"warning: no {name}: {' '.join(reason.split())}", file=sys.stderr)


def _title(sweep: Sweep, job: Job) -> str:
    """What sets it apart from the others, as one would type it; of one that does not say, its folder's name."""
    said = [f"{key}={job.get(key)}" for key in sweep.varying if job.overrides is not None and job.get(key)]
    return " ".join(said) or job.folder.name


def _row(sweep: Sweep, job: Job, names: list[str]) -> dict[str, Any]:
    """A line of summary.csv; `names` are those of the scores."""
    return (
        {"job": job.folder.name}
        | {key: "" if job.overrides is None else job.get(key) for key in sweep.varying}
        | {"status": job.status}
        | {name: job.scores.get(name) for name in names}
        | {"seconds": job.seconds, "error": job.error or ""}
    )


def _value(text: str) -> str | float | None:
    """An override's value in JSON: a number where it is one, null where there is none."""
    found = number(text)
    if found is None:
        return text or None
    return int(found) if found.is_integer() else found


def _with_deviation(setting: Setting, name: str, digits: int) -> str:
    mean, deviation = setting.mean(name), setting.deviation(name)
    if mean is None:
        return "-"
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" +-{deviation:.{digits}f}")


def _width(column: Sequence[str]) -> int:
    """With the gap to the next one."""
    return max(map(len, column)) + 2
