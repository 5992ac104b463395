"""One HTML file in which models can be tried: everything is inside, and it asks for nothing from anywhere.

The files of `page/` are put together with the models' weights, some test images, and what it takes to compute the
Wiener filter at any sigma. The page does all arithmetic itself.
"""

import copy
import json
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from string import Template
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dae_lightning import config, kinds
from dae_lightning.data.datamodule import as_float
from dae_lightning.data.pictures import mode_of
from dae_lightning.data.sources import make_source
from dae_lightning.data.splits import Splits
from dae_lightning.errors import ExportError, UserError
from dae_lightning.evaluation.estimators import pixel_moments
from dae_lightning.files import replacing
from dae_lightning.model.autoencoder import DenoisingAutoencoder, load_model
from dae_lightning.model.checkpoint import read_checkpoint
from dae_lightning.model.noise import ClippableNoise, Noise, corrupt_each
from dae_lightning.model.noise_level import CLIPPED
from dae_lightning.randomness import generator
from dae_lightning.schema import check

PARTS = Path(__file__).with_suffix("")  # the folder of the page's own files
SCRIPTS = ("arrays.js", "noise_level.js", "model.js", "draw.js", "curve.js", "code.js", "main.js")
NETWORKS = ("dense", "sigma_aware")  # the kinds that model.js computes
LONGEST_SIDE = 64
SAMPLES = 40
TOLERANCE = 0.01  # of a pixel, in units of its [0, 1] range: what weights in half precision may change
EXACT_PIXELS = 1024  # up to so many, every principal component of the images is found and kept
COMPONENTS = 256  # of larger images: the leading ones, of at most IMAGES of them
IMAGES = 4096
STAND_IN = "The images that these models were trained on could not be read. These are letters, which they never saw."


def export_page(settings: config.Export, checkpoints: Mapping[str, Path]) -> None:
    """Write a page that compares the models of `checkpoints`, by what the user called them.

    Raises:
        CheckpointError: one is damaged or foreign.
        ExportError: a model does not fit a page, or takes images of another shape than the first.
    """
    models = {place: load_model(path) for place, path in checkpoints.items()}
    check_models(models)
    first = next(iter(checkpoints.values()))
    shape = next(iter(models.values())).input_shape
    splits, stand_in = load_images(read_checkpoint(first).get("data"), shape)
    error = max(largest_change(model, splits.test.images[:SAMPLES]) for model in models.values())
    content = assemble(list(models.values()), splits, STAND_IN if stand_in else None).encode()
    path = Path(settings.output or first.with_suffix(".html"))
    with replacing(path) as file:
        file.write(content)
    if stand_in:
        print(f"note: {STAND_IN}")
    size = f"{len(content) / 1e6:.1f} MB"
    print(f"{path}: {size}; half precision changes a pixel by {error:.0e} at most")
    print(f"open it in a browser: {path.absolute().as_uri()}")


def check_models(models: Mapping[str, DenoisingAutoencoder]) -> None:
    """Raises ExportError unless one page can show all of these."""
    first = next(iter(models.values())).input_shape
    for place, model in models.items():
        shape, kind = model.input_shape, model.network.kind
        if mode_of(shape) is None or max(shape[-2:]) > LONGEST_SIDE:
            raise ExportError(
                f"checkpoint={place}: takes images of {shape}; a page shows grey or RGB ones of up to "
                f"{LONGEST_SIDE}x{LONGEST_SIDE}; use format=onnx"
            )
        if shape != first:
            raise ExportError(f"checkpoint={place}: takes images of {shape}, but the first takes {first}")
        if kind not in NETWORKS:
            raise ExportError(f"checkpoint={place}: a page cannot compute network={kind}; known: {', '.join(NETWORKS)}")


def load_images(data: Any, shape: tuple[int, ...]) -> tuple[Splits, bool]:
    """The images that `data` names, and False; letters of that shape, and True, where those cannot be read here."""
    with suppress(UserError, OSError):  # the data were moved, or are on another machine; nothing is downloaded
        splits = make_source(check(kinds.DataKind, data, "data")).load()
        if tuple(splits.test.images.shape[1:]) == shape:
            return splits, False
    letters = make_source(kinds.Glyphs(kind="glyphs", train_size=4000, test_size=SAMPLES)).load()
    return Splits(*(part._replace(images=resized(part.images, shape)) for part in letters[:2])), True


