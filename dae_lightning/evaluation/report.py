"""What runs and evaluations report: tables for people, CSV and JSON for programs.

A PSNR without error is infinite, and an SSIM of images under 11 pixels is undefined: null in JSON, empty in CSV.
"""

import csv
import io
import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dae_lightning.files import replace_text

Scores = dict[str, dict[str, float]]  # task (reconstruction, then denoising) -> metric -> value
PACKAGES = ("dae_lightning", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "matplotlib")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per row, under the names of the entries of any row."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_finite(row) for row in rows)
    replace_text(path, text.getvalue())


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """`facts`, of plain values."""
    replace_text(path, json.dumps(_finite(facts), indent=2, allow_nan=False) + "\n")


def versions() -> dict[str, str]:
    """Python and the packages that the numbers depend on."""
    return {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}


def run_table(rows: Mapping[str, Scores]) -> str:
    """The test scores of a run, a line per estimator."""
    lines = [
        f"{'':22}{'reconstruction (clean in)':^34}  {'denoising (noisy in)':^34}",
        f"{'test images':22}" + "  ".join([f"{'BCE':>8}{'excess':>9}{'PSNR':>9}{'SSIM':>8}"] * 2),
    ]
    for name, scores in rows.items():
        cells = [f"{s['bce']:8.4f}{s['bce_excess']:9.4f}{s['psnr']:9.2f}{s['ssim']:8.3f}" for s in scores.values()]
        lines.append(f"{name.replace('_', ' '):22}" + "  ".join(cells))
    return "\n".join(lines)


def evaluation_table(methods: Mapping[str, Sequence[Mapping[str, Any]]], level: str) -> str:
    """PSNR and BCE, a line per method and a column per level; then the reconstruction.

    `methods` are rows of evaluation.csv by what the method is called (none where it was left out); `level` is what a
    level is called.
    """
    denoising = {name: [row for row in rows if row["task"] == "denoising"] for name, rows in methods.items()}
    first, width = next(iter(denoising.values())), max(map(len, methods)) + 2
    lines = []
    for score, title, best, digits in (
        ("psnr", "PSNR in dB", "highest", 2),
        ("bce", "BCE", f"lowest possible {first[0]['bce'] - first[0]['bce_excess']:.4f}", 4),
    ):
        lines.append(f"denoising (noisy in), {first[0]['images']:,} test images: {title} ({best} is best)")
        lines.append(f"{level:>{width}}" + "".join(f"{row['sigma']:10g}" for row in first))
        for name, rows in denoising.items():
            if rows:
                lines.append(f"{name:{width}}" + "".join(f"{row[score]:10.{digits}f}" for row in rows))
        lines.append("")
    lines += ["reconstruction (clean in)", " " * width + f"{'PSNR':>10}{'BCE':>10}{'SSIM':>10}"]
    for name, scores in methods.items():
        for row in scores:
            if row["task"] == "reconstruction":
                lines.append(f"{name:{width}}{row['psnr']:10.2f}{row['bce']:10.4f}{row['ssim']:10.3f}")
    return "\n".join(lines)


def photographs_table(means: Sequence[Mapping[str, Any]], titles: Mapping[tuple[str, str], str], images: int) -> str:
    """PSNR and SSIM, a line per method and a column per sigma; `means` are the rows of evaluation.csv of that name.

    `titles` are the methods' by their name and checkpoint.
    """
    width, lines = max(map(len, titles.values())) + 2, []
    for clip in sorted({row["clip"] for row in means}):
        noise = "clipped and rounded to 8 bits" if clip else "not clipped"
        lines.append(f"mean of {images:,} photographs, noise {noise}: PSNR in dB, SSIM; seconds for a photograph")
        sigmas = dict.fromkeys(row["sigma"] for row in means)
        lines.append(f"{'sigma * 255':>{width}}" + "".join(f"{255 * sigma:10.4g}{'':8}" for sigma in sigmas))
        for key, title in titles.items():
            mine = [row for row in means if (row["method"], row["checkpoint"]) == key and row["clip"] == clip]
            cells = "".join(f"{row['psnr']:10.2f}{row['ssim']:8.3f}" for row in mine)
            lines.append(f"{title:{width}}{cells}{sum(row['seconds'] for row in mine) / len(mine):10.2f} s")
        lines.append("")
    return "\n".join(lines[:-1])


def _finite(value: Any) -> Any:
    """The same with None for every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
