"""Training beside other programs: images a second, by how the threads wait for each other.

    python -m benchmarks.busy DIR [ROUNDS [SECONDS]]        (DIR holds MNIST-format files)

Trains the plain recipe (28x28, latent 256, batch 32) for SECONDS under each setting by turns: as libgomp does by
default; as the commands do (`dae_lightning.threads`); passively. The last two also with one thread. The others, which
this program starts and ends itself: nobody; one busy Python loop; five; three other trainings, as torch does them by
default; a second training under the same setting. Medians over ROUNDS. Claims, for two cores:

- where it is quiet the commands' setting costs at most 3 % of the best rate,
- beside five loops it makes at least 5 times the default's, beside three trainings 10 times,
- in both at least 0.8 times the passive one's.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dae_lightning import threads

SETTINGS: dict[str, dict[str, str]] = {
    "libgomp's default": {"GOMP_SPINCOUNT": "300000"},  # for as many threads as there are cores
    "the commands'": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
OTHERS = ("nobody", "one loop", "five loops", "three trainings", "a second training")
LOOP = [sys.executable, "-c", "while True: pass"]


def rate(root: str, seconds: float, *overrides: str) -> float:
    """Images a second of a training in this process."""
    from hydra import compose, initialize_config_dir
    from lightning.pytorch import Callback

    from dae_lightning import config
    from dae_lightning.cli.hydra_app import CONF, checked
    from dae_lightning.training.setup import make_data, make_model, make_trainer

    class Clock(Callback):
        """Ends the training after some seconds; the first chunk, in which memory is allocated, does not count."""

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            if not hasattr(self, "start"):
                self.start, self.first = time.perf_counter(), module.batches_seen
            passed = time.perf_counter() - self.start
            if passed >= seconds:
                self.rate = settings.batch_size * (module.batches_seen - self.first) / passed
                trainer.should_stop = True
                trainer.limit_val_batches = 0

    ours = ["data=idx", f"data.root={root}", "trainer=cpu", "data.val_size=0", "steps_per_execution=10"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = checked(compose("train", [*ours, "trainer.enable_progress_bar=false", *overrides]), config.Train)
    data, clock = make_data(settings), Clock()
    data.setup()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(settings, Path(folder), data, [clock])
        trainer.fit(make_model(settings, data.input_shape), datamodule=data)
    return float(clock.rate)


def start_rate(root: str, seconds: float, setting: str) -> "subprocess.Popen[str]":
    """`rate` in a process of its own, under a setting."""
    command = [sys.executable, "-m", "benchmarks.busy", "rate", root, str(seconds), setting]
    clean = {name: value for name, value in os.environ.items() if name not in (*threads.WAITING, *threads.NUMBER)}
    environment = clean | SETTINGS[setting]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@contextmanager
def beside(others: str, root: str, seconds: float, setting: str) -> Iterator[None]:
    """Start what else runs; end it afterwards."""
    start: dict[str, Callable[[], list[Any]]] = {
        "nobody": lambda: [],
        "one loop": lambda: [subprocess.Popen(LOOP)],
        "five loops": lambda: [subprocess.Popen(LOOP) for _ in range(5)],
        "three trainings": lambda: [start_rate(root, 600, "libgomp's default") for _ in range(3)],
        "a second training": lambda: [start_rate(root, 600, setting)],
    }
    started = start[others]()
    try:
        time.sleep(25 if "training" in others else 1)  # until they have imported torch
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def main(root: str, rounds: int = 3, seconds: float = 6.0) -> bool:
    print(f"| images a second, beside | {' | '.join(SETTINGS)} |\n| --- |{' --- |' * len(SETTINGS)}", flush=True)
    rates: dict[str, dict[str, float]] = {}
    for others in OTHERS:
        found: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
        for _ in range(rounds):
            for setting in SETTINGS:
                with beside(others, root, seconds, setting):
                    output, _ = start_rate(root, seconds, setting).communicate()
                found[setting].append(float(json.loads(output.splitlines()[-1])))
        rates[others] = {setting: statistics.median(values) for setting, values in found.items()}
        cells = (f"{rates[others][setting]:,.0f} ({min(v):,.0f} to {max(v):,.0f})" for setting, v in found.items())
        print(f"| {others} | {' | '.join(cells)} |", flush=True)
    held = rates["nobody"]["the commands'"] >= 0.97 * max(rates["nobody"].values())
    for others, factor in (("five loops", 5), ("three trainings", 10)):
        default, ours, passive, _ = rates[others].values()
        held &= ours >= factor * default and ours >= 0.8 * passive
    return held


if __name__ == "__main__":
    if sys.argv[1] == "rate":
        _, _, root, seconds, setting = sys.argv
        print(json.dumps(rate(root, float(seconds))))
    else:
        root, *counts = sys.argv[1:]
        sys.exit(not main(root, *map(int, counts)))
