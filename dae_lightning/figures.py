"""Every picture that the project draws."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from dae_lightning.data.datamodule import as_float
from dae_lightning.files import replacing
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.randomness import generator

INK = "#333333"
TRAINING, DENOISING, RECONSTRUCTION = "#3b6fb6", "#d1672b", "#4a9a5b"
MODEL_COLOURS = (DENOISING, TRAINING, RECONSTRUCTION, "#8a4fa3", "#b03a48", "#2a9d9d", "#c9a227", "#d77fb0")
WIDE = 5  # largest over smallest value from which on an axis of numbers is logarithmic
LOSSES = {"bce": "binary cross-entropy", "mse": "mean squared error"}
GREY = "#777777"  # of every method but models, told apart by their markers


def loss_figure(rows: Sequence[Mapping[str, float]], loss: str = "bce") -> Figure:
    """Training and validation loss per epoch; `rows` are those of metrics.csv."""
    figure = Figure(figsize=(7, 4.8), layout="constrained")
    axes = figure.subplots()
    for key, label, colour in (
        ("train/loss", "training (noisy in, fresh noise)", TRAINING),
        (f"val/denoising/{loss}", "validation, denoising (noisy in)", DENOISING),
        (f"val/reconstruction/{loss}", "validation, reconstruction (clean in)", RECONSTRUCTION),
    ):
        points = [(row["epoch"], row[key]) for row in rows if key in row]
        if points:
            epochs, values = zip(*points, strict=True)
            axes.plot(epochs, values, label=label, color=colour, lw=1.8, marker="." if len(points) < 25 else None)
    axes.set(xlabel="epoch", ylabel=f"{LOSSES[loss]}, mean over pixels")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # of one epoch there is one tick
    style(axes)
    figure.legend(frameon=False, loc="outside lower center")  # within the axes it might cover a point
    return figure


def probe_figure(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str], level: str) -> Figure:
    """Test accuracy over the noise, of classifiers of pixels and of codes; `rows` are those of probe.csv.

    `titles` are the models' by checkpoint; what is no model's is grey. Clean images have no level: their accuracy
    is dotted across.
    """
    figure = Figure(figsize=(10.5, 5.4), dpi=120, layout="constrained")
    colours = dict(zip(titles, MODEL_COLOURS, strict=False))
    left, right = figure.subplots(1, 2, sharey=True)
    lines: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["features"], row["size"], row["checkpoint"], row["input"]), []).append(row)
    others = iter("sx^vD+<>")  # markers of what is no model's
    for (features, size, place, kind), points in lines.items():
        axes = left if features == "pixels" else right
        colour = colours.get(place, INK) if place else GREY
        percent = [100 * row["accuracy"] for row in points]
        if kind == "clean":
            axes.axhline(percent[0], color=colour, lw=1.2, ls=":")
            continue
        label = titles[place] if place else kind if features == "pixels" else f"PCA codes, {size}"
        if kind == "denoised":
            label = f"denoised, {label}"
        else:
            clean = lines[features, size, place, "clean"][0]["accuracy"]
            label = f"{label} (dotted: clean, {100 * clean:.1f} %)"
        margins = [100 * row["accuracy_ci95"] for row in points]
        marker = "o" if place else next(others)
        levels = [row["sigma"] for row in points]
        axes.errorbar(levels, percent, margins, label=label, color=colour, marker=marker, ms=5, lw=1.8)
    trained = "trained on clean images, on noisy ones"
    for axes, title in ((left, f"classifier of pixels, {trained}"), (right, f"classifier of codes, {trained}")):
        style(axes)
        _level_axis(axes, [row["sigma"] for row in rows if row["sigma"] is not None], level)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(0, 100)
        axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    left.set_ylabel("test accuracy, %")
    return figure


@dataclass(frozen=True)
class Examples:
    """Clean images (N, *input_shape) in [0, 1] and their indices (N,) in their split."""

    clean: Tensor
    indices: Tensor

    @classmethod
    def choose(cls, images: Tensor, count: int, seed: int) -> "Examples":
        """`count` of the uint8 `images` by seed, or all where there are fewer."""
        indices = torch.randperm(len(images), generator=generator(seed, "examples"))[:count]
        return cls(as_float(images[indices]), indices)

    @torch.no_grad()
    def figure(self, model: DenoisingAutoencoder, title: str) -> Figure:
        """Columns: the images; rows: original, noisy, denoised, reconstruction of the clean one."""
        training = model.training
        model.eval()
        clean = self.clean.to(model.device)
        noisy, sigma = model.corrupt_fixed(clean, self.indices), model.fixed_sigma(clean, self.indices)
        rows = {
            "original": clean,
            "noisy": noisy,
            "denoised": model.network(noisy, *sigma),
            "reconstruction\nof the original": model.network(clean, *(0 * each for each in sigma)),
        }
        model.train(training)
        return examples_figure(rows, f"{title}; {model.noise.title()}")


def examples_figure(rows: Mapping[str, Tensor], title: str, zoom: float | None = None) -> Figure:
    """The same images in every row, a column each: `rows` maps a label to images (N, H, W) or (N, 3, H, W).

    Grey from 0 to 1 whatever the values are, so that rows compare; what lies outside (noise does) is clipped. A pixel
    is `zoom` of the picture's wide; by default images of any size take the same space.
    """
    wall = montage(list(rows.values()))
    tile_height, tile_width = wall.shape[0] / len(rows), wall.shape[1] / len(next(iter(rows.values())))
    scale = (zoom or 108 / tile_width) / 120  # inches per pixel
    figure = Figure(figsize=(scale * wall.shape[1], scale * wall.shape[0]), dpi=120)
    axes = figure.add_axes((0, 0, 1, 1))  # labels and title lie outside: they take the space that they need
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
        print_png(figure, file)


def print_png(figure: Figure, file: IO[bytes]) -> None:
    """Write a picture that is as large as what is drawn, so that no label is cut."""
    figure.savefig(file, format="png", bbox_inches="tight")


@dataclass(frozen=True)
class Curve:
    """A method's PSNR over the noise; for a model, also the level of its training, or the ends of its range."""

    points: Sequence[tuple[float, float]]  # level, dB
    trained: tuple[float, ...] = ()
    in_frame: bool = True


