"""Every picture that the project draws."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from torch import Tensor

from dae_lightning.files import replacing

INK = "#333333"
TRAINING, DENOISING, RECONSTRUCTION = "#3b6fb6", "#d1672b", "#4a9a5b"
MODELS = (DENOISING, TRAINING, RECONSTRUCTION, "#8a4fa3", "#b03a48")
OTHERS = "x+.s^DvP<>"  # markers, all in grey: no method but a model has a colour


def loss_figure(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Training and validation BCE per epoch; `rows` are those of metrics.csv."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for key, label, colour in (
        ("train/loss", "training (noisy in, noise drawn anew)", TRAINING),
        ("val/denoising/bce", "validation, denoising (noisy in)", DENOISING),
        ("val/reconstruction/bce", "validation, reconstruction (clean in)", RECONSTRUCTION),
    ):
        points = [(row["epoch"], row[key]) for row in rows if key in row]
        if points:
            epochs, values = zip(*points, strict=True)
            axes.plot(epochs, values, label=label, color=colour, lw=1.8, marker="." if len(points) < 25 else None)
    axes.set(xlabel="epoch", ylabel="binary cross-entropy, mean over pixels")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", lw=0.7)
    axes.legend(frameon=False)
    return figure


def probe_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Test accuracy over sigma, one line per features and input; `rows` are those of probe.csv.

    Clean images have no sigma: their accuracy is dotted across.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    colours = {"pixels": TRAINING, "latent": DENOISING, "pca": RECONSTRUCTION}
    styles = {"noisy": ("-", "o"), "denoised": ("--", "s")}
    for features, kind in dict.fromkeys((row["features"], row["input"]) for row in rows):
        chosen = [row for row in rows if (row["features"], row["input"]) == (features, kind)]
        percent = [100 * row["accuracy"] for row in chosen]
        label = f"{'codes' if features == 'latent' else 'PCA codes' if features == 'pca' else 'pixels'}, {kind}"
        if kind == "clean":
            axes.axhline(percent[0], color=colours[features], lw=1.2, ls=":", label=label)
            continue
        line, marker = styles[kind]
        sigmas = [row["sigma"] for row in chosen]
        margins = [100 * row["accuracy_ci95"] for row in chosen]
        axes.errorbar(
            sigmas,
            percent,
            margins,
            label=label,
            color=colours[features],
            ls=line,
            marker=marker,
            ms=4,
            lw=1.8,
        )
    ticks = sorted({row["sigma"] for row in rows if row["sigma"] is not None})
    if ticks and ticks[0] > 0:
        axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{sigma:g}" for sigma in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="sigma of the noise on the test images", ylabel="test accuracy, %")
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", lw=0.7)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), title="trained on clean, tested on")
    return figure


def examples_figure(rows: Mapping[str, Tensor], title: str) -> Figure:
    """The same images in every row, a column each: `rows` maps a label to images (N, H, W) or (N, 3, H, W).

    Grey from 0 to 1 whatever the values are, so that rows compare; what lies outside (noise does) is clipped.
    """
    wall = montage(list(rows.values()))
    tile_height, tile_width = wall.shape[0] / len(rows), wall.shape[1] / len(next(iter(rows.values())))
    scale = 0.9 / tile_width  # inches per pixel
    figure = Figure(figsize=(1.4 + scale * wall.shape[1], 0.5 + scale * wall.shape[0]), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.imshow(wall.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=11, color=INK)
    axes.set_yticks([(row + 0.5) * tile_height for row in range(len(rows))], list(rows), color=INK)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def montage(rows: Sequence[Tensor]) -> Tensor:
    """Rows of images (N, H, W) or (N, 3, H, W) as one picture (H', W') or (H', W', 3) in [0, 1], white between."""
    gap = max(1, rows[0].shape[-1] // 14)
    tiles = torch.stack([row.detach().float().clamp(0, 1).cpu() for row in rows])  # (R, N, [3,] H, W)
    tiles = torch.nn.functional.pad(tiles, (0, gap, 0, gap), value=1.0)
    if tiles.dim() == 4:
        return tiles.permute(0, 2, 1, 3).flatten(2, 3).flatten(0, 1)[:-gap, :-gap]
    return tiles.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)[:-gap, :-gap]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as file:
        FigureCanvasAgg(figure).print_png(file)


def curve_figure(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    trained: Mapping[str, Sequence[float]],
    level: str,
) -> Figure:
    """PSNR over the noise: `curves` are points (level, dB) by label; `level` is what the noise's level is called.

    `trained` has, for the labels that are models, the level of their training or the ends of its range. A line that
    falls far below the mean image (noisy images do) leaves the frame, so that the others can be told apart.
    """
    figure = Figure(figsize=(8.4, 4.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    colours = dict(zip(trained, MODELS, strict=False))
    markers = iter(OTHERS)
    near = [dB for label, points in curves.items() if not label.startswith("noisy") for _, dB in points]
    near = [dB for dB in near if math.isfinite(dB)] or [0.0]
    bottom, top = min(near) - 1, max(near) + 1
    for label, points in curves.items():
        levels, values = zip(*sorted(points), strict=True)
        if label in trained:
            colour = colours.get(label, INK)
            axes.plot(levels, values, label=label, color=colour, lw=2.4, marker="o", ms=6, zorder=3)
            low, high = min(trained[label]), max(trained[label])
            name = f"trained at {low:g}" if low == high else f"trained at {low:g} to {high:g}"
            axes.axvspan(low, high, label=name, color=colour, alpha=0.5 if low == high else 0.12, lw=1.2, zorder=0)
        else:
            if max(values) < bottom:
                label = f"{label} (below: {max(values):.0f} to {min(values):.0f} dB)"
            axes.plot(levels, values, label=label, color="#777777", lw=1.2, marker=next(markers, "."), ms=6)
    axes.set_ylim(bottom, top)
    ticks = sorted({x for points in curves.values() for x, _ in points})
    if level == "sigma" and ticks[0] > 0:
        axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel=f"{level} of the noise on the test images", ylabel="PSNR in dB, mean over images")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", lw=0.7)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    return figure
