"""What a kill -9 costs: trainings killed at seeded moments and resumed, against uninterrupted ones.

    python -m benchmarks.kills [KILLS]

Half of the kills (200 in all) fall at random moments, the others on moments chosen for their danger; constant and
one-cycle rates take turns. The training is small (15 optimiser steps an epoch, 5 epochs), its checkpoints are dense
(every 3 steps, after a chunk of 2). The claim: however often it was killed, a finished run differs in no bit of its
weights, optimiser state, metrics and test results, and no kill costs more steps than lie between two checkpoints.
"""

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import torch

from tests.conftest import compose_small, write_blobs
from tests.faults.kills import OVERRIDES, RANDOM, TARGETS, KilledRun, Kills


def main(number: int) -> bool:
    lost = 0
    print("| rate | killed | times | resumed within an epoch | steps repeated, mean (most) | differing bits |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        images.mkdir()
        write_blobs(images)
        for rate, optim in ("constant", "adam"), ("one-cycle", "adam_onecycle"):
            with contextlib.redirect_stdout(io.StringIO()):
                settings = compose_small(images, f"optim={optim}", *OVERRIDES)
                kills = Kills(settings, Path(folder, optim), seed=0)
                share = number // 4 // len(TARGETS)
                runs = {RANDOM: at_random(kills, number // 2 - share * len(TARGETS))}
                runs |= {target: [kills.at(target) for _ in range(share)] for target in TARGETS}
            for fault, killed in runs.items():
                print(f"| {rate} | {fault} | {row(killed)} |", flush=True)
                lost += sum(run.bits for run in killed)
    return lost == 0


def at_random(kills: Kills, number: int) -> list[KilledRun]:
    """Runs that are killed up to five times each, `number` times in all."""
    runs: list[KilledRun] = []
    while (left := number - sum(len(run.kills) for run in runs)) > 0:
        runs.append(kills.at_random(min(5, left)))
    return runs


def row(runs: list[KilledRun]) -> str:
    """One row of the table, behind what was done."""
    costs = [kill for run in runs for kill in run.kills]
    repeated = [kill.repeated for kill in costs]
    within = sum(kill.within for kill in costs)
    mean = sum(repeated) / len(repeated)
    return f"{len(costs)} | {within} | {mean:.1f} ({max(repeated)}) | {sum(run.bits for run in runs)}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(not main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
