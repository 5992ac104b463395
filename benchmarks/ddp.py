"""What a second process costs and gives: images a second of `trainer=ddp` against one process, on this machine's CPU.

    python -m benchmarks.ddp DIR [ROUNDS]

DIR holds data in MNIST files; latent 256, sigma 2, validation off, an execution of 10 steps. A thread per process, so
two processes have twice the cores of one; the last column is one process with those two threads. The contestants take
turns; what is printed are medians over the rounds, each round's the median over its epochs but the first.
"""

import contextlib
import csv
import io
import statistics
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from dae_lightning import config
from dae_lightning.cli.hydra_app import CONF, checked
from dae_lightning.training import run as training

BATCHES = (32, 256, 2048)
CONTESTANTS = {  # ranks, threads of each
    "one process, one thread": (1, 1),
    "two ranks, one thread each": (2, 1),
    "one process, two threads": (1, 2),
}
EPOCHS = 5


def images_per_second(root: str, batch: int, ranks: int, threads: int) -> float:
    overrides = ["trainer=ddp", f"trainer.devices={ranks}"] if ranks > 1 else ["trainer=cpu"]
    overrides += [
        "trainer.accelerator=cpu",
        "data=idx",
        f"data.root={root}",
        "data.val_size=0",
        "steps_per_execution=10",
    ]
    overrides += [f"batch_size={batch}", f"trainer.max_epochs={EPOCHS}", "trainer.enable_progress_bar=false"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = checked(compose("train", overrides), config.Train)
    torch.set_num_threads(threads * ranks)  # which `launch` shares out
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        training.train(settings, Path(folder))
        with Path(folder, "metrics.csv").open() as file:
            return statistics.median([float(row["images_per_second"]) for row in csv.DictReader(file)][1:])


def main(root: str, rounds: int) -> None:
    speeds: dict[tuple[int, str], list[float]] = {(batch, name): [] for batch in BATCHES for name in CONTESTANTS}
    for _ in range(rounds):
        for (batch, name), values in speeds.items():
            values.append(images_per_second(root, batch, *CONTESTANTS[name]))
    print(f"{'images a second':30}" + "".join(f"{f'batch {batch}':>14}" for batch in BATCHES))
    for name in CONTESTANTS:
        print(f"{name:30}" + "".join(f"{statistics.median(speeds[batch, name]):14,.0f}" for batch in BATCHES))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
