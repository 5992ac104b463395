"""Exporting a model for use without this package, as ONNX, as a torch.export program, or as a page (`page.py`).

Either of the first two maps `images`, float32 (N, *input_shape), N >= 1, to `denoised`, of the same shape and in
[0, 1]; it adds no noise. A network that takes sigma has a second input, `sigma` (N,): of the noise in each image, or -1
for the network's own estimate. The metadata are `input_shape`, `latent`, `noise` (the one it was trained on) and
`network` as JSON, and the version of `dae_lightning`. docs/using.md denoises with onnxruntime alone.
"""

import io
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dae_lightning import config
from dae_lightning.errors import ExportError
from dae_lightning.files import replacing
from dae_lightning.inference.page import export_page
from dae_lightning.model.autoencoder import DenoisingAutoencoder, load_model
from dae_lightning.model.network import Network
from dae_lightning.model.noise import corrupt_each
from dae_lightning.model.noise_level import estimate_sigma
from dae_lightning.randomness import generator

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
INPUTS = ["images", "sigma"]
BATCHES = (1, 2, 7, 64)
ONNX_BYTES = 2**31 - 2**20  # protobuf's bound, less what is not weights
TOLERANCE = 1e-5  # of a pixel, in units of its [0, 1] range

SIGMAS = (-1.0, 0.1, 2.0)  # that models are compared at
Function = Callable[..., Tensor]  # of images, and of sigma where the network takes it


class TellingSigma(nn.Module):
    """A network that takes sigma, of two inputs: where sigma is negative or NaN, it is estimated."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, sigma: Tensor) -> Tensor:
        denoised: Tensor = self.network(images, torch.where(sigma >= 0, sigma, estimate_sigma(images)))
        return denoised


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
    content = (to_onnx if settings.format == "onnx" else to_program)(model)
    network = (from_onnx if settings.format == "onnx" else from_program)(content)
    error = largest_error(network, model)
    with replacing(path) as file:
        file.write(content)
    print(f"{path}: agrees with the model to {error:.1e} on random images, in batches of {BATCHES}")


def metadata(model: DenoisingAutoencoder) -> dict[str, str]:
    """What a user without this package should know of the model."""
    known = {name: json.dumps(model.hparams[name]) for name in ("input_shape", "latent", "noise", "network")}
    return known | {"dae_lightning": version("dae_lightning")}


def _options(model: DenoisingAutoencoder) -> dict[str, Any]:
    """An example, whose batch is not 1 since exporters take that for a constant; and the batch axis, which may vary."""
    args = _inputs(model, torch.zeros(2, *model.input_shape))
    batch_axes = ({0: torch.export.Dim("N", min=1)}, {0: torch.export.Dim.AUTO})  # which will be N too
    return {"args": args, "dynamic_shapes": batch_axes[: len(args)]}


def _exported(model: DenoisingAutoencoder) -> nn.Module:
    """What is exported of a model."""
    return TellingSigma(model.network).eval() if model.network.takes_sigma else model.network


def _inputs(model: DenoisingAutoencoder, images: Tensor) -> tuple[Tensor, ...]:
    """`images` and, where the network takes it, a sigma for each."""
    sigmas = torch.tensor(SIGMAS).repeat(len(images))[: len(images)]
    return (images, sigmas) if model.network.takes_sigma else (images,)


def to_program(model: DenoisingAutoencoder) -> bytes:
    """A torch.export program (.pt2), with the metadata in its extra file `metadata.json`."""
    program = torch.export.export(_exported(model), **_options(model))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={"metadata.json": json.dumps(metadata(model))})
    return file.getvalue()


def from_program(content: bytes) -> Function:
    """The function that a program computes."""
    network: Function = torch.export.load(io.BytesIO(content)).module()
    return network


def to_onnx(model: DenoisingAutoencoder) -> bytes:
    """An ONNX model with a dynamic batch axis `N`, and the metadata as its `metadata_props`."""
    import onnx

    size = sum(weights.nbytes for weights in model.network.parameters())
    if size >= ONNX_BYTES:
        raise ExportError(f"format=onnx: weights of {size:,} bytes do not fit one file; use format=torch")
    options = _options(model)
    names: dict[str, Any] = {"input_names": INPUTS[: len(options["args"])], "output_names": ["denoised"]}
    exported = torch.onnx.export(_exported(model), **options, **names, dynamo=True, verbose=False)
    assert exported is not None  # it is only without dynamo
    proto = exported.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # paths of this machine
    onnx.helper.set_model_props(proto, metadata(model))
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString()
    return content


def from_onnx(content: bytes) -> Function:
    """The function that an ONNX model computes, run by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def network(*inputs: Tensor) -> Tensor:
        named = {name: tensor.numpy() for name, tensor in zip(INPUTS, inputs, strict=False)}
        return torch.from_numpy(session.run(["denoised"], named)[0])

    return network


@torch.no_grad()
def largest_error(network: Function, model: DenoisingAutoencoder) -> float:
    """The largest difference of a pixel, on random images, clean and noisy, in batches of several sizes.

    Raises:
        ExportError: it is more than TOLERANCE, or not a number.
    """
    clean = torch.rand(max(BATCHES), *model.input_shape, generator=generator(0, "export"))
    images = torch.cat([clean, corrupt_each(model.noise, clean, 0, torch.arange(len(clean)))])
    exported = _exported(model)
    batches = [_inputs(model, batch) for size in BATCHES for batch in images.split(size)]
    errors = [float((network(*batch) - exported(*batch)).abs().max()) for batch in batches]
    if not max(errors) <= TOLERANCE:
        raise ExportError(f"the exported model differs from the checkpoint's by {max(errors):.1e}; not written")
    return max(errors)
