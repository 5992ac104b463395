"""What a sweep says: a table for people, summary.csv and summary.json for programs, and how far it has come.

summary.csv has a row per job, summary.json the settings, with mean and standard deviation over seeds, and the jobs.
`test/denoising/psnr_gain` is the PSNR in dB above that of the mean training image.
"""

import shutil
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from dae_lightning.errors import UserError
from dae_lightning.evaluation.report import write_csv, write_json
from dae_lightning.locks import is_held
from dae_lightning.sweeps.answer import answer, ranking
from dae_lightning.sweeps.jobs import STATUSES, Job, duration, number
from dae_lightning.sweeps.sweep import GAIN, PSNR, RESULTS, Setting, Sweep, counted, read_sweep

COLUMNS = (  # of the table, as many as fit
    ("denoising: PSNR", PSNR, 2),
    ("gain", GAIN, 2),
    ("BCE", "test/denoising/bce", 4),
    ("SSIM", "test/denoising/ssim", 3),
    ("reconstruction: PSNR", "test/reconstruction/psnr", 2),
    ("BCE", "test/reconstruction/bce", 4),
    ("SSIM", "test/reconstruction/ssim", 3),
)
SHOWN = 10  # settings of a search, the best first


def summarize(folder: Path, ended: bool = False, told: bool = False) -> None:
    """Print the table of a sweep and how far it is, and leave its files and figures in its folder.

    `ended`: by the sweep's own process, which still holds its folder; `told`: it has said why jobs failed.

    Raises:
        SweepError: it is none, or no job has begun.
    """
    sweep = read_sweep(folder)
    if sweep.jobs:
        write_summary(sweep)
        print(table(sweep, reasons=not told))
        if sweep.trials:
            print(answer(sweep))
    under_way = not ended and (is_held(folder) or any(job.status == "running" for job in sweep.jobs))
    print(progress(sweep, under_way, time.time()))
    if not sweep.jobs:
        return
    drawn = any(job.status == "finished" for job in sweep.jobs)
    if drawn and sweep.trials:
        from dae_lightning.sweeps import search_figure

        _drawn("search.png", search_figure.draw, sweep)
    elif drawn:
        from dae_lightning.sweeps import figures as sweep_figures
        from dae_lightning.sweeps import gallery as sweep_gallery  # torch and lightning take seconds

        _drawn("heat map or curves", sweep_figures.draw, sweep)
        _drawn("gallery.png", sweep_gallery.draw, sweep)
    print(f"summary{' and figures' if drawn else ''}: {folder}", flush=True)


def write_summary(sweep: Sweep) -> None:
    """summary.csv and summary.json, in the sweep's folder."""
    names = list(dict.fromkeys(name for job in sweep.jobs for name in job.scores))
    rows: list[dict[str, Any]] = [
        {"job": job.folder.name}
        | ({"trial": min(job.trials, default=None)} if sweep.trials else {})
        | {key: "" if job.overrides is None else job.get(key) for key in sweep.varying}
        | {"status": job.status}
        | {name: job.scores.get(name) for name in names}
        | {"seconds": job.seconds, "error": job.error or ""}
        for job in sweep.jobs
    ]
    settings = [
        {
            "overrides": dict(zip(sweep.axes, map(_value, setting.values), strict=True)),
            "jobs": counted(setting.jobs),
            "seconds": setting.seconds,
            "test": {
                name: {"mean": setting.mean(name), "std": setting.deviation(name), "seeds": len(setting.scores(name))}
                for name in names
            },
        }
        for setting in sweep.settings
    ]
    jobs = [row | {key: _value(row[key]) for key in sweep.varying} for row in rows]
    write_csv(sweep.folder / "summary.csv", rows)
    write_json(sweep.folder / "summary.json", {"settings": settings, "jobs": jobs})


def table(sweep: Sweep, reasons: bool = True) -> str:
    """A line per setting, no wider than the terminal if it can be; with `reasons` one for each job without a result."""
    settings = [*dict.fromkeys(ranking(sweep) + sweep.best)][:SHOWN] if sweep.trials else sweep.settings
    shown = ((f"val {sweep.loss.upper()}", sweep.value, sweep.digits),) if sweep.trials else COLUMNS
    columns = [[axis, *(setting.values[place] or "-" for setting in settings)] for place, axis in enumerate(sweep.axes)]
    columns.append(["seeds", *(str(len(setting.finished)) for setting in settings)])
    scores = [
        [title, *(_with_deviation(setting, name, digits) for setting in settings)] for title, name, digits in shown
    ]
    times = ["time", *("-" if setting.seconds is None else duration(setting.seconds) for setting in settings)]
    status = ["status", *(setting.count() for setting in settings)]

    room = shutil.get_terminal_size((120, 24)).columns
    while len(scores) > 1 and sum(max(map(len, c)) + 2 for c in (*columns, *scores, times, status)) > room:
        scores.pop()
    aligned = [[cell.rjust(max(map(len, column))) for cell in column] for column in (*columns, *scores, times)]
    lines = ["  ".join(row) for row in zip(*aligned, status, strict=True)]
    lost = [job for job in sweep.jobs if reasons and job.status not in (*RESULTS, "running")]
    return "\n".join(lines + [": ".join(filter(None, (job.status, _title(sweep, job), job.error))) for job in lost])


def progress(sweep: Sweep, under_way: bool, now: float) -> str:
    """How far a sweep has come at the Unix time `now`, in a line; when it is `under_way`, with its expected end."""
    counts = counted(sweep.jobs)
    left = sum(job is None for job in sweep.of_plan)
    if under_way:
        left = len(sweep.to_run)
        counts -= counted(job for job in sweep.to_run if job)
    parts = [f"{counts['finished']} done"]
    parts += [f"{counts[status]} {status}" for status in STATUSES[1:] if counts[status]]
    if sweep.of_plan:
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
    if not times or not sweep.of_plan:
        return None
    running = [min(1.0, (now - job.started) / fmean(times)) for job in sweep.jobs if job.status == "running"]
    done, to_come = len(ended) + sum(running), left + len(running) - sum(running)
    return datetime.fromtimestamp(now + to_come / done * (now - sweep.began))


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
