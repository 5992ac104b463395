"""search.png: the trials of a search one after the other, and their scores over the values of each key."""

import math
from collections.abc import Sequence
from itertools import accumulate
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from dae_lightning.figures import DENOISING, GREY, INK, TRAINING, WIDE, save_figure, style
from dae_lightning.sweeps.answer import ranking
from dae_lightning.sweeps.jobs import Job, number
from dae_lightning.sweeps.sweep import Sweep, numeric

ACROSS = 3  # panels side by side
FEW = 5  # values of a key that are all written on its axis
ABOVE = "higher, or without a score"
LOOKS: dict[str, dict[str, Any]] = {
    "finished": {"marker": "o", "color": TRAINING},
    "pruned": {"marker": "o", "mfc": "none", "mec": GREY},
    ABOVE: {"marker": "^", "color": GREY},
}
REACH = 3  # how far above the best score the panels go, in units of the median's distance from it


def draw(sweep: Sweep) -> None:
    save_figure(search_figure(sweep), sweep.folder / "search.png")


def search_figure(sweep: Sweep) -> Figure:
    """Best score so far over trials, and a slice for each key that varies.

    A triangle at the upper edge is a trial whose score is above that, or that has none because it failed.
    """
    trials = sorted((job.trials[0], job) for job in sweep.jobs if job.trials and job.status != "running")
    places, jobs = [place for place, _ in trials], [job for _, job in trials]
    finished = [_score(job) if job.status == "finished" else math.inf for job in jobs]
    best, usual = min(finished), median(filter(math.isfinite, finished))
    reach = REACH * (usual - best) or 0.01  # of a single score
    keys = list(sweep.axes)
    columns = 2 if len(keys) == 3 else min(ACROSS, 1 + len(keys))
    rows = math.ceil((1 + len(keys)) / columns)
    figure = Figure(figsize=(4.2 * columns, 0.4 + 3.3 * rows), dpi=120, layout="constrained")
    history, *slices = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    for unused in slices[len(keys) :]:
        unused.remove()
    _points(history, places, jobs, best + reach)
    so_far = list(accumulate(finished, min))
    history.step(places, so_far, where="post", color=DENOISING, lw=1.8, label="best so far")
    for setting in ranking(sweep):
        if (deviation := setting.deviation(sweep.value)) is not None:
            place, mean = setting.trial.trials[0], setting.mean(sweep.value)
            look: dict[str, Any] = {"color": INK, "marker": "_", "ms": 9, "lw": 1.2, "capsize": 3}
            history.errorbar(place, mean, deviation, label="mean ± standard deviation over seeds", **look)
    history.set(xlabel="trial", ylabel=f"{sweep.value} (held-out images)")
    history.set_ylim(best - 0.08 * reach, best + 1.08 * reach)
    history.xaxis.set_major_locator(MaxNLocator(integer=True))
    style(history)
    for axes, key in zip(slices, keys, strict=False):
        _slice(axes, key, sweep.axes[key], jobs, best + reach)
        style(axes)
    handles, labels = history.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(once.values(), once.keys(), frameon=False, fontsize=9, loc="outside lower center", ncols=len(once))
    return figure


def _points(axes: Axes, places: Sequence[float], jobs: Sequence[Job], top: float) -> None:
    """A mark for each job at its place, as high as its score."""
    for kind, look in LOOKS.items():
        marked = [place for place in zip(places, jobs, strict=True) if _kind(place[1], top) == kind]
        shown = [(place, min(_score(job), top)) for place, job in marked]
        if shown:
            axes.plot(*zip(*shown, strict=True), ls="none", ms=5, label=kind, **look)


def _slice(axes: Axes, key: str, values: Sequence[str], jobs: Sequence[Job], top: float) -> None:
    """The scores over the values of a key."""
    jobs = [job for job in jobs if job.get(key)]
    if numeric(values):
        places = [number(job.get(key)) or 0.0 for job in jobs]
        if min(places) > 0 and max(places) >= WIDE * min(places):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if max(places) < 100 * min(places) else (1,)))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter("{x:g}")
        if len(values) <= FEW:
            axes.set_xticks(sorted(set(places)))
            axes.minorticks_off()
    else:
        names = list(dict.fromkeys(values))
        places = [names.index(job.get(key)) for job in jobs]
        axes.set_xticks(range(len(names)), [name or "-" for name in names])
    _points(axes, places, jobs, top)
    axes.set_xlabel(key)


def _score(job: Job) -> float:
    """The best that it reached, which of a pruned one is not its last word."""
    return math.inf if job.status not in ("finished", "pruned") or job.value is None else job.value


def _kind(job: Job, top: float) -> str:
    return job.status if _score(job) <= top else ABOVE
