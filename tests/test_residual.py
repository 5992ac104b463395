"""network=residual: its equations, what it does untrained, and that it is told the sigma of the noise it sees."""

import pytest
import torch

from dae_lightning import DenoisingAutoencoder, GaussianNoise, GaussianRange, MaskingNoise
from dae_lightning.errors import ConfigError
from dae_lightning.model.noise import corrupt_each, sigma_of_each
from dae_lightning.model.residual import ResidualNetwork
from dae_lightning.randomness import generator

NOISE = GaussianRange(0.0, 1 / 255, 75 / 255)
PATCHES = 0.3 + 0.4 * torch.rand(6, 7, 7, generator=generator(0))
SIGMA = torch.tensor([0.01, 0.02, 0.05, 0.1, 0.2, 0.3])


@torch.enable_grad()
def network(depth: int = 3, steps: int = 30) -> ResidualNetwork:
    """Trained a little, so that no weight is zero."""
    model = DenoisingAutoencoder((7, 7), 12, NOISE, {"kind": "residual", "depth": depth}, loss="mse")
    adam = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(steps):
        adam.zero_grad()
        noisy, sigma = model.corrupt(PATCHES, generator(step))
        model.loss(noisy, PATCHES, sigma).backward()
        adam.step()
    assert isinstance(model.network, ResidualNetwork)
    return model.network.eval()


def noisy() -> torch.Tensor:
    return PATCHES + SIGMA[:, None, None] * torch.randn(PATCHES.shape, generator=generator(1))


@torch.no_grad()
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_it_is_its_equations(depth: int) -> None:
    net, y, s = network(depth), noisy(), SIGMA[:, None]
    level = (s / 0.05).log() @ net.level.weight.T + net.level.bias
    shift = (level * torch.sigmoid(level)) @ net.shift.weight.T + net.shift.bias
    code = (y.flatten(1) - y.mean((1, 2))[:, None]) / (s**2 + 0.05**2).sqrt()
    assert len(net.layers) == depth
    for number, layer in enumerate(net.layers):
        code = (code @ layer.weight.T + layer.bias + (shift if number == 0 else 0)).clamp(min=0)
    expected = y - (s * (code @ net.noise.weight.T + net.noise.bias)).view_as(y)
    torch.testing.assert_close(net.regress(y, SIGMA), expected)
    torch.testing.assert_close(net(y, SIGMA), expected.clamp(0, 1))
    torch.testing.assert_close(net.encode(y, SIGMA), code)


def test_untrained_it_answers_with_its_clipped_input() -> None:
    net = ResidualNetwork((7, 7), 12)
    y = noisy() * 3 - 1
    assert torch.equal(net(y, SIGMA), y.clamp(0, 1))
    assert torch.equal(net(y), y.clamp(0, 1))


@torch.no_grad()
def test_a_brighter_patch_is_denoised_alike_and_as_much_brighter() -> None:
    net, y = network(), noisy()
    torch.testing.assert_close(net.regress(y + 0.25, SIGMA), net.regress(y, SIGMA) + 0.25, atol=1e-5, rtol=0)


@torch.no_grad()
def test_what_it_is_told_counts() -> None:
    net, y = network(), noisy()
    assert (net(y, 0.05) - net(y, 0.2)).abs().max() > 0.01
    assert torch.equal(net(y, torch.full((6,), 0.05)), net(y, 0.05))
    assert bool(net(y * 1e3, 1e9).isfinite().all())


def test_its_weights_are_a_function_of_the_seed() -> None:
    one, same, other = (ResidualNetwork((7, 7), 12, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.layers[1].weight, other.layers[1].weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("noise", [NOISE, GaussianNoise(0.0, 0.1), GaussianRange(0.0, 0.01, 0.2, clip=True)])
def test_the_sigma_told_is_that_of_the_noise(noise: GaussianNoise | GaussianRange) -> None:
    clean = torch.full((4, 60, 60), 0.5)
    corrupted, sigma = noise.corrupt_and_tell(clean, generator(2))
    assert torch.equal(corrupted, noise.corrupt(clean, generator(2)))
    torch.testing.assert_close((corrupted - clean).std((1, 2)), sigma, rtol=0.05, atol=0)
    places = torch.arange(4)
    of_evaluation = (corrupt_each(noise, clean, 5, places) - clean).std((1, 2))
    torch.testing.assert_close(of_evaluation, sigma_of_each(noise, clean, 5, places), rtol=0.05, atol=0)


def test_what_it_cannot_do_is_one_line() -> None:
    residual = {"kind": "residual"}
    with pytest.raises(ConfigError, match=r"^noise=masking: network=residual has to be told sigma; noise=gauss.*one$"):
        DenoisingAutoencoder((7, 7), 12, MaskingNoise(0.5), residual)
    with pytest.raises(ConfigError, match=r"^network=residual: input_shape=\(49,\): sigma is estimated from images"):
        DenoisingAutoencoder(49, 12, NOISE, residual)
    with pytest.raises(ConfigError, match=r"depth=0: must be at least 1$"):
        DenoisingAutoencoder((7, 7), 12, NOISE, residual | {"depth": 0})
    model = DenoisingAutoencoder((7, 7), 12, NOISE, residual)
    with pytest.raises(ConfigError, match=r"^network=residual: its codes say what the noise is"):
        model.decode(torch.zeros(1, 12))
    with pytest.raises(ValueError, match=r"^loss=mae: must be one of bce, mse$"):
        DenoisingAutoencoder((7, 7), 12, NOISE, loss="mae")


def test_validation_tells_the_network_what_training_would() -> None:
    told = DenoisingAutoencoder((5, 5), 6, GaussianRange(0.0, 0.1, 0.3), {"kind": "residual"}, loss="mse")
    torch.nn.init.normal_(told.network.noise.weight)
    clean, places = torch.rand(3, 5, 5), torch.arange(3)
    noisy, (sigma,) = told.corrupt_fixed(clean, places), told.fixed_sigma(clean, places)
    told.judge("val", clean, noisy, sigma)
    expected = (told.network(noisy, sigma) - clean).square().mean()
    torch.testing.assert_close(told.quality["val_denoising"].compute()["mse"].float(), expected)
