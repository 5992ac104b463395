"""Autoencoder networks: images in, codes between, images out."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dae_lightning import kinds  # noqa: F401  # declares the kinds
from dae_lightning.errors import ConfigError
from dae_lightning.model.metrics import BCE_CLIP
from dae_lightning.model.parts import Part
from dae_lightning.randomness import generator
from dae_lightning.schema import register

NEGATIVE_SLOPE = 0.3  # Keras' default LeakyReLU; PyTorch's is 0.01


class Network(Part):
    """Estimates of clean images (B, *input_shape) in [0, 1] from noisy ones of any range.

    One of your own has a `kind` and a constructor `(input_shape, latent, ...)`, hands its other parameters to
    `super().__init__`, and has `encode` and `decode`; with `logits` beside them its BCE is not clipped.
    """

    group = "network"

    def encode(self, images: Tensor) -> Tensor:
        """Codes (B, latent) of images (B, *input_shape)."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """Images (B, *input_shape) in [0, 1] of codes (B, latent)."""
        raise NotImplementedError

    def logits(self, noisy: Tensor) -> Tensor:
        """The images before the sigmoid, of which BCE is taken; where the network has no sigmoid, as if it had."""
        return torch.logit(self(noisy).float(), BCE_CLIP)

    def forward(self, noisy: Tensor) -> Tensor:
        return self.decode(self.encode(noisy))

    def start_at(self, mean_image: Tensor) -> None:
        """Make the untrained network answer with this image (*input_shape) in [0, 1] instead of grey."""
        raise ConfigError(f"output_bias=mean_image: network={self.kind} has no output bias to set; output_bias=zero")


@register("network", "dense")
class DenseNetwork(Network):
    """The notebook's: one dense layer in, one out.

    flatten -> scale -> Linear(latent) -> LeakyReLU(0.3) -> Linear(pixels) -> sigmoid -> reshape.

    The encoder sees images times `input_scale`. Below 1, the notebook's value, codes start out smaller and the encoder
    learns more slowly than the decoder under Adam. The initial weights are a function of `seed`.
    """

    kind = "dense"
    input_scale: float

    def __init__(self, input_shape: Sequence[int], latent: int, input_scale: float = 1.0, seed: int = 0) -> None:
        super().__init__(input_scale=input_scale)
        self.input_shape = tuple(input_shape)
        pixels = math.prod(input_shape)
        self.encoder = nn.Linear(pixels, latent)
        self.decoder = nn.Linear(latent, pixels)
        for name, layer in (("encoder", self.encoder), ("decoder", self.decoder)):
            # Keras' defaults: Glorot uniform weights (Glorot and Bengio 2010, eq. 16), zero biases
            nn.init.xavier_uniform_(layer.weight, generator=generator(seed, "weights", name))
            nn.init.zeros_(layer.bias)

    def encode(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1)
        if self.input_scale != 1:  # a pass over the pixels, 3 % of a step, that the notebook does without
            pixels = self.input_scale * pixels
        return F.leaky_relu(self.encoder(pixels), NEGATIVE_SLOPE)

    def decode(self, codes: Tensor) -> Tensor:
        return torch.sigmoid(self.decode_logits(codes))

    def decode_logits(self, codes: Tensor) -> Tensor:
        """The images of codes before the sigmoid."""
        logits: Tensor = self.decoder(codes)
        return logits.view(-1, *self.input_shape)

    def logits(self, noisy: Tensor) -> Tensor:
        return self.decode_logits(self.encode(noisy))

    @torch.no_grad()
    def start_at(self, mean_image: Tensor) -> None:
        # Adam would need thousands of steps to move the bias to where pixels that are always black want it
        self.decoder.bias.copy_(mean_image.flatten().clamp(1e-3, 1 - 1e-3).logit())
