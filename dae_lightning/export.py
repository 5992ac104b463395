"""A model for use without this package: as ONNX, or as a torch.export program.

Either takes `images`, float32 (N, *input_shape), N >= 1, clean ones in [0, 1], and gives `denoised`, as many
in [0, 1]. Noise is not part of it. The metadata, JSON values as text, say what the model is: `input_shape`, `latent`,
`noise` (the one it was trained on), `dae_lightning` (the version). `docs/onnx.md` denoises with onnxruntime alone.
"""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dae_lightning import config
from dae_lightning.checkpoints import load_model, read_checkpoint
from dae_lightning.data.datamodule import as_float
from dae_lightning.data.sources import make_source
from dae_lightning.errors import ExportError, UserError
from dae_lightning.files import replacing
from dae_lightning.model import NEGATIVE_SLOPE, DenoisingAutoencoder
from dae_lightning.noise import corrupt_each
from dae_lightning.randomness import generator
from dae_lightning.schema import check

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
BATCHES = (1, 2, 7, 64)
TOLERANCE = 1e-5  # of a pixel, in units of its [0, 1] range

Network = Callable[[Tensor], Tensor]


def export_checkpoint(settings: config.Export, checkpoint: Path) -> None:
    """Write the exported model, after it has agreed with the checkpoint's on images.

    Raises:
        CheckpointError: it is damaged or foreign.
        ExportError: the exported model does not agree; no file is left, and one that was there stays.
    """
    path = Path(settings.output or checkpoint.with_suffix(SUFFIXES[settings.format]))
    model = load_model(checkpoint)
    images, whose = probes(model, read_checkpoint(checkpoint).get("data"))
    content = (to_onnx if settings.format == "onnx" else to_program)(model)
    network = (from_onnx if settings.format == "onnx" else from_program)(content)
    error = largest_error(network, model, images)
    with replacing(path) as file:
        file.write(content)
    print(f"{path}: agrees with the model to {error:.1e} on {whose}, in batches of {BATCHES}")


def metadata(model: DenoisingAutoencoder) -> dict[str, str]:
    """What a user without this package should know of the model."""
    values = {name: model.hparams[name] for name in ("input_shape", "latent", "noise")}
    return {name: json.dumps(value) for name, value in values.items()} | {"dae_lightning": version("dae_lightning")}


def network_of(model: DenoisingAutoencoder) -> nn.Module:
    """The model's equation alone, in evaluation mode, with its weights: an exporter need not see Lightning."""
    return nn.Sequential(
        nn.Flatten(),
        model.encoder,
        nn.LeakyReLU(NEGATIVE_SLOPE),
        model.decoder,
        nn.Sigmoid(),
        nn.Unflatten(1, model.input_shape),
    ).eval()


def to_program(model: DenoisingAutoencoder) -> bytes:
    """A torch.export program (.pt2); the metadata lie in its extra file `metadata.json`."""
    file = io.BytesIO()
    torch.export.save(_program(model), file, extra_files={"metadata.json": json.dumps(metadata(model))})
    return file.getvalue()


def from_program(content: bytes) -> Network:
    """The function that a program holds."""
    network: Network = torch.export.load(io.BytesIO(content)).module()
    return network


def to_onnx(model: DenoisingAutoencoder) -> bytes:
    """An ONNX model with a dynamic batch axis `N`; the metadata are its `metadata_props`."""
    import onnx

    with _quiet():
        exported = torch.onnx.export(
            _program(model), dynamo=True, input_names=["images"], output_names=["denoised"], verbose=False
        )
    proto = exported.model_proto
    onnx.helper.set_model_props(proto, metadata(model))
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString()
    return content
