"""Several dense layers on patches of photographs, which predict the noise."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from dae_lightning import kinds  # noqa: F401  # declares the kinds
from dae_lightning.errors import ConfigError
from dae_lightning.model.noise_level import LEAST_SIGMA, check_readable, sigma_of
from dae_lightning.model.parts import Network
from dae_lightning.randomness import generator
from dae_lightning.schema import register

SIGMAS = (LEAST_SIGMA, 100.0)  # others are taken for the nearest of these
USUAL = 0.05  # a sigma in the middle of the range
HIDDEN = 64  # units of what log sigma goes through
PATCH_STD = 0.05  # of the pixels of a usual patch, about; three times as much learns far more slowly


@register("network", "residual")
class ResidualNetwork(Network):
    """Several dense layers that predict the noise in a patch of a photograph, told its sigma.

    With y a noisy patch, s the sigma of its noise and m the mean of its pixels:

        input  = (y - m) / sqrt(s^2 + PATCH_STD^2)
        code   = ReLU(... ReLU(W_1 input + b_1 + shift(s)) ...), `depth` layers of `latent` units
        output = y - s (V code + c), clipped to [0, 1]

    Dense layers on patches are those of Burger, Schuler and Harmeling 2012, "Image denoising: can plain neural networks
    compete with BM3D?"; predicting the noise is DnCNN's (Zhang et al. 2017); shift is a small function of log s. At
    first the output is the input. Sigma is told in training too: a patch is too small to estimate it from.
    """

    kind = "residual"
    takes_sigma = True
    is_told_in_training = True
    depth: int

    def __init__(self, input_shape: Sequence[int], latent: int, depth: int = 2, seed: int = 0) -> None:
        check_readable(input_shape, self.kind)
        super().__init__(depth=depth)
        self.input_shape = tuple(input_shape)
        pixels = math.prod(input_shape)
        self.layers = nn.ModuleList(nn.Linear(size, latent) for size in (pixels, *[latent] * (depth - 1)))
        self.level, self.shift, self.noise = nn.Linear(1, HIDDEN), nn.Linear(HIDDEN, latent), nn.Linear(latent, pixels)
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator(seed, "weights", number))
            nn.init.zeros_(layer.bias)
        nn.init.uniform_(self.level.weight, -1, 1, generator=generator(seed, "weights", "level"))
        nn.init.uniform_(self.level.bias, -3, 3, generator=generator(seed, "biases", "level"))  # the range of log s
        for layer in (self.shift, self.noise):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def encode(self, images: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        return self._encode(images, sigma_of(images, sigma, SIGMAS))

    def decode(self, codes: Tensor) -> Tensor:
        raise ConfigError("network=residual: its codes say what the noise is, from which no image can be made")

    def regress(self, noisy: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        level = sigma_of(noisy, sigma, SIGMAS)
        noise: Tensor = level * self.noise(self._encode(noisy, level))
        return noisy - noise.view_as(noisy)

    def forward(self, noisy: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        return self.regress(noisy, sigma).clamp(0, 1)

    def _encode(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """Codes (B, latent) of patches whose sigma is (B, 1)."""
        pixels = noisy.flatten(1)
        code = (pixels - pixels.mean(1, keepdim=True)) / (sigma.square() + PATCH_STD**2).sqrt()
        shift = self.shift(F.silu(self.level((sigma / USUAL).log())))
        for number, layer in enumerate(self.layers):
            code = F.relu(layer(code) + shift if number == 0 else layer(code))
        return code
