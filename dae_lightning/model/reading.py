"""What a checkpoint says of its model, checked before anything is built of it."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dae_lightning.config import Data, Noise, Optim
from dae_lightning.errors import CheckpointError, ConfigError
from dae_lightning.model.archive import read_archive
from dae_lightning.schema import Count, Positive, Seed, check

MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class Hyperparameters:
    """Of a DenoisingAutoencoder, as its checkpoints hold them."""

    input_shape: tuple[Count, ...]
    latent: Count
    noise: Noise
    optim: Optim
    seed: Seed
    eval_seed: Seed
    input_scale: Positive = 1.0  # older checkpoints do not know it

    def __post_init__(self) -> None:
        if len(self.input_shape) > MOST_DIMENSIONS:
            raise ConfigError(f"input_shape: {len(self.input_shape)} dimensions, but at most {MOST_DIMENSIONS} can be")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU: checked `hyper_parameters`, weights that fit them, and what else is there.

    Raises:
        CheckpointError: there is no such file, or it is damaged, or no checkpoint of this project.
    """
    checkpoint = read_archive(path)
    if not isinstance(checkpoint, dict) or not {"hyper_parameters", "state_dict"} <= checkpoint.keys():
        raise CheckpointError(f"{path}: no checkpoint of a denoising autoencoder")
    try:
        hyperparameters = check(Hyperparameters, checkpoint["hyper_parameters"], "hyper_parameters")
        check_tensors(checkpoint["state_dict"], weight_shapes(hyperparameters), "state_dict")
        if checkpoint.get("data") is not None:
            check(Data, checkpoint["data"], "data")
        checkpoint["hyper_parameters"] = asdict(hyperparameters) | {"input_shape": list(hyperparameters.input_shape)}
    except ValueError as error:
        raise CheckpointError(f"{path}: no checkpoint of this model ({' '.join(str(error).split())})") from error
    return checkpoint


def weight_shapes(hyperparameters: Hyperparameters) -> dict[Any, tuple[int, ...]]:
    """Of the weights that a model with these hyperparameters has, in their order."""
    pixels, latent = math.prod(hyperparameters.input_shape), hyperparameters.latent
    return {
        "encoder.weight": (latent, pixels),
        "encoder.bias": (latent,),
        "decoder.weight": (pixels, latent),
        "decoder.bias": (pixels,),
    }


def check_tensors(tensors: Any, shapes: dict[Any, tuple[int, ...]], key: str) -> None:
    """Raise ValueError unless `tensors` is a dict of finite float32 tensors of these names and shapes."""
    if not isinstance(tensors, dict) or tensors.keys() != shapes.keys():
        raise ValueError(f"{key} must hold {', '.join(map(str, shapes))}")
    for name, shape in shapes.items():
        tensor = tensors[name]
        if not isinstance(tensor, Tensor) or tensor.dtype != torch.float32 or tuple(tensor.shape) != shape:
            came = f"{tensor.dtype} {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(f"{key}.{name} is {came}: must be torch.float32 {shape}")
        if not tensor.isfinite().all():
            raise ValueError(f"{key}.{name} holds NaN or infinity")
