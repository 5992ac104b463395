"""A model for use without this package: as ONNX, or as a torch.export program.

Either takes `images`, float32 (N, *input_shape), N >= 1, clean ones in [0, 1], and gives `denoised`, as many
in [0, 1]. Noise is not part of it. The metadata say what the model is: `input_shape`, `latent` and `noise` (the one
it was trained on) as JSON, `dae_lightning` (the version). docs/using.md denoises with onnxruntime alone.
"""

import io
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dae_lightning import config, kinds
from dae_lightning.data.datamodule import as_float
from dae_lightning.data.sources import make_source
from dae_lightning.errors import ExportError, UserError
from dae_lightning.files import replacing
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
    known = {name: json.dumps(model.hparams[name]) for name in ("input_shape", "latent", "noise", "network")}
    return known | {"dae_lightning": version("dae_lightning")}


def network_of(model: DenoisingAutoencoder) -> nn.Module:
    """The model's network alone, in evaluation mode: exporters see no Lightning."""
    return deepcopy(model.network).eval()


def to_program(model: DenoisingAutoencoder) -> bytes:
    """A torch.export program (.pt2); the metadata lie in its extra file `metadata.json`."""
    program = torch.export.export(network_of(model), (_example(model),), dynamic_shapes=_dynamic())
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={"metadata.json": json.dumps(metadata(model))})
    return file.getvalue()


def from_program(content: bytes) -> Network:
    """What a program computes."""
    network: Network = torch.export.load(io.BytesIO(content)).module()
    return network


def to_onnx(model: DenoisingAutoencoder) -> bytes:
    """An ONNX model with a dynamic batch axis `N`; the metadata are its `metadata_props`."""
    import onnx

    size = sum(weights.nbytes for weights in network_of(model).parameters())
    if size >= ONNX_BYTES:
        raise ExportError(f"format=onnx: weights of {size:,} bytes do not fit one file; take format=torch")
    exported = torch.onnx.export(
        network_of(model),
        (_example(model),),
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["denoised"],
        dynamic_shapes=_dynamic(),
    )
    assert exported is not None  # as it is without dynamo
    proto = exported.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # paths of this machine
    onnx.helper.set_model_props(proto, metadata(model))
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString()
    return content


def from_onnx(content: bytes) -> Network:
    """What an ONNX model computes, by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["denoised"], {"images": images.numpy()})[0])


def probes(model: DenoisingAutoencoder, data: Mapping[str, Any] | None) -> tuple[Tensor, str]:
    """Images (N, *input_shape) to compare on, clean and noisy, and a word on whose.

    They are random ones, and test images of the model's `data` where these can be read here; nothing is fetched.
    """
    count = max(BATCHES)
    clean = torch.rand(count, *model.input_shape, generator=generator(0, "export"))
    whose = "random images"
    try:
        test = make_source(check(kinds.Data, data, "data")).load().test.images[:count]
        if tuple(test.shape[1:]) == model.input_shape:
            clean, whose = torch.cat([as_float(test), clean]), "random images and test images"
    except (UserError, OSError):
        pass  # moved, or on another machine
    return torch.cat([clean, corrupt_each(model.noise, clean, 0, torch.arange(len(clean)))]), whose


@torch.no_grad()
def largest_error(network: Network, model: DenoisingAutoencoder, images: Tensor) -> float:
    """The largest difference of a pixel, over batches of several sizes.

    Raises:
        ExportError: it is more than TOLERANCE, or not even a number.
    """
    errors = [float((network(batch) - model(batch)).abs().max()) for size in BATCHES for batch in images.split(size)]
    if not max(errors) <= TOLERANCE:
        raise ExportError(f"the exported model differs from the checkpoint's by {max(errors):.1e}; not written")
    return max(errors)


def _example(model: DenoisingAutoencoder) -> Tensor:
    return torch.zeros(2, *model.input_shape)  # not 1, which an exporter takes for a constant


def _dynamic() -> tuple[dict[int, Any]]:
    return ({0: torch.export.Dim("N", min=1)},)