def curve_figure(curves: Mapping[str, Curve], level: str) -> Figure:
    """PSNR over the noise, by label; `level` is what the noise's level is called.

    An upright line, or a bar at the foot, marks where a model was trained. Curves that need not be `in_frame` may leave
    it where they fall far below the others, so that these can be told apart; a note names those of which nothing is
    left in it.
    """
    figure = Figure(figsize=(6.4, 4.4), dpi=120)  # the legend lies outside and takes the space that it needs
    axes = figure.subplots()
    colours, markers = iter(MODEL_COLOURS), iter("x+.s^DvP<>")
    outside = []
    framed = [dB for curve in curves.values() if curve.in_frame for _, dB in curve.points]
    framed = [dB for dB in framed if math.isfinite(dB)] or [0.0]
    bottom, top = min(framed) - 0.5, max(framed) + 1
    one_model = sum(bool(curve.trained) for curve in curves.values()) == 1
    for label, curve in curves.items():
        levels, values = zip(*sorted(curve.points), strict=True)
        if curve.trained:
            colour = next(colours, INK)
            low, high = curve.trained[0], curve.trained[-1]
            if one_model:
                label = f"{label}, trained at {' to '.join(f'{end:g}' for end in curve.trained)}"
            axes.plot(levels, values, label=label, color=colour, lw=2.4, marker="o", ms=6, zorder=3)
            if low == high:
                axes.axvline(low, color=colour, alpha=0.6, lw=1.2, zorder=0)
            else:
                axes.plot((low, high), (bottom, bottom), color=colour, alpha=0.6, lw=8, zorder=0)
        elif any(bottom <= dB <= top for dB in values):
            axes.plot(levels, values, label=label, color=GREY, lw=1.2, marker=next(markers, "."), ms=6)
        else:
            ends = dict.fromkeys(f"{dB:.0f}" for dB in (min(values), max(values)))  # one where they are equal
            outside.append(f"{label} ({' to '.join(ends)} dB)")
    axes.set_ylim(bottom, top)
    _level_axis(axes, [level for curve in curves.values() for level, _ in curve.points], level)
    axes.set_ylabel("PSNR in dB, mean over images")
    if outside:
        axes.set_xlabel(f"{axes.get_xlabel()}\nout of the frame: {', '.join(outside)}")
    style(axes)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    return figure


def _level_axis(axes: Axes, levels: Iterable[float], name: str) -> None:
    """Ticks where something was measured, on a logarithmic scale where that can be had."""
    ticks = sorted(set(levels))
    if name == "sigma" and ticks[0] > 0:
        axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(f"{name} of the noise on the test images")


def style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", lw=0.7)
