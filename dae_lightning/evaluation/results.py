"""What a run reports: the scores of the model and of the floors under it, as a table and as results.json."""

import json
import math
import platform
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from dae_lightning.files import replace_text
from dae_lightning.model.metrics import TASKS, ImageQuality

Scores = dict[str, dict[str, float]]  # task -> metric -> value
PACKAGES = ("dae_lightning", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "matplotlib")


def score(estimator: Callable[[Tensor], Tensor], pairs: Iterable[tuple[Tensor, Tensor]]) -> Scores:
    """The scores of `estimator` on both tasks over batches of (clean, noisy) images."""
    quality = {task: ImageQuality() for task in TASKS}
    for clean, noisy in pairs:
        quality["reconstruction"].update(estimator(clean), clean)
        quality["denoising"].update(estimator(noisy), clean)
    return {task: {name: float(value) for name, value in quality[task].compute().items()} for task in TASKS}


def table(rows: dict[str, Scores]) -> str:
    """The scores, a line per estimator, as a person reads them."""
    lines = [
        f"{'':22}{'reconstruction (clean in)':^34}  {'denoising (noisy in)':^34}",
        f"{'test images':22}" + "  ".join([f"{'BCE':>8}{'excess':>9}{'PSNR':>9}{'SSIM':>8}"] * 2),
    ]
    for name, scores in rows.items():
        cells = [
            f"{s['bce']:8.4f}{s['bce_excess']:9.4f}{s['psnr']:9.2f}{s['ssim']:8.3f}"
            for s in (scores[task] for task in TASKS)
        ]
        lines.append(f"{name.replace('_', ' '):22}" + "  ".join(cells))
    return "\n".join(lines)


def write_results(path: Path, results: dict[str, Any]) -> None:
    """results.json; a number that JSON has no word for (the PSNR of a perfect image is infinite) becomes null."""
    replace_text(path, json.dumps(_finite(results), indent=2, allow_nan=False) + "\n")


def versions() -> dict[str, str]:
    """Python and the packages that the numbers depend on."""
    return {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
