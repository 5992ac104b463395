"""The notebook's two experiments against its Keras 2 original, on the first 8,000 / 4,000 images of Fashion-MNIST.

    python benchmarks/parity.py DIR [SEEDS]

DIR holds the MNIST-format files. Claim: with 3 seeds, training loss and both test BCEs lie within 0.003 of the
original's, both PSNRs within 0.1 dB. Exit status 1 where they do not.
"""

import csv
import json
import statistics
import sys
import tempfile
from pathlib import Path

from hydra import compose, initialize_config_dir

from dae_lightning import config
from dae_lightning.cli.hydra_app import CONF, checked
from dae_lightning.training.run import train

# tf_keras 2.21, mean of three seeds; noisy = test images + sigma * N(0, 1), unclipped
KERAS = {
    "notebook_sigma2": {
        **{f"train/loss, epoch {e}": v for e, v in zip(
            (1, 2, 5, 10, 20, 50, 100), (0.454, 0.393, 0.376, 0.370, 0.366, 0.362, 0.3597), strict=True)},
        "reconstruction/bce": 0.3256,
        "reconstruction/psnr": 16.37,
        "denoising/bce": 0.3638,
        "denoising/psnr": 14.52,
    },
    "notebook_sigma6": {
        **{f"train/loss, epoch {e}": v for e, v in zip(
            (1, 2, 5, 10, 20, 50, 100), (0.650, 0.482, 0.471, 0.468, 0.466, 0.463, 0.4621), strict=True)},
        "reconstruction/bce": 0.4328,
        "reconstruction/psnr": 12.36,
        "denoising/bce": 0.4624,
        "denoising/psnr": 11.71,
    },
}  # fmt: skip


def tolerance(figure: str) -> float:
    """In BCE, or in dB."""
    return 0.1 if figure.endswith("psnr") else 0.003


def ours(experiment: str, root: str, seed: int) -> dict[str, float]:
    """The same figures of one run of ours."""
    overrides = [f"experiment={experiment}", "data=idx", f"data.root={root}", f"seed={seed}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = checked(compose("train", overrides), config.Train)
    with tempfile.TemporaryDirectory() as folder:
        train(settings, Path(folder))
        with (Path(folder) / "metrics.csv").open() as file:
            losses = {f"train/loss, epoch {row['epoch']}": float(row["train/loss"]) for row in csv.DictReader(file)}
        scores = json.loads((Path(folder) / "results.json").read_text())["test"]["model"]
    return losses | {f"{task}/{name}": scores[task][name] for task in scores for name in scores[task]}


def compare(experiment: str, root: str, seeds: int) -> bool:
    """Print a table; whether every figure is within its tolerance."""
    runs = [ours(experiment, root, seed) for seed in range(seeds)]
    print(f"\n| {experiment} | Keras 2 | ours, mean of {seeds} | lowest to highest | difference | allowed |")
    print("| --- | --- | --- | --- | --- | --- |")
    within = True
    for figure, keras in KERAS[experiment].items():
        values = [run[figure] for run in runs]
        difference = statistics.mean(values) - keras
        within &= abs(difference) <= tolerance(figure)
        mean, spread = statistics.mean(values), f"{min(values):.4f} to {max(values):.4f}"
        print(f"| {figure} | {keras:g} | {mean:.4f} | {spread} | {difference:+.4f} | {tolerance(figure)} |")
    return within


if __name__ == "__main__":
    root, seeds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    within = [compare(experiment, root, seeds) for experiment in KERAS]  # both tables, whatever the first says
    sys.exit(not all(within))
