"""A network of one's own: a small convolutional encoder and decoder, for grey images (H, W), H and W divisible by 4.

python train.py plugins=[examples.convolutional] network=convolutional network.channels=8 latent=64 data=glyphs
"""

from torch import Tensor, nn

from dae_lightning.model.network import Network
from dae_lightning.schema import Count, register


@register("network", "convolutional")
class Convolutional(Network):
    kind = "convolutional"

    def __init__(self, input_shape: tuple[int, ...], latent: int, channels: Count = 8) -> None:
        super().__init__(channels=channels)
        height, width = input_shape
        small = (2 * channels, height // 4, width // 4)
        size = small[0] * small[1] * small[2]
        step = {"kernel_size": 4, "stride": 2, "padding": 1}
        self.encoder = nn.Sequential(
            *(nn.Unflatten(1, (1, height)), nn.Conv2d(1, channels, **step), nn.ReLU()),
            *(nn.Conv2d(channels, 2 * channels, **step), nn.ReLU(), nn.Flatten(), nn.Linear(size, latent)),
        )
        self.decoder = nn.Sequential(
            *(nn.Linear(latent, size), nn.ReLU(), nn.Unflatten(1, small)),
            *(nn.ConvTranspose2d(2 * channels, channels, **step), nn.ReLU()),
            *(nn.ConvTranspose2d(channels, 1, **step), nn.Flatten(1, 2)),
        )

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def decode(self, codes: Tensor) -> Tensor:
        return self.decoder(codes).sigmoid()

    def logits(self, noisy: Tensor) -> Tensor:
        return self.decoder(self.encode(noisy))
