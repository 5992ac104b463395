"""Memory and time of denoising one large photograph: python -m benchmarks.photograph_size [MEGAPIXELS] [STRIDE]

Colour, 8 bits, through `Denoiser`, by an untrained network of the usual size; memory is the highest resident set less
that after the imports. On Linux.
"""

import resource
import sys
import time

import numpy as np

from dae_lightning import Denoiser, DenoisingAutoencoder

NOISE = {"kind": "gaussian_range", "mean": 0.0, "low": 1 / 255, "high": 75 / 255}


def highest_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # kilobytes on Linux


def main(megapixels: float, stride: int) -> None:
    model = DenoisingAutoencoder((15, 15), 1024, NOISE, {"kind": "residual", "depth": 2}, loss="mse", patches=True)
    denoiser = Denoiser(model, "cpu")
    before = highest_gigabytes()
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    size = (3, height, height * 3 // 2)
    photograph = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    began = time.perf_counter()
    denoised = denoiser(photograph, stride=stride)
    seconds = time.perf_counter() - began
    assert denoised.shape == size
    memory = highest_gigabytes() - before
    print(f"{size[2]}x{size[1]}, stride {stride}: {seconds:.0f} s, {memory:.2f} GB above the imports")


if __name__ == "__main__":
    main(float((sys.argv[1:2] or ["24"])[0]), int((sys.argv[2:3] or ["8"])[0]))
