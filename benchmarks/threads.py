"""How many threads pay: images a second of a training by the size of its model and batch, and by the threads.

    python -m benchmarks.threads DIR [ROUNDS [SECONDS]]        (DIR holds MNIST-format files)

Each cell trains 28x28 for SECONDS with each number of threads by turns; medians over ROUNDS.
"""

import statistics
import sys

import torch

from benchmarks.busy import rate
from dae_lightning.threads import usable_cpus

LATENTS = (16, 64, 256, 1024)
BATCHES = (8, 32, 128, 512)


def main(root: str, rounds: int = 3, seconds: float = 2.0) -> None:
    numbers = sorted({1, 2, usable_cpus()})
    print(f"| latent, batch | million multiply-adds | {' | '.join(map(str, numbers))} |")
    print("| --- | --- |" + " --- |" * len(numbers))
    for latent in LATENTS:
        for batch in BATCHES:
            found: dict[int, list[float]] = {number: [] for number in numbers}
            for _ in range(rounds):
                for number in numbers:
                    torch.set_num_threads(number)
                    settings = (
                        f"latent={latent}",
                        f"batch_size={batch}",
                        f"steps_per_execution={max(1, 1024 // batch)}",
                    )
                    found[number].append(rate(root, seconds, *settings))
            cells = (f"{statistics.median(rates):,.0f}" for rates in found.values())
            print(f"| {latent}, {batch} | {latent * batch * 784 / 1e6:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    root, *counts = sys.argv[1:]
    main(root, *map(int, counts))
