"""Twelve jobs on two cores: side by side (`hydra/launcher=joblib`), against one after another, at one thread each.

    python -m benchmarks.sweep [ROUNDS]

The two take turns (three rounds in all), held to the same two cores of those that this process may use; what is
compared are whole commands, so that start-up counts. The jobs: sixty epochs of 11,000 letters each (data=glyphs), a
test, three pictures. The claim: the median of the rounds' ratios is at least 1.7.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = Path(__file__).parent.parent / "train.py"
JOBS = ("noise.sigma=0.5,1,2,4", "seed=0,1,2", "data=glyphs", "trainer=cpu", "trainer.max_epochs=60")
SIDE_BY_SIDE = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def main(rounds: int) -> bool:
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("error: this process may use one core only; two are compared")
    os.sched_setaffinity(0, cores)
    print("| round | one after another | side by side | ratio |")
    print("| --- | --- | --- | --- |", flush=True)
    ratios = []
    for number in range(1, rounds + 1):
        serial, beside = seconds(), seconds(*SIDE_BY_SIDE)
        ratios.append(serial / beside)
        print(f"| {number} | {serial:.1f} s | {beside:.1f} s | {ratios[-1]:.2f} |", flush=True)
    print(f"| median | | | {statistics.median(ratios):.2f} |")
    return statistics.median(ratios) >= 1.7


def seconds(*launcher: str) -> float:
    """How long the sweep takes, from the command to its end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(TRAIN), "-m", *launcher, *JOBS, f"hydra.sweep.dir={folder}/sweep"]
        begin = time.monotonic()
        done = subprocess.run(
            command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
        )
        taken = time.monotonic() - begin
        if done.returncode:
            sys.exit(done.stderr)
        return taken


if __name__ == "__main__":
    sys.exit(not main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
