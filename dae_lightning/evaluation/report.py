"""What an evaluation says: rows, as a table for people, evaluation.csv and evaluation.json for programs.

A row's `sigma` is the noise's level: of masking and salt-and-pepper noise the probability; of reconstruction, without
noise, nothing. Numbers are rounded to six decimals, below which they are a machine's own. A PSNR without error is
infinite and an SSIM of images under 11 pixels undefined: null in JSON, empty in CSV.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dae_lightning.files import replace_text

SCORES = ("psnr", "psnr_ci95", "ssim", "bce", "bce_excess")


@dataclass(frozen=True)
class Row:
    """The scores of one method on one task at one level of the noise, means over `images` test images."""

    method: str
    checkpoint: str  # as the user named it; "" for a method without one
    task: str
    sigma: float | None
    images: int
    psnr: float
    psnr_ci95: float
    ssim: float
    bce: float
    bce_excess: float

    def rounded(self) -> dict[str, Any]:
        return asdict(self) | {name: round(getattr(self, name), 6) for name in SCORES}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per row, under the names of its entries."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows(["" if _is_no_number(value) else value for value in row.values()] for row in rows)
    replace_text(path, text.getvalue())


def table(rows: Sequence[Row], names: Mapping[tuple[str, str], str], level: str) -> str:
    """PSNR and BCE, a line per method and a column per level; then the reconstruction.

    `names` are what the methods are called, by (method, checkpoint); `level` is what a level is called.
    """
    denoising = [row for row in rows if row.task == "denoising"]
    levels = list(dict.fromkeys(row.sigma for row in denoising))
    width = max(map(len, names.values())) + 2
    lines = []
    for score, title in (("psnr", "PSNR in dB"), ("bce", "BCE")):
        best = "highest" if score == "psnr" else f"lowest possible {rows[0].bce - rows[0].bce_excess:.4f}"
        lines += ["", f"denoising (noisy in), {rows[0].images:,} test images: {title} ({best} is best)"]
        lines.append(f"{level:>{width}}" + "".join(f"{value:10g}" for value in levels))
        for key, name in names.items():
            cells = {row.sigma: getattr(row, score) for row in denoising if (row.method, row.checkpoint) == key}
            digits = 2 if score == "psnr" else 4
            if cells:
                lines.append(f"{name:{width}}" + "".join(f"{cells[value]:10.{digits}f}" for value in levels))
    lines += ["", "reconstruction (clean in)", " " * width + f"{'PSNR':>10}{'BCE':>10}{'SSIM':>10}"]
    for row in rows:
        if row.task == "reconstruction":
            name = names[row.method, row.checkpoint]
            lines.append(f"{name:{width}}{row.psnr:10.2f}{row.bce:10.4f}{row.ssim:10.3f}")
    return "\n".join(lines[1:])


def _is_no_number(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))
