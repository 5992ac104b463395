"""Letters drawn from the fonts that matplotlib ships: a data set that needs no download.

In the manner of notMNIST (Bulatov 2011): the letters A-J as ten balanced classes, white on black, each image
with its own face, weight, width, slant, rotation, size and position.
"""

import math
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from dae_lightning.data.splits import ImageSet, Splits
from dae_lightning.errors import DataError
from dae_lightning.randomness import generator

Array = NDArray[Any]

SIDE = 28  # pixels
FINE = 2  # letters are drawn this many times as large, then averaged: smooth edges
PADDING = 2  # black pixels around a glyph, which its edges are interpolated with

FACES = [  # a font file that matplotlib has had since 3.9, and which character of it is the A; B to J follow
    *((f"DejaVuSans{style}", "A") for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *((f"DejaVuSansMono{style}", "A") for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *((f"DejaVuSerif{style}", "A") for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *((f"STIXGeneral{style}", "A") for style in ("", "Bol", "Italic", "BolIta")),
    *((f"cm{style}10", "A") for style in ("b", "mi", "r", "ss", "sy", "tt")),
    ("STIXGeneral", "\N{MATHEMATICAL BOLD SCRIPT CAPITAL A}"),
    ("STIXGeneral", "\N{MATHEMATICAL BOLD FRAKTUR CAPITAL A}"),
    ("STIXGeneral", "\N{MATHEMATICAL SANS-SERIF CAPITAL A}"),
]
WEIGHTS = 3  # the outline grows by 0, 1 or 2 pixels of the large drawing

VARIED = {  # the bounds of each uniformly distributed property
    "face": (0, len(FACES)),
    "weight": (0, WEIGHTS),
    "stretch": (-0.3, 0.35),  # logarithm of the width relative to the face's own
    "slant": (-0.15, 0.15),  # tangent of the angle
    "turn": (-0.15, 0.15),  # radians
    "margin": (0, 5),  # pixels left free along the letter's longer side
    "right": (-2, 2),  # pixels off the centre, where there is room
    "down": (-2, 2),
}


@dataclass(frozen=True)
class Glyphs:
    """An `ImageSource` of grey images, `(N, 28, 28)`, with the labels 0-9 for A-J.

    Each split has its own random stream; its first images are the same however many follow.
    """

    train_size: int
    test_size: int
    seed: int

    def prepare(self) -> None:
        """Nothing to fetch: matplotlib ships the fonts."""

    def load(self) -> Splits:
        """Draw both splits.

        Raises:
            DataError: this matplotlib lacks one of the fonts.
        """
        train = draw(self.train_size, generator(self.seed, "glyphs", "train"))
        test = draw(self.test_size, generator(self.seed, "glyphs", "test"))
        return Splits(train, test)


def draw(size: int, random: torch.Generator) -> ImageSet:
    """`size` images; every ten in a row are the ten letters in random order."""
    uniform = torch.rand(math.ceil(size / 10), 10, 1 + len(VARIED), dtype=torch.float64, generator=random)
    labels = uniform[..., 0].argsort(dim=1).flatten()[:size]
    low, high = torch.tensor(list(VARIED.values()), dtype=torch.float64).unbind(1)
    varied = (low + (high - low) * uniform[..., 1:]).flatten(0, 1)[:size]
    face, weight, *how = varied.numpy().T
    letters = [glyph(*which) for which in zip(face.astype(int), labels.tolist(), weight.astype(int), strict=True)]
    maps = place(np.array([letter.size for letter in letters]).reshape(-1, 2), *how)
    large = (FINE * SIDE, FINE * SIDE)
    images = np.empty((size, SIDE, SIDE), np.uint8)
    for image, letter, coefficients in zip(images, letters, maps.tolist(), strict=True):
        drawn = letter.transform(large, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
        image[:] = np.asarray(drawn.reduce(FINE))
    return ImageSet(torch.from_numpy(images), labels)


def place(
    sizes: Array, stretch: Array, slant: Array, turn: Array, margin: Array, right: Array, down: Array
) -> NDArray[np.float64]:
    """(N, 6): the coefficients by which PIL maps points of the large drawings to the letters, of `sizes` (N, 2)."""
    cos, sin, wide = np.cos(turn), np.sin(turn), np.exp(stretch)
    shape = np.stack([cos * wide, -sin - cos * slant, sin * wide, cos - sin * slant], 1).reshape(-1, 2, 2)
    extent = np.einsum("nij,nj->ni", abs(shape), sizes - 2 * PADDING)  # width and height of the letters once shaped
    scale = (SIDE - margin) / extent.max(1)
    room = (SIDE - scale[:, None] * extent) / 2
    centre = SIDE / 2 + np.clip(np.stack([right, down], 1), -room, room)
    inverse = np.linalg.inv(FINE * scale[:, None, None] * shape)
    offset = sizes / 2 - np.einsum("nij,nj->ni", inverse, FINE * centre)
    return np.concatenate([inverse, offset[:, :, None]], 2).reshape(-1, 6)


@cache
def glyph(face: int, label: int, weight: int) -> Image.Image:
    """One letter of one face, white on black, with nothing around it but the padding."""
    name, first = FACES[face]
    file = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
    try:
        content = BytesIO(file.read_bytes())  # by its path PIL would look for a font of that name elsewhere too
        font = ImageFont.truetype(content, size=36 * FINE, layout_engine=ImageFont.Layout.BASIC)
    except OSError:
        raise DataError(f"{file}: no such font; reinstall matplotlib, or choose another data=") from None
    canvas = Image.new("L", (128 * FINE, 128 * FINE))
    character = chr(ord(first) + label)
    ImageDraw.Draw(canvas).text((64 * FINE, 64 * FINE), character, 255, font, "mm", stroke_width=weight)
    return ImageOps.expand(canvas.crop(canvas.getbbox()), PADDING)
