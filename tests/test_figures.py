"""Figures: every label is whole, no legend covers a point, and a legend names what is drawn and nothing else."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from dae_lightning.figures import Curve, Examples, curve_figure, examples_figure, loss_figure, save_figure
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.model.noise import GaussianRange
from dae_lightning.sweeps.figures import curves_figure, heatmap_figure
from dae_lightning.sweeps.sweep import read_sweep
from tests.test_sweeps import write_job

LONG = "model (sigma 0.5 to 6), outputs/multirun/2026-01-31/latent=256,noise=gaussian_range"
LEVELS = (0.5, 1.0, 2.0, 4.0, 6.0)


def losses(epochs: int) -> Figure:
    keys = ("train/loss", "val/denoising/bce", "val/reconstruction/bce")
    return loss_figure([{"epoch": epoch, **dict.fromkeys(keys, 0.4 / epoch)} for epoch in range(1, epochs + 1)])


def curves() -> Figure:
    def falling(at_1: float, slope: float) -> list[tuple[float, float]]:
        return [(level, at_1 - slope * math.log2(level)) for level in LEVELS]

    return curve_figure(
        {
            LONG: Curve(falling(15, 1.2), (0.5, 6.0)),
            "mean image": Curve([(level, 10.97) for level in LEVELS]),
            "noisy clipped": Curve(falling(12, 6), in_frame=False),  # partly within the frame
            "noisy": Curve(falling(0, 6), in_frame=False),
            "zero": Curve([(level, -3.0) for level in LEVELS], in_frame=False),
            "clean": Curve([(level, math.inf) for level in LEVELS], in_frame=False),
        },
        "sigma",
    )


def gallery(images: int) -> Figure:
    names = ("original", "total variation", "posterior mean", LONG)
    return examples_figure({name: torch.rand(images, 28, 28) for name in names}, "the same test images, sigma 2")


def examples(images: int) -> Figure:
    model = DenoisingAutoencoder((12, 12), 4, GaussianRange(0.25, 0.5, 6.0))
    return Examples(torch.rand(images, 12, 12), torch.arange(images)).figure(model, "test images, never seen")


def drawn_of_a_sweep(folder: Path) -> list[Figure]:
    for place in range(4):
        root = "data.root=" + "a_long_name_" * 4 + str(place)
        write_job(folder / "one", root)
        write_job(folder / "two", root, f"latent={place % 2}")
    return [curves_figure(read_sweep(folder / "one")), heatmap_figure(read_sweep(folder / "two"))]


@pytest.mark.parametrize(
    "figure",
    [losses, gallery, examples],
    ids=lambda figure: figure.__name__,
)
@pytest.mark.parametrize("count", [1, 10])
def test_no_label_is_cut_however_small_the_rest_of_the_picture_is(
    tmp_path: Path, figure: Callable[[int], Figure], count: int
) -> None:
    assert_within(figure(count), tmp_path)


def test_no_label_is_cut_however_long(tmp_path: Path) -> None:
    for figure in (curves(), *drawn_of_a_sweep(tmp_path / "sweep")):
        assert_within(figure, tmp_path)


def assert_within(figure: Figure, folder: Path) -> None:
    """The outermost pixels are white: nothing reaches them."""
    save_figure(figure, folder / "figure.png")
    picture = np.asarray(Image.open(folder / "figure.png").convert("L"))
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()


def test_a_long_name_in_the_legend_takes_nothing_from_the_curves(tmp_path: Path) -> None:
    figure = curves()
    save_figure(figure, tmp_path / "figure.png")
    assert figure.axes[0].get_window_extent().width > 4 * figure.dpi


def test_the_legend_of_the_losses_lies_outside_the_axes(tmp_path: Path) -> None:
    figure = losses(2)
    save_figure(figure, tmp_path / "figure.png")
    (legend,) = figure.legends
    assert figure.axes[0].get_legend() is None
    assert legend.get_window_extent().y1 < figure.axes[0].get_window_extent().y0


def test_one_epoch_has_one_tick() -> None:
    axes = losses(1).axes[0]
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_a_curve_out_of_the_frame_is_in_the_note_and_not_in_the_legend() -> None:
    axes = curves().axes[0]
    legend = axes.get_legend()
    assert legend is not None
    named = [text.get_text() for text in legend.get_texts()]
    assert named == [f"{LONG}, trained at 0.5 to 6", "mean image", "noisy clipped"]
    assert axes.get_xlabel().splitlines()[1] == ("out of the frame: noisy (-16 to 6 dB), zero (-3 dB), clean (inf dB)")
