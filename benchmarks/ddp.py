"""What a second process costs and gives: images a second of `trainer=ddp` against one process, on this machine's CPU.

    python -m benchmarks.ddp DIR [ROUNDS]

DIR holds data in MNIST files; latent 256, sigma 2, validation off, an execution of 10 steps. A thread per process, so
two processes have twice the cores of one; the last column is one process with those two threads. The contestants take
turns; what is printed are medians over the rounds, each round's the median over its epochs but the first.
"""

import csv
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TRAIN = Path(__file__).parents[1] / "train.py"
BATCHES = (32, 256, 2048)
CONTESTANTS = {  # ranks, threads of each
    "one process, one thread": (1, 1),
    "two ranks, one thread each": (2, 1),
    "one process, two threads": (1, 2),
}
EPOCHS = 5


def images_per_second(root: str, batch: int, ranks: int, threads: int) -> float:
    trainer = ["trainer=ddp", f"trainer.devices={ranks}"] if ranks > 1 else ["trainer=cpu"]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            *trainer,
            *("trainer.accelerator=cpu", "data=idx", f"data.root={root}", "data.val_size=0", "steps_per_execution=10"),
            *(f"batch_size={batch}", f"trainer.max_epochs={EPOCHS}", "trainer.enable_progress_bar=false"),
            f"hydra.run.dir={folder}",
        ]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        subprocess.run([sys.executable, TRAIN, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)
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
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
