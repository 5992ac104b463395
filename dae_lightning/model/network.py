"""Autoencoder networks: images in, codes between, images out."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dae_lightning import kinds  # noqa: F401  # declares the kinds
from dae_lightning.model.noise_level import check_readable, sigma_of
from dae_lightning.model.parts import Network as Network
from dae_lightning.randomness import generator
from dae_lightning.schema import register

NEGATIVE_SLOPE = 0.3  # the notebook's: Keras' default LeakyReLU; PyTorch's is 0.01
# of a network that is told sigma
DATA_STD = 0.35  # of the pixels of clean images, about
SIGMAS = (0.01, 100.0)  # others are taken for the nearest of these
HIDDEN = 64
INITIAL_GATE = -4.0  # at first the output holds 2 % of the input


@register("network", "dense")
class DenseNetwork(Network):
    """The notebook's: one dense layer in, one out.

    flatten -> scale -> Linear(latent) -> LeakyReLU(negative_slope) -> Linear(pixels) -> sigmoid -> reshape.

    The encoder sees images times `input_scale`. Below 1, the notebook's value, codes start out smaller and the encoder
    learns more slowly than the decoder under Adam. The initial weights are a function of `seed`.
    """

    kind = "dense"
    input_scale: float
    negative_slope: float

    def __init__(
        self,
        input_shape: Sequence[int],
        latent: int,
        input_scale: float = 1.0,
        negative_slope: float = NEGATIVE_SLOPE,
        seed: int = 0,
    ) -> None:
        super().__init__(input_scale=input_scale, negative_slope=negative_slope)
        self.input_shape = tuple(input_shape)
        pixels = math.prod(input_shape)
        self.encoder = nn.Linear(pixels, latent)
        self.decoder = nn.Linear(latent, pixels)
        for name, layer in (("encoder", self.encoder), ("decoder", self.decoder)):
            # Keras' defaults: Glorot uniform weights (Glorot and Bengio 2010, eq. 16), zero biases
            nn.init.xavier_uniform_(layer.weight, generator=generator(seed, "weights", name))
            nn.init.zeros_(layer.bias)

    def settings(self) -> dict[str, Any]:
        """Without `negative_slope` where it is the notebook's: so they are in the checkpoints of earlier versions."""
        settings = super().settings()
        return {name: value for name, value in settings.items() if (name, value) != ("negative_slope", NEGATIVE_SLOPE)}

    def encode(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1)
        if self.input_scale != 1:  # a pass over the pixels, 3 % of a step, that the notebook does without
            pixels = self.input_scale * pixels
        return F.leaky_relu(self.encoder(pixels), self.negative_slope)

    def decode(self, codes: Tensor) -> Tensor:
        return torch.sigmoid(self.decode_logits(codes))

    def decode_logits(self, codes: Tensor) -> Tensor:
        """The images of codes before the sigmoid."""
        logits: Tensor = self.decoder(codes)
        return logits.view(-1, *self.input_shape)

    def logits(self, noisy: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        return self.decode_logits(self.encode(noisy))

    @torch.no_grad()
    def start_at(self, mean_image: Tensor) -> None:
        # Adam would need thousands of steps to move the bias to where pixels that are always black want it
        self.decoder.bias.copy_(mean_image.flatten().clamp(1e-3, 1 - 1e-3).logit())


@register("network", "sigma_aware")
class SigmaAwareNetwork(DenseNetwork):
    """One dense layer each way, as in the notebook, but scaled, shifted and gated by the sigma of the noise.

    With y a noisy image, s its sigma, and gain, shift and gate a small function of log s with one hidden layer:

        code   = (1 + gain) * LeakyReLU(W y / sqrt(s^2 + DATA_STD^2) + b) + shift
        image  = sigmoid(V code + c)
        output = w clip(y) + (1 - w) image,  w = sigmoid(gate)

    The code's scale and shift are FiLM (Perez et al. 2018); input scaling and skip are those of Karras et al. 2022
    (EDM). Where nobody tells it, sigma is estimated from the image, in training as in use: `noise_level.py`.
    Of images (H, W) or (C, H, W) only; `input_scale` multiplies the encoder's input, as in a dense network.
    """

    kind = "sigma_aware"
    takes_sigma = True

    def __init__(
        self,
        input_shape: Sequence[int],
        latent: int,
        input_scale: float = 1.0,
        negative_slope: float = NEGATIVE_SLOPE,
        seed: int = 0,
    ) -> None:
        check_readable(input_shape, self.kind)
        super().__init__(input_shape, latent, input_scale, negative_slope, seed)
        self.sizes = [latent, latent, 1]
        self.level = nn.Linear(1, HIDDEN)
        self.condition = nn.Linear(HIDDEN, sum(self.sizes))
        nn.init.uniform_(self.level.weight, -1, 1, generator=generator(seed, "weights", "level"))
        nn.init.uniform_(self.level.bias, -3, 3, generator=generator(seed, "biases", "level"))  # the range of log s
        nn.init.zeros_(self.condition.weight)  # at first a dense network
        nn.init.zeros_(self.condition.bias)
        nn.init.constant_(self.condition.bias[-1:], INITIAL_GATE)

    def encode(self, images: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        return self._encode(images, sigma)[0]

    def _encode(self, noisy: Tensor, sigma: Tensor | float | None) -> tuple[Tensor, Tensor]:
        """Codes (B, latent), and the share (B, 1) that the input has in the output."""
        sigma = sigma_of(noisy, sigma, SIGMAS)
        gain, shift, gate = self.condition(F.silu(self.level(sigma.log()))).split(self.sizes, 1)
        pixels = noisy.flatten(1) * (self.input_scale / (sigma.square() + DATA_STD**2).sqrt())
        codes = (1 + gain) * F.leaky_relu(self.encoder(pixels), self.negative_slope) + shift
        return codes, torch.sigmoid(gate.to(noisy.dtype))

    def forward(self, noisy: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        codes, share = self._encode(noisy, sigma)
        image = torch.sigmoid(self.decode_logits(codes).to(noisy.dtype))  # bfloat16 under autocast
        return image.lerp(noisy.clamp(0.0, 1.0), share.view(-1, *[1] * len(self.input_shape)))

    def logits(self, noisy: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        return Network.logits(self, noisy, sigma)  # no sigmoid ends the mixture
