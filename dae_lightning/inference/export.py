"""Exporting a model for use without this package, as ONNX, as a torch.export program, or as a page (`page.py`).

Either of the first two maps `images`, float32 (N, *input_shape), N >= 1, to `denoised`, of the same shape and in
[0, 1]; it adds no noise. The metadata are `input_shape`, `latent`, `noise` (the one it was trained on) and `network` as
JSON, and the version of `dae_lightning`. docs/using.md denoises with onnxruntime alone.
"""

import io
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dae_lightning import config, kinds
from dae_lightning.data.datamodule import as_float
from dae_lightning.data.sources import make_source
from dae_lightning.errors import ExportError, UserError
from dae_lightning.files import replacing
from dae_lightning.inference.page import export_page
from dae_lightning.model.autoencoder import DenoisingAutoencoder, load_model
from dae_lightning.model.checkpoint import read_checkpoint
from dae_lightning.model.noise import corrupt_each
from dae_lightning.randomness import generator
from dae_lightning.schema import check

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
BATCHES = (1, 2, 7, 64)
ONNX_BYTES = 2**31 - 2**20  # protobuf's bound, less what is not weights
TOLERANCE = 1e-5  # of a pixel, in units of its [0, 1] range

Network = Callable[[Tensor], Tensor]


def export_checkpoints(settings: config.Export, checkpoints: Mapping[str, Path]) -> None:
    """Write what `settings.format` names, of a page's several checkpoints or of the only one."""
    if settings.format == "page":
        export_page(settings, checkpoints)
    else:
        export_checkpoint(settings, *checkpoints.values())


def export_checkpoint(settings: config.Export, checkpoint: Path) -> None:
    """Write the exported model, if its results agree with the checkpoint's.

    Raises:
        CheckpointError: it is damaged or foreign.
        ExportError: the exported model does not agree; nothing is written, and an older file is kept.
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
    known = {name: json.dumps(model.hparams[name]) for name in ("input_shape", "latent", "noise", "network")}
    return known | {"dae_lightning": version("dae_lightning")}


def _options(model: DenoisingAutoencoder) -> dict[str, Any]:
    """An example, whose batch is not 1 since exporters take that for a constant; and the batch axis, which may vary."""
    batch_axis = {0: torch.export.Dim("N", min=1)}
    return {"args": (torch.zeros(2, *model.input_shape),), "dynamic_shapes": (batch_axis,)}


def to_program(model: DenoisingAutoencoder) -> bytes:
    """A torch.export program (.pt2), with the metadata in its extra file `metadata.json`."""
    program = torch.export.export(model.network, **_options(model))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={"metadata.json": json.dumps(metadata(model))})
    return file.getvalue()


def from_program(content: bytes) -> Network:
    """The function that a program computes."""
    network: Network = torch.export.load(io.BytesIO(content)).module()
    return network


def to_onnx(model: DenoisingAutoencoder) -> bytes:
    """An ONNX model with a dynamic batch axis `N`, and the metadata as its `metadata_props`."""
    import onnx

    size = sum(weights.nbytes for weights in model.network.parameters())
    if size >= ONNX_BYTES:
        raise ExportError(f"format=onnx: weights of {size:,} bytes do not fit one file; use format=torch")
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["denoised"]}
    exported = torch.onnx.export(model.network, **_options(model), **names, dynamo=True, verbose=False)
    assert exported is not None  # it is only without dynamo
    proto = exported.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # paths of this machine
    onnx.helper.set_model_props(proto, metadata(model))
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString()
    return content


def from_onnx(content: bytes) -> Network:
    """The function that an ONNX model computes, run by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["denoised"], {"images": images.numpy()})[0])


def probes(model: DenoisingAutoencoder, data: Mapping[str, Any] | None) -> tuple[Tensor, str]:
    """Images (N, *input_shape) to compare on, clean and noisy, and a description of them.

    Random ones, and test images of the model's `data` if these can be read here; nothing is downloaded.
    """
    clean = torch.rand(max(BATCHES), *model.input_shape, generator=generator(0, "export"))
    whose = "random images"
    with suppress(UserError, OSError):  # the data were moved, or are on another machine
        test = make_source(check(kinds.Data, data, "data")).load().test.images[: max(BATCHES)]
        if tuple(test.shape[1:]) == model.input_shape:
            clean, whose = torch.cat([as_float(test), clean]), "random images and test images"
    return torch.cat([clean, corrupt_each(model.noise, clean, 0, torch.arange(len(clean)))]), whose


@torch.no_grad()
def largest_error(network: Network, model: DenoisingAutoencoder, images: Tensor) -> float:
    """The largest difference of a pixel, over batches of several sizes.

    Raises:
        ExportError: it is more than TOLERANCE, or not a number.
    """
    errors = [float((network(batch) - model(batch)).abs().max()) for size in BATCHES for batch in images.split(size)]
    if not max(errors) <= TOLERANCE:
        raise ExportError(f"the exported model differs from the checkpoint's by {max(errors):.1e}; not written")
    return max(errors)
