"""A sweep as pictures: heatmap.png where two or three keys vary, curves.png where one does."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dae_lightning.figures import DENOISING, INK, RECONSTRUCTION, save_figure, style
from dae_lightning.sweeps.jobs import STATUSES, number
from dae_lightning.sweeps.sweep import GAIN, PSNR, Setting, Sweep

TITLES = {PSNR: "denoising: PSNR in dB", GAIN: "gain over the mean image in dB"}
LONG = 24  # characters of a value; two such fit an axis of curves.png side by side
WIDE = 5  # largest over smallest value from which on an axis of numbers is logarithmic


def draw(sweep: Sweep) -> None:
    """Write the picture that suits the sweep, and remove the one of an earlier summary that no longer does."""
    figures = {"heatmap.png": heatmap_figure, "curves.png": curves_figure}
    fitting = {1: "curves.png", 2: "heatmap.png", 3: "heatmap.png"}.get(len(sweep.axes))
    for name, figure in figures.items():
        if name == fitting:
            save_figure(figure(sweep), sweep.folder / name)
        else:
            (sweep.folder / name).unlink(missing_ok=True)
    if len(sweep.axes) > 3:
        print(f"no heat map: {len(sweep.axes)} keys vary ({', '.join(sweep.axes)}), and it shows three at most")


def heatmap_figure(sweep: Sweep) -> Figure:
    """PSNR and gain, means over seeds, in the cells of a grid; of a third key each value has a grid of its own.

    The third is one without numbers, else the one with the fewest values. A cell without a finished job is hatched.
    """
    names = list(sweep.axes)
    split = min(names, key=lambda name: (numeric(sweep.axes[name]), len(sweep.axes[name]))) if len(names) == 3 else None
    across, up = (name for name in names if name != split)
    parts: Sequence[str | None] = [None] if split is None else sweep.axes[split]
    cells = {frozenset(zip(names, setting.values, strict=True)): setting for setting in sweep.settings}

    columns, rows = (len(parts), 2) if split else (2, 1)
    cell = max(0.78, 0.09 * max(map(len, sweep.axes[across])))  # inches
    width, height = 0.8 + cell * len(sweep.axes[across]), 0.8 + 0.6 * len(sweep.axes[up])
    figure = Figure(figsize=(0.8 + columns * width, 0.8 + rows * height), dpi=120, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for place, (name, title) in enumerate(TITLES.items()):
        panels = list(grid[place]) if split else [grid[0][place]]
        means = [mean for setting in sweep.settings if (mean := setting.mean(name)) is not None]
        shades = _shades(name, means)
        for axes, part in zip(panels, parts, strict=True):
            for x, at_x in enumerate(sweep.axes[across]):
                for y, at_y in enumerate(sweep.axes[up]):
                    key = {(across, at_x), (up, at_y)} | ({(split, part)} if split and part is not None else set())
                    _cell(axes, x, y, cells.get(frozenset(key)), name, shades)
            _grid_axes(axes, sweep, across, up)
            axes.set_title(title if split is None else f"{split}={part}", fontsize=10, color=INK)
        bar = figure.colorbar(shades, ax=panels, shrink=0.9, aspect=25, pad=0.02)
        bar.outline.set_visible(False)
        if split:
            bar.set_label(title, fontsize=9, color=INK)
    for axes in grid.flat:
        axes.label_outer()
    figure.suptitle(f"denoising of test images, {_over_seeds(sweep, '± ')}", fontsize=10, color=INK)
    return figure


def curves_figure(sweep: Sweep) -> Figure:
    """PSNR and BCE over the one key that varies, means over seeds, with bars of one standard deviation."""
    ((key, values),) = sweep.axes.items()
    figure = Figure(figsize=(10, 4.2), dpi=120, layout="constrained")
    by_value = {setting.values[0]: setting for setting in sweep.settings}
    shown = [value for value in values if value in by_value and by_value[value].finished]
    numbers = numeric(values)
    places = [number(value) or 0.0 for value in shown] if numbers else list(range(len(shown)))
    ticks = [value if len(value) <= LONG else f"…{value[1 - LONG :]}" for value in shown]  # paths differ at their end
    crowded = sum(len(tick) + 1 for tick in ticks) > 2 * LONG
    left, right = figure.subplots(1, 2)
    for axes, metric, unit in ((left, "psnr", "PSNR in dB"), (right, "bce", "BCE")):
        if metric == "psnr":
            floor = [_floor(by_value[value]) for value in shown]
            axes.plot(places, floor, color="#777777", lw=1.2, ls="--", marker="_", label="mean training image")
        for task, colour in (("denoising (noisy in)", DENOISING), ("reconstruction (clean in)", RECONSTRUCTION)):
            name = f"test/{task.split()[0]}/{metric}"
            means = [_mean(by_value[value], name) for value in shown]
            bars = [by_value[value].deviation(name) or 0.0 for value in shown]
            line = {"lw": 1.8} if numbers else {"ls": "none"}
            axes.errorbar(places, means, bars, color=colour, marker="o", ms=5, capsize=3, label=task, **line)
        if numbers and places and min(places) > 0 and max(places) >= WIDE * min(places):
            axes.set_xscale("log")
        axes.set_xticks(places, ticks, **({"rotation": 45, "ha": "right"} if crowded else {}))
        axes.minorticks_off()
        if not numbers:
            axes.set_xlim(-0.5, len(shown) - 0.5)
        axes.set(xlabel=key, ylabel=f"{unit}, mean over test images")
        style(axes)
    figure.legend(*left.get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower center", ncols=3)
    figure.suptitle(f"test images, {_over_seeds(sweep, 'bars: ')}", fontsize=10, color=INK)
    return figure


def numeric(values: Sequence[str]) -> bool:
    return all(number(value) is not None for value in values)


def _shades(name: str, means: Sequence[float]) -> ScalarMappable:
    """Values to colours that a reader can order: a gain that falls below 0 somewhere has two hues, white between."""
    if name == GAIN and means and min(means) < 0:
        most = max(map(abs, means))
        return ScalarMappable(Normalize(-most, most), "RdBu")
    low = 0.0 if name == GAIN else min(means, default=0.0)
    return ScalarMappable(Normalize(low, max(means, default=1.0)), "viridis")


def _cell(axes: Axes, x: int, y: int, setting: Setting | None, name: str, shades: ScalarMappable) -> None:
    """A coloured cell with its value and deviation, or a hatched one that says why there is none."""
    mean = None if setting is None else setting.mean(name)
    corner = (x - 0.5, y - 0.5)
    if setting is None or mean is None:
        axes.add_patch(Rectangle(corner, 1, 1, facecolor="#f4f4f4", edgecolor="#cccccc", hatch="////", lw=0))
        why = "not run" if setting is None else next(s for s in STATUSES if any(j.status == s for j in setting.jobs))
        axes.text(x, y, why, ha="center", va="center", fontsize=7, color=INK, bbox={"fc": "white", "lw": 0, "pad": 1.5})
        return
    colour = shades.to_rgba(np.array(mean))
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", lw=1.5))
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 0.5
    ink = "black" if bright else "white"
    deviation = setting.deviation(name)
    sign = "+" if name == GAIN else ""
    text: dict[str, Any] = {"ha": "center", "va": "center", "color": ink}
    axes.text(x, y + (0.1 if deviation is not None else 0), f"{mean:{sign}.2f}", fontsize=9, **text)
    if deviation is not None:
        axes.text(x, y - 0.22, f"±{deviation:.2f}", fontsize=6.5, **text)


def _grid_axes(axes: Axes, sweep: Sweep, across: str, up: str) -> None:
    axes.set_xticks(range(len(sweep.axes[across])), [value or "-" for value in sweep.axes[across]])
    axes.set_yticks(range(len(sweep.axes[up])), [value or "-" for value in sweep.axes[up]])
    axes.set(xlabel=across, ylabel=up)
    axes.set_xlim(-0.5, len(sweep.axes[across]) - 0.5)
    axes.set_ylim(-0.5, len(sweep.axes[up]) - 0.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _over_seeds(sweep: Sweep, sign: str) -> str:
    counts = sorted({len(setting.finished) for setting in sweep.settings if setting.finished})
    if counts[-1] == 1:
        return "one seed"
    some = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"means over {some} seeds, {sign}standard deviation"


def _floor(setting: Setting) -> float:
    """PSNR of the mean training image."""
    return _mean(setting, PSNR) - _mean(setting, GAIN)


def _mean(setting: Setting, name: str) -> float:
    """NaN, which is not drawn, where the score is not defined."""
    mean = setting.mean(name)
    return math.nan if mean is None else mean
