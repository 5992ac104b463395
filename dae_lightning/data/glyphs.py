"""Letters drawn from the fonts that matplotlib ships: images where nothing can be downloaded.

After notMNIST (Bulatov 2011): the letters A-J as ten balanced classes, white on black, each image of another
face, weight, width, slant, turn, size and place.
"""

import math
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.path import Path as Curves
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D, Bbox
from numpy.typing import NDArray
from torch import Tensor

from dae_lightning.data.splits import ImageSet, Splits
from dae_lightning.errors import DataError
from dae_lightning.randomness import generator

LETTERS = tuple("ABCDEFGHIJ")
SIDE = 28  # pixels
TILES = 32  # letters along each side of a canvas: 1,024 are drawn, then cut apart, at a time
BLACK, WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

VARIED = {  # what differs from image to image, evenly between two bounds; in the order `place` takes them
    "face": (0, 1),  # of all the faces that have the letter
    "stem": (0.1, 0.32),  # mean width of the strokes, as a part of the letter's longer side
    "stretch": (-0.3, 0.35),  # logarithm of the width, as a multiple of the face's own
    "slant": (-0.15, 0.15),  # radians
    "turn": (-0.15, 0.15),  # radians
    "margin": (0, 5),  # pixels left free along the letter's longer side
    "right": (-2, 2),  # pixels off the centre, where there is room
    "up": (-2, 2),
}


@dataclass(frozen=True)
class Glyphs:
    """An `ImageSource` of grey images, `(N, 28, 28)`, with the labels 0-9 for A-J.

    The first images of a split are the same however many follow; each split has a random stream of its own.
    """

    train_size: int
    test_size: int
    seed: int

    def prepare(self) -> None:
        """Nothing to fetch: the fonts come with matplotlib."""

    def load(self) -> Splits:
        """Draw both splits, in about 0.1 ms an image.

        Raises:
            DataError: this matplotlib ships no font that has one of the letters.
        """
        train = draw(self.train_size, generator(self.seed, "glyphs", "train"))
        test = draw(self.test_size, generator(self.seed, "glyphs", "test"))
        return Splits(train, test)


class Face(NamedTuple):
    """One letter as one font has it."""

    curves: Curves
    points: NDArray[np.float64]  # (P, 2), along the curves
    stem: float  # mean width of the strokes


def draw(size: int, random: torch.Generator) -> ImageSet:
    """`size` images: every ten in a row are the ten letters in another order."""
    low, high = torch.tensor(list(VARIED.values()), dtype=torch.float64).unbind(1)
    even = torch.rand(math.ceil(size / 10), 10, 1 + len(VARIED), dtype=torch.float64, generator=random)
    labels = even[..., 0].argsort(dim=1).flatten()[:size]
    varied = (low + (high - low) * even[..., 1:]).flatten(0, 1)[:size]
    images = torch.empty(size, SIDE, SIDE, dtype=torch.uint8)
    for start in range(0, size, TILES**2):
        part = slice(start, start + TILES**2)
        images[part] = draw_canvas(labels[part], varied[part])
    return ImageSet(images, labels)


def draw_canvas(labels: Tensor, varied: Tensor) -> Tensor:
    """`(n,)` labels and `(n, 8)` of what varies to `(n, 28, 28)`, n <= 1024: tiles of one picture."""
    side = TILES * SIDE
    agg: Any = RendererAgg(side, side, dpi=72)  # 72 dpi: a point is a pixel
    pen = agg.new_gc()
    pen.set_snap(False)  # or upright letters would be pulled to whole pixels
    pen.set_joinstyle("round")  # mitred corners would reach out of the frame
    agg.draw_path(pen, Curves.unit_rectangle(), Affine2D().scale(side), BLACK)
    for tile, (label, (face, *how)) in enumerate(zip(labels.tolist(), varied.tolist(), strict=True)):
        choice = faces()[LETTERS[label]]
        letter = choice[int(face * len(choice))]
        where, stroke = place(letter, how)
        row, column = divmod(tile, TILES)
        x, y = column * SIDE, (TILES - 1 - row) * SIDE  # Agg counts rows from below
        where.translate(x, y)
        pen.set_clip_rectangle(Bbox.from_bounds(x, y, SIDE, SIDE))  # no faint edge enters a neighbour's tile
        pen.set_linewidth(abs(stroke))
        pen.set_foreground(WHITE if stroke > 0 else BLACK)
        agg.draw_path(pen, letter.curves, where, WHITE)
    grey = torch.from_numpy(np.array(agg.buffer_rgba())[..., 0])
    return grey.view(TILES, SIDE, TILES, SIDE).transpose(1, 2).reshape(-1, SIDE, SIDE)[: len(labels)]


def place(letter: Face, how: list[float]) -> tuple[Affine2D, float]:
    """The map of a letter into its frame, and the stroke in pixels that swells (> 0) or thins (< 0) it."""
    stem, stretch, slant, turn, margin, right, up = how
    shape = Affine2D().scale(math.exp(stretch), 1).skew(slant, 0).rotate(turn)
    points = shape.transform(letter.points)
    low, high = points.min(axis=0), points.max(axis=0)
    side = (high - low).max()
    # Beyond these bounds fine strokes break and counters close.
    swell = np.clip(stem * side, 0.75 * letter.stem, 1.6 * letter.stem) - letter.stem
    scale = (SIDE - margin) / (side + swell)
    room = (SIDE - scale * (high - low + swell)) / 2
    centre = SIDE / 2 + np.clip((right, up), -room, room)
    return shape.translate(*-(low + high) / 2).scale(scale).translate(*centre), scale * swell


@cache
def faces() -> dict[str, list[Face]]:
    """Each letter in all the fonts that matplotlib ships; what fonts have in common comes once."""
    found: dict[str, dict[bytes, Face]] = {letter: {} for letter in LETTERS}
    for file in sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("*.ttf")):
        font = FT2Font(str(file))
        if font.get_glyph_name(font.get_char_index(ord("A"))) != "A":
            continue  # a font of symbols or of placeholders, whatever its character map says
        for code in sorted(font.get_charmap()):
            if (letter := capital(chr(code))) in found:
                curves = TextPath((0, 0), chr(code), size=100, prop=FontProperties(fname=file))
                found[letter].setdefault(curves.vertices.tobytes(), measure(curves))
    if missing := [letter for letter in LETTERS if not found[letter]]:
        version, letters = matplotlib.__version__, ", ".join(missing)
        raise DataError(f"no font that matplotlib {version} ships has {letters}; install another version")
    return {letter: list(distinct.values()) for letter, distinct in found.items()}


def capital(character: str) -> str:
    """The letter of which a character is a form: upright, bold, script, fraktur, ... or a small capital."""
    if unicodedata.category(character) == "Lu":
        return unicodedata.normalize("NFKC", character)
    return unicodedata.name(character, "").removeprefix("LATIN LETTER SMALL CAPITAL ")


def measure(curves: Curves) -> Face:
    """A stroke of width w and length l has the area w l and an outline of 2 l, which gives the mean w."""
    loops = curves.to_polygons()
    area = length = 0.0
    for loop in loops:
        corners = loop @ np.array([1, 1j])
        edges = np.diff(corners)
        area += (corners[:-1].conj() * edges).imag.sum() / 2  # negative for holes: they run the other way
        length += abs(edges).sum()
    return Face(curves, np.concatenate(loops), 2 * abs(area) / length)
