"""How long the command takes before anything happens, against the imports that it cannot do without.

    python -m benchmarks.start_up [ROUNDS]

Processes, one after the other, in turns; what is printed are medians of wall-clock seconds and their ratios. Claims:

- `--help`, `--cfg job` and a mistyped key are answered within 3.3x of `python -c "import hydra"`;
- from the command to the end of the first optimiser step it takes at most 1.2x of `python -c "import lightning"`.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = str(Path(__file__).parent.parent / "train.py")

# train.py's two lines, in a process that ends after the first step of the optimiser
FIRST_STEP = """
import os, sys, threading, time
from dae_lightning.cli.commands import train

def watch():
    while not hasattr(adam := sys.modules.get("torch.optim.adam"), "Adam"):
        time.sleep(0.005)
    step = adam.Adam.step
    adam.Adam.step = lambda *args, **kwargs: (step(*args, **kwargs), os._exit(77))

threading.Thread(target=watch, daemon=True).start()
train()
"""
HYDRA, LIGHTNING = "import hydra", "import lightning"
STEP = "first step"
LIMITS = {  # command -> (arguments of python, expected status, compared with, ratio allowed)
    HYDRA: (["-c", HYDRA], 0, HYDRA, 1.0),
    "--help": ([TRAIN, "--help"], 0, HYDRA, 3.3),
    "--cfg job": ([TRAIN, "--cfg", "job"], 0, HYDRA, 3.3),
    "latnt=192": ([TRAIN, "latnt=192"], 1, HYDRA, 3.3),
    LIGHTNING: (["-c", LIGHTNING], 0, LIGHTNING, 1.0),
    STEP: (["-c", FIRST_STEP, "data=glyphs", "data.train_size=1000", "data.test_size=100"], 77, LIGHTNING, 1.2),
}


def seconds(arguments: list[str], status: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        run = [f"hydra.run.dir={folder}/run"] if FIRST_STEP in arguments else []
        start = time.perf_counter()
        done = subprocess.run([sys.executable, *arguments, *run], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        took = time.perf_counter() - start
    if done.returncode != status:
        sys.exit(f"{arguments[-1]}: status {done.returncode}, not {status}\n{done.stdout.decode()}")
    return took


def main(rounds: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in LIMITS}
    for _ in range(rounds):
        for name, (arguments, status, *_) in LIMITS.items():
            times[name].append(seconds(arguments, status))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, (_, _, base, limit) in LIMITS.items():
        print(f"{name:18} {medians[name]:6.2f} s   {medians[name] / medians[base]:4.2f}x of {base!r} (allowed {limit})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
