"""The notebook's two experiments against their Keras 2 original, on the official Fashion-MNIST, three seeds each.

    python train.py -m experiment=notebook_sigma2,notebook_sigma6 seed=0,1,2 hydra.sweep.dir=SWEEP     (ours)
    python -m benchmarks.parity [SWEEP ...]
    python -m benchmarks.parity keras DIR       (the original again, 50 minutes; extra [bench])

What is known is kept beside this file, of Keras 2 in keras2.json and of ours in ours.json, since three seeds of each
take hours: a sweep adds its finished runs, of any experiment. Delete a file to begin again.
Claim: the means over the seeds of training loss and both test BCEs lie within 0.003 of the original's, those of both
PSNRs within 0.1 dB. Exit status 1 where they do not.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

CACHE = Path(__file__).with_name("keras2.json")
OURS = Path(__file__).with_name("ours.json")
EXPERIMENTS = {"notebook_sigma2": ("256", "2"), "notebook_sigma6": ("192", "6")}  # latent, sigma
SEEDS = (0, 1, 2)
EPOCHS = (1, 2, 5, 10, 20, 50, 100)
TASKS = ("reconstruction", "denoising")

Figures = dict[str, float]


def tolerance(figure: str) -> float:
    """In BCE, or in dB."""
    return 0.1 if figure.endswith("psnr") else 0.003


def kept(file: Path) -> dict[str, Any]:
    """Figures by experiment and seed."""
    figures: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return figures


def keras(root: str) -> None:
    """Run what the cache lacks, an experiment and a seed at a time."""
    results = kept(CACHE)
    for seed in SEEDS:
        for experiment, (latent, sigma) in EXPERIMENTS.items():
            if (name := f"{experiment}, seed {seed}") not in results:
                command = [sys.executable, "-m", "benchmarks.notebook_keras", root, latent, sigma, str(seed)]
                environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
                result = json.loads(subprocess.check_output(command, env=environment, text=True))
                results[name] = {kept: result[kept] for kept in ("loss", *TASKS)}
                CACHE.write_text(json.dumps(results, indent=1) + "\n")


def original(experiment: str) -> list[dict[str, Any]]:
    """What is known of an experiment under Keras 2, a result for each seed."""
    return [result for name, result in kept(CACHE).items() if name.startswith(experiment)]


def figures_of(result: dict[str, Any]) -> Figures:
    """The figures that are compared, of one run of Keras."""
    losses = {f"train/loss, epoch {epoch}": result["loss"][epoch - 1] for epoch in EPOCHS}
    return losses | {f"{task}/{name}": result[task][name] for task in TASKS for name in ("bce", "psnr")}


def figures_in(folder: Path) -> Figures:
    """The same of one of our runs."""
    with (folder / "metrics.csv").open() as file:
        rows = {int(row["epoch"]): float(row["train/loss"]) for row in csv.DictReader(file)}
    losses = {f"train/loss, epoch {epoch}": rows[epoch] for epoch in EPOCHS if epoch in rows}
    scores = json.loads((folder / "results.json").read_text())["test"]["model"]
    return losses | {f"{task}/{name}": scores[task][name] for task in TASKS for name in ("bce", "psnr")}


def compare(experiment: str, keras: list[Figures], ours: list[Figures]) -> bool:
    """Print a table; whether there are figures, and every one is within its tolerance."""
    if not keras or not ours:
        print(f"\n{experiment}: known of Keras 2 {len(keras)} seeds, of ours {len(ours)}")
        return False
    print(f"\n| {experiment} | Keras 2, {len(keras)} seeds | ours, {len(ours)} seeds | difference | allowed |")
    print("| --- | --- | --- | --- | --- |")
    within = True
    for figure in keras[0]:
        theirs, found = [run[figure] for run in keras], [run[figure] for run in ours]
        difference = statistics.mean(found) - statistics.mean(theirs)
        within &= abs(difference) <= tolerance(figure)
        cells = [f"{statistics.mean(v):.4f} ({min(v):.4f} to {max(v):.4f})" for v in (theirs, found)]
        print(f"| {figure} | {' | '.join(cells)} | {difference:+.4f} | {tolerance(figure)} |")
    return within


def add(sweep: Path) -> None:
    """Keep the figures of the finished jobs of a sweep over experiments and seeds."""
    known = kept(OURS)
    for file in sorted(sweep.glob("*/job.json")):
        job = json.loads(file.read_text())
        said = dict(override.split("=", 1) for override in job["overrides"])
        if job["status"] == "finished":
            known[f"{said['experiment']}, seed {said['seed']}"] = figures_in(file.parent)
    OURS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def main(*sweeps: str) -> bool:
    for sweep in sweeps:
        add(Path(sweep))
    ours = kept(OURS)
    within = [
        compare(
            experiment,
            list(map(figures_of, original(experiment))),
            [figures for name, figures in ours.items() if name.startswith(experiment)],
        )
        for experiment in EXPERIMENTS  # both tables, whatever the first says
    ]
    return all(within)


if __name__ == "__main__":
    if sys.argv[1:2] == ["keras"]:
        keras(sys.argv[2])
    else:
        sys.exit(not main(*sys.argv[1:]))
