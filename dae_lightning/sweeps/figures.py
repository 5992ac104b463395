"""A sweep as pictures: heatmap.png where two or three keys vary, curves.png where one does."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dae_lightning.figures import DENOISING, GREY, INK, RECONSTRUCTION, WIDE, save_figure, style
from dae_lightning.sweeps.jobs import number
from dae_lightning.sweeps.sweep import GAIN, PSNR, Setting, Sweep, counted, numeric

TITLES = {PSNR: "denoising: PSNR in dB", GAIN: "gain over the mean image in dB"}
LONG = 24  # characters of a value; two such fit an axis of curves.png side by side


def draw(sweep: Sweep) -> None:
    """Write the picture that suits the sweep, and remove the one of an earlier summary that no longer does."""
    for name, figure, keys in (("curves.png", curves_figure, (1,)), ("heatmap.png", heatmap_figure, (2, 3))):
        if len(sweep.axes) in keys:
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
    split = min(names, key=lambda name: (numeric(sweep.axes[name]), len(sweep.axes[name]))) if len(names) == 3 else ""
    across, up = (name for name in names if name != split)
    parts = sweep.axes.get(split, [""])
    cells = {frozenset(zip(names, setting.values, strict=True)): setting for setting in sweep.settings}

    columns, rows = (len(parts), 2) if split else (2, 1)
    cell = max(0.78, 0.09 * max(map(len, sweep.axes[across])))  # inches
    width, height = 0.8 + cell * len(sweep.axes[across]), 0.8 + 0.6 * len(sweep.axes[up])
    figure = Figure(figsize=(0.8 + columns * width, 0.8 + rows * height), dpi=120, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for place, (name, title) in enumerate(TITLES.items()):
        panels = list(grid[place]) if split else [grid[0][place]]
        means = [mean for setting in sweep.settings if (mean := setting.mean(name)) is not None]
        shades = ScalarMappable(Normalize(min(means, default=0.0), max(means, default=1.0)), "viridis")
        for axes, part in zip(panels, parts, strict=True):
            for x, at_x in enumerate(sweep.axes[across]):
                for y, at_y in enumerate(sweep.axes[up]):
                    key = {(across, at_x), (up, at_y)} | ({(split, part)} if split else set())
                    _cell(axes, x, y, cells.get(frozenset(key)), name, shades)
            axes.set_xticks(range(len(sweep.axes[across])), [value or "-" for value in sweep.axes[across]])
            axes.set_yticks(range(len(sweep.axes[up])), [value or "-" for value in sweep.axes[up]])
            axes.set(xlabel=across, ylabel=up, xlim=(-0.5, len(sweep.axes[across]) - 0.5))
            axes.set_ylim(-0.5, len(sweep.axes[up]) - 0.5)
            axes.set_title(f"{split}={part}" if split else title, fontsize=10, color=INK)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            axes.label_outer()
        bar = figure.colorbar(shades, ax=panels, shrink=0.9, aspect=25, pad=0.02)
        bar.outline.set_visible(False)
        if split:
            bar.set_label(title, fontsize=9, color=INK)
    figure.suptitle(f"denoising of test images, {_over_seeds(sweep, '± ')}", fontsize=10, color=INK)
    return figure


def curves_figure(sweep: Sweep) -> Figure:
    """PSNR and BCE over the one key that varies, means over seeds, with bars of one standard deviation."""
    ((key, values),) = sweep.axes.items()
    shown = [setting for setting in sweep.settings if setting.finished]
    ticks = [setting.values[0] for setting in shown]
    numbers = numeric(values)
    places = [number(tick) or 0.0 for tick in ticks] if numbers else list(range(len(ticks)))
    figure = Figure(figsize=(10, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    floor = [_mean(setting, PSNR) - _mean(setting, GAIN) for setting in shown]
    left.plot(places, floor, color=GREY, lw=1.2, ls="--", marker="_", label="mean training image")
    for axes, metric, unit in ((left, "psnr", "PSNR in dB"), (right, "bce", "BCE")):
        for task, colour in (("denoising (noisy in)", DENOISING), ("reconstruction (clean in)", RECONSTRUCTION)):
            name = f"test/{task.split()[0]}/{metric}"
            means = [_mean(setting, name) for setting in shown]
            bars = [setting.deviation(name) or 0.0 for setting in shown]
            line = {"lw": 1.8} if numbers else {"ls": "none"}
            axes.errorbar(places, means, bars, color=colour, marker="o", ms=5, capsize=3, label=task, **line)
        if numbers:
            if min(places) > 0 and max(places) >= WIDE * min(places):
                axes.set_xscale("log")
            axes.set_xticks(places, ticks)
        else:
            axes.set_xlim(-0.5, len(ticks) - 0.5)
            short = [tick if len(tick) <= LONG else f"…{tick[1 - LONG :]}" for tick in ticks]  # paths differ at the end
            crowded = sum(len(tick) + 1 for tick in short) > 2 * LONG
            axes.set_xticks(places, short, **({"rotation": 45, "ha": "right"} if crowded else {}))
        axes.minorticks_off()
        axes.set(xlabel=key, ylabel=f"{unit}, mean over test images")
        style(axes)
    figure.legend(*left.get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower center", ncols=3)
    figure.suptitle(f"test images, {_over_seeds(sweep, 'bars: ')}", fontsize=10, color=INK)
    if numbers:
        _thin_out(figure)
    return figure


def _thin_out(figure: Figure) -> None:
    """Leave out the labels of ticks that would overlap the one before; the ticks stay."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        end = -math.inf
        for label in axes.get_xticklabels():
            box = label.get_window_extent()
            if box.x0 < end:
                label.set_visible(False)
            else:
                end = box.x1 + box.height / 3


def _cell(axes: Axes, x: int, y: int, setting: Setting | None, name: str, shades: ScalarMappable) -> None:
    """A coloured cell with its value and deviation, or a hatched one that says why there is none."""
    mean = setting.mean(name) if setting else None
    corner = (x - 0.5, y - 0.5)
    if setting is None or mean is None:
        axes.add_patch(Rectangle(corner, 1, 1, facecolor="#f4f4f4", edgecolor="#cccccc", hatch="////", lw=0))
        why = next(iter(counted(setting.jobs))) if setting else "not run"
        axes.text(x, y, why, ha="center", va="center", fontsize=7, color=INK, bbox={"fc": "white", "lw": 0, "pad": 1.5})
        return
    colour = shades.to_rgba(np.array(mean))
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", lw=1.5))
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 0.5
    deviation = setting.deviation(name)
    sign = "+" if name == GAIN else ""
    text: dict[str, Any] = {"ha": "center", "va": "center", "color": "black" if bright else "white"}
    axes.text(x, y + (0.1 if deviation is not None else 0), f"{mean:{sign}.2f}", fontsize=9, **text)
    if deviation is not None:
        axes.text(x, y - 0.22, f"±{deviation:.2f}", fontsize=6.5, **text)


def _over_seeds(sweep: Sweep, sign: str) -> str:
    counts = sorted({len(setting.finished) for setting in sweep.settings if setting.finished})
    if counts[-1] == 1:
        return "one seed"
    some = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    return f"means over {some} seeds, {sign}standard deviation"


def _mean(setting: Setting, name: str) -> float:
    """NaN, which is not drawn, where the score is not defined."""
    mean = setting.mean(name)
    return math.nan if mean is None else mean
