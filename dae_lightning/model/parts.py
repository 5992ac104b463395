"""What the model's exchangeable parts, noise and network, have in common: a kind and plain parameters."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from dae_lightning.errors import ConfigError
from dae_lightning.model.metrics import BCE_CLIP
from dae_lightning.schema import KINDS, check, make


class Part(nn.Module):
    """A part of the model that a checkpoint can name: its `kind`, and parameters that are plain values.

    Each parameter becomes an attribute; those of a kind that the schema knows are checked.

    Raises:
        ConfigError: a parameter of the wrong type or out of range; the message names it.
    """

    group: ClassVar[str]
    kind: ClassVar[str]

    def __init__(self, **parameters: Any) -> None:
        super().__init__()
        if schema := KINDS[self.group].get(self.kind):
            parameters = check(schema, {"kind": self.kind} | parameters, "").model_dump(exclude={"kind"})
        self._parameter_names = tuple(parameters)
        for name, value in parameters.items():
            setattr(self, name, value)

    @classmethod
    def of(cls, part: "Self | Mapping[str, Any]", **given: Any) -> Self:
        """`part` itself, or what its settings describe, as in `{"kind": "gaussian", "mean": 0, "sigma": 2}`."""
        if isinstance(part, cls):
            return part
        if not isinstance(part, Mapping):
            raise ConfigError(f"{cls.group}={part!r:.80}: must be a {cls.__name__}, or its settings")
        made: Self = make(cls.group, part, **given)
        return made

    def settings(self) -> dict[str, Any]:
        """Plain values from which the part can be made again."""
        return {"kind": self.kind} | {name: getattr(self, name) for name in self._parameter_names}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.settings().items() if name != "kind")


class Network(Part):
    """Estimates of clean images (B, *input_shape) in [0, 1] from noisy ones of any range.

    One of your own has a `kind` and a constructor `(input_shape, latent, ...)`, hands its other parameters to
    `super().__init__`, and has `encode` and `decode`; with `logits` beside them its BCE is not clipped.
    """

    group = "network"
    takes_sigma: ClassVar[bool] = False  # whether `network(noisy, sigma)` can be told how noisy its input is
    is_told_in_training: ClassVar[bool] = False  # and is told, since its images are too small to estimate it from

    def encode(self, images: Tensor) -> Tensor:
        """Codes (B, latent) of images (B, *input_shape)."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """Images (B, *input_shape) in [0, 1] of codes (B, latent)."""
        raise NotImplementedError

    def logits(self, noisy: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        """The images before the sigmoid, of which BCE is taken; where the network has no sigmoid, as if it had.

        `sigma`, of the noise, is only for a network that takes it.
        """
        return torch.logit(self.regress(noisy, sigma).float(), BCE_CLIP)

    def forward(self, noisy: Tensor) -> Tensor:
        return self.decode(self.encode(noisy))

    def regress(self, noisy: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        """The images before any clipping, which loss=mse compares."""
        return self(noisy, sigma) if self.takes_sigma else self(noisy)  # type: ignore[no-any-return]

    def start_at(self, mean_image: Tensor) -> None:
        """Make the untrained network answer with this image (*input_shape) in [0, 1] instead of grey."""
        raise ConfigError(f"output_bias=mean_image: network={self.kind} has no output bias to set; output_bias=zero")
