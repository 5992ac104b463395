"""Colour photographs by luminance and two chrominances, against red, green and blue each by itself.

    python -m benchmarks.photograph_colour RUN        (extra [baselines], whose scikit-image holds the pictures)

A model of grey patches, told sigma, on three colour pictures that come with scikit-image. Mean PSNR in dB.
"""

import sys
from pathlib import Path
from statistics import fmean

import torch
from skimage import data
from torch import Tensor

from dae_lightning import Denoiser
from dae_lightning.model.metrics import psnr
from dae_lightning.randomness import generator

SIGMAS = (15, 25, 50)  # of 255
PICTURES = ("astronaut", "coffee", "chelsea")


def apart(denoiser: Denoiser, noisy: Tensor, sigma: float) -> Tensor:
    return torch.stack(denoiser(list(noisy), sigma=sigma))


def main(run: str) -> None:
    denoiser = Denoiser.load(Path(run))
    pictures = [torch.from_numpy(getattr(data, name)()).permute(2, 0, 1) / 255 for name in PICTURES]
    print(
        "| sigma of 255 | noisy | red, green and blue apart | luminance and chrominances |\n| --- | --- | --- | --- |"
    )
    for level in SIGMAS:
        scores: dict[str, list[float]] = {"noisy": [], "apart": [], "together": []}
        for number, clean in enumerate(pictures):
            sigma = level / 255
            noisy = clean + sigma * torch.randn(clean.shape, generator=generator(number))
            results = {"noisy": noisy, "apart": apart(denoiser, noisy, sigma), "together": denoiser(noisy, sigma=sigma)}
            for name, result in results.items():
                scores[name].append(float(psnr(result[None], clean[None])))
        print(f"| {level} | " + " | ".join(f"{fmean(each):.2f}" for each in scores.values()) + " |")


if __name__ == "__main__":
    main(*sys.argv[1:])
