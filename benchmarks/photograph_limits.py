"""What a model of white noise leaves in a photograph, as a picture.

    python -m benchmarks.photograph_limits RUN PHOTO OUT.png

White noise of sigma 25/255 for comparison; noise that is the same along a row, as scanners make it; the blocks of a
JPEG file of quality 10; blur. On the left what the model is given, on the right what it makes of it, where it estimates
sigma. The middle of PHOTO is shown at full resolution; PSNR is of the whole.
"""

import io
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from dae_lightning import Denoiser
from dae_lightning.evaluation.photograph_inputs import crop, read_grey
from dae_lightning.figures import examples_figure, save_figure
from dae_lightning.model.metrics import psnr
from dae_lightning.randomness import generator

SIGMA = 25 / 255
SHOWN = 160


def floats(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image) / np.float32(255))


def degraded(photo: Tensor) -> dict[str, Tensor]:
    """The uint8 photograph (H, W) with each fault, as floats."""
    clean, image = photo / 255, Image.fromarray(photo.numpy())
    compressed = io.BytesIO()
    image.save(compressed, "JPEG", quality=10)
    return {
        "white noise": clean + SIGMA * torch.randn(clean.shape, generator=generator(0)),
        "stripes": clean + SIGMA * torch.randn(len(clean), 1, generator=generator(1)),
        "JPEG, quality 10": floats(Image.open(compressed)),
        "blur": floats(image.filter(ImageFilter.GaussianBlur(2))),
    }


def main(run: str, file: str, output: str) -> None:
    photo, denoiser = read_grey(Path(file)), Denoiser.load(Path(run))
    given = degraded(photo)
    made = {name: denoiser(fault) for name, fault in given.items()}
    for name in given:
        before, after = (float(psnr(one[name][None], photo[None] / 255)) for one in (given, made))
        print(f"{name}: {before:.2f} dB given, {after:.2f} dB made of it")
    rows = {name: torch.stack([crop(one[name], SHOWN) for one in (given, made)]) for name in given}
    save_figure(examples_figure(rows, "given, and what the model makes of it", zoom=1), Path(output))


if __name__ == "__main__":
    main(*sys.argv[1:])
