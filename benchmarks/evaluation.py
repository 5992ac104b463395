"""What dae-evaluate costs at full size: its time over that of the posterior mean's matrix products, and its memory.

    python -m benchmarks.evaluation CHECKPOINT DIR [ROUNDS]        (DIR holds MNIST-format files)

By turns, ROUNDS times (2): an evaluation of five sigmas by the default methods, in this process, and per sigma the
two products of 60,000 x 784 and 10,000 x 784 that the posterior mean cannot do without, in blocks as it takes them.
Claims: the ratio of the medians is at most 1.3, and memory grows by at most 1.5 GB above the imports.
"""

import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from dae_lightning import config
from dae_lightning.cli.hydra_app import CONF, checked
from dae_lightning.cli.run_folders import find_checkpoint
from dae_lightning.data.idx import IdxFolder
from dae_lightning.evaluation.estimators import MOST_WEIGHTS
from dae_lightning.evaluation.evaluate import evaluate

SIGMAS = (0.5, 1, 2, 4, 6)
RATIO, GIGABYTES = 1.3, 1.5


def peak() -> float:
    """Gigabytes of this process so far, at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def products(images: int, tests: int, pixels: int) -> float:
    """Seconds of the posterior mean's products for one sigma: weights of every training image, and their mean."""
    train, block = torch.rand(images, pixels), torch.rand(max(1, MOST_WEIGHTS // images), pixels)
    began = time.perf_counter()
    for _ in range(tests // len(block)):
        (block @ train.T) @ train
    return (time.perf_counter() - began) * tests / (tests // len(block) * len(block))


def main(checkpoint: str, root: str, rounds: int = 2) -> bool:
    imported = peak()
    whole, bare = [], []
    splits = IdxFolder(root).load()
    sizes = len(splits.train.images), len(splits.test.images), splits.test.images[0].numel()
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            overrides = [f"checkpoint={checkpoint}", "data=idx", f"data.root={root}", f"output={folder}"]
            with initialize_config_dir(str(CONF), version_base="1.3"):
                settings = checked(compose("evaluate", [*overrides, f"sigmas={list(SIGMAS)}"]), config.Evaluate)
            began = time.perf_counter()
            evaluate(settings, {checkpoint: find_checkpoint(checkpoint)}, Path(folder))
            whole.append(time.perf_counter() - began)
        memory = peak() - imported
        bare.append(len(SIGMAS) * products(*sizes))
    ratio = statistics.median(whole) / statistics.median(bare)
    print(f"{torch.get_num_threads()} threads; evaluation {whole} s, products {bare} s: ratio {ratio:.2f} ({RATIO})")
    print(f"memory above the imports {memory:.2f} GB ({GIGABYTES})")
    return ratio <= RATIO and memory <= GIGABYTES


if __name__ == "__main__":
    checkpoint, root, *rounds = sys.argv[1:]
    sys.exit(not main(checkpoint, root, *map(int, rounds)))