def resized(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(N, *shape) of grey images (N, H, W); both uint8."""
    floats = F.interpolate(images[:, None].float(), shape[-2:], mode="bilinear", antialias=True)
    grey = floats.round().clamp(0, 255).byte().view(len(images), *[1] * (len(shape) - 2), *shape[-2:])
    return grey.expand(-1, *shape).contiguous()


@torch.no_grad()
def largest_change(model: DenoisingAutoencoder, images: Tensor) -> float:
    """By how much half precision changes a denoised pixel of `images` (N, *input_shape) uint8, corrupted as trained.

    Raises:
        ExportError: by more than TOLERANCE, or to what is no number.
    """
    noisy = corrupt_each(model.noise, as_float(images), 0, torch.arange(len(images)))
    rounded = copy.deepcopy(model.network)
    for weights in rounded.parameters():
        weights.copy_(weights.half())
    error = float((rounded(noisy) - model.network(noisy)).abs().max())
    if not error <= TOLERANCE:
        raise ExportError(f"format=page: weights in half precision change a pixel by {error:.1e}; use format=onnx")
    return error


def assemble(models: list[DenoisingAutoencoder], splits: Splits, note: str | None) -> str:
    """The page's text; `models` share an input shape, which is that of `splits`."""
    test = splits.test.images
    spread = torch.linspace(0, len(test) - 1, min(SAMPLES, len(test))).long()  # files may come sorted by class
    height, width = test.shape[-2:]
    content = {
        "shape": [test[0].numel() // (height * width), height, width],
        "noise_mean": getattr(models[0].noise, "mean", 0.0),
        "clip": getattr(models[0].noise, "clip", False),
        "clipped_details": CLIPPED,
        "note": note,
        "samples": packed(test[spread]),
        "prior": prior(splits.for_training().images),
        "models": [
            {
                "trained": trained_on(model.noise),
                "sigma": getattr(model.noise, "sigma", None),
                "latent": model.latent,
                "takes_sigma": model.network.takes_sigma,
                "network": model.network.settings(),
                "weights": {name: packed(value.half()) for name, value in model.network.state_dict().items()},
            }
            for model in models
        ],
    }
    return Template((PARTS / "index.html").read_text(encoding="utf-8")).substitute(
        style=(PARTS / "page.css").read_text(encoding="utf-8"),
        script="\n".join((PARTS / name).read_text(encoding="utf-8") for name in SCRIPTS),
        data=json.dumps(content).replace("<", "\\u003c"),  # nothing in it ends the script that holds it
    )


def trained_on(noise: Noise) -> str:
    """As in "sigma 2", or "sigma 0.02 to 2, clipped to bytes"; of noise that has no sigma, its title."""
    if not isinstance(noise, ClippableNoise):
        return noise.title()
    levels = " to ".join(f"{level:g}" for level in noise.levels())
    return f"sigma {levels}, clipped to bytes" if noise.clip else f"sigma {levels}"


def packed(values: Tensor) -> dict[str, Any]:
    """A tensor of bytes or half-precision floats as JSON has it: its shape, and its little-endian bytes in base64."""
    return {"shape": list(values.shape), "base64": b64encode(values.contiguous().numpy().tobytes()).decode()}


def prior(images: Tensor) -> dict[str, Any]:
    """What the mean image and the Wiener filter know of training images (N, *input_shape) uint8.

    Their mean, the variances along their principal components, those components (k, pixels), and `rest`, the variance
    along any direction that is left out.
    """
    pixels = images[0].numel()
    if pixels <= EXACT_PIXELS:
        mean, covariance = pixel_moments(images)
        variances, vectors = torch.linalg.eigh(covariance)
        rest = variances.mean()  # any value would do; this one loses least to half precision
    else:  # the covariance of 64x64 RGB images would take 1.2 GB
        flat = as_float(images[torch.randperm(len(images), generator=generator(0, "page"))[:IMAGES]]).flatten(1)
        mean = flat.mean(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, scales, vectors = torch.pca_lowrank(flat, min(COMPONENTS, *flat.shape))
        variances = scales.square() / len(flat)
        rest = (flat.var(0, correction=0).sum() - variances.sum()) / (pixels - len(variances))
    return {
        "mean": packed(mean.half()),
        "variances": variances.clamp(min=0).tolist(),
        "components": packed(vectors.T.half()),
        "rest": max(float(rest), 0.0),
    }
