"""Seconds to the notebook's quality on the official Fashion-MNIST: Keras 2 and its 100 epochs against `fast_*`.

    python -m benchmarks.time_to_quality DIR [SEEDS]        (extra [bench]; DIR holds the four official `.gz`)

In processes of their own, by turns, on a machine that is otherwise idle. What counts is fit(): compilation, progress
bar, metrics.csv and checkpoints in, imports and loading out; medians over the seeds. Keras runs three epochs; the
median of the last two takes the place of the 97 others. Claims:

- every seed ends at or below the notebook's denoising BCE on the test images, the mean over the seeds of Keras 2
  in keras2.json (parity.py);
- in at most 1/150 of Keras' time.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.parity import EXPERIMENTS, original

SHARE = 150
EPOCHS = 3


def ours(root: str, experiment: str, seed: str) -> None:
    """Train as the command does, in this process; print fit's seconds and the denoising BCE."""
    from hydra import compose, initialize_config_dir
    from lightning.pytorch import Trainer

    from dae_lightning import config
    from dae_lightning.cli.hydra_app import CONF, checked
    from dae_lightning.training import run as training

    fit, seconds = Trainer.fit, []

    def timed(*args: Any, **kwargs: Any) -> None:
        start = time.perf_counter()
        fit(*args, **kwargs)
        seconds.append(time.perf_counter() - start)

    Trainer.fit = timed  # type: ignore[method-assign]
    overrides = [f"experiment={experiment}", "data=idx", f"data.root={root}", f"seed={seed}", "trainer=cpu"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = checked(compose("train", [*overrides, "figures=false"]), config.Train)
    with tempfile.TemporaryDirectory() as folder:
        training.train(settings, Path(folder))
        bce = json.loads(Path(folder, "results.json").read_text())["test"]["model"]["denoising"]["bce"]
    print(json.dumps({"seconds": seconds[0], "bce": bce}))


def run(module: str, *arguments: str) -> Any:
    """What a benchmark prints as JSON in its last line."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return json.loads(subprocess.check_output(command, env=environment, text=True).splitlines()[-1])


def compare(root: str, notebook: str, seeds: int) -> bool:
    """Print a row of the table; whether the claims hold."""
    fast = notebook.replace("notebook", "fast")
    keras, found = [], []
    for seed in map(str, range(seeds)):
        result = run("notebook_keras", root, *EXPERIMENTS[notebook], seed, str(EPOCHS))
        rest = 100 - EPOCHS
        keras.append(result["seconds"] + rest * statistics.median(result["epochs"][1:]))
        found.append(run("time_to_quality", "ours", root, fast, seed))
    quality: float = statistics.mean(result["denoising"]["bce"] for result in original(notebook))
    times, errors = [run["seconds"] for run in found], [run["bce"] for run in found]
    cells = [fast]
    for seconds, bce in (keras, f"{quality:.4f}"), (times, f"{min(errors):.4f} to {max(errors):.4f}"):
        cells += [f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})", bce]
    ratio = statistics.median(keras) / statistics.median(times)
    print(f"| {' | '.join(cells)} | {ratio:.0f} | {SHARE} |", flush=True)
    return bool(ratio >= SHARE and max(errors) <= quality)


def main(root: str, seeds: int = 3) -> bool:
    print("| | Keras 2, 100 epochs | test BCE | ours | test BCE | times faster | claimed |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    held = [compare(root, notebook, seeds) for notebook in EXPERIMENTS]
    return all(held)


if __name__ == "__main__":
    if sys.argv[1] == "ours":
        ours(*sys.argv[2:])
    else:
        sys.exit(not main(sys.argv[1], *map(int, sys.argv[2:])))
