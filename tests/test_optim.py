"""The optimiser against torch's own."""

import pytest
import torch
from torch import Tensor, nn

from dae_lightning.training.many_steps import FusedAdam


def targets(step: int) -> Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(step))


def trained(optimizer: torch.optim.Optimizer, layer: nn.Linear, steps: range) -> list[Tensor]:
    """The weights after steps at a falling rate."""
    for step in steps:
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
        (layer(torch.ones(8, 5)) - targets(step)).square().mean().backward()
        if isinstance(optimizer, FusedAdam):
            optimizer.update()
            assert all(parameter.grad is None for parameter in layer.parameters())
        else:
            optimizer.step()
            optimizer.zero_grad()
    return [parameter.detach().clone() for parameter in layer.parameters()]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_an_update_is_torchs_step_bit_for_bit(weight_decay: float) -> None:
    settings = {"betas": (0.8, 0.95), "eps": 1e-7, "weight_decay": weight_decay, "fused": True}
    layers = nn.Linear(5, 3), nn.Linear(5, 3)
    layers[1].load_state_dict(layers[0].state_dict())
    ours, theirs = FusedAdam(layers[0].parameters(), **settings), torch.optim.Adam(layers[1].parameters(), **settings)
    pairs = zip(trained(ours, layers[0], range(20)), trained(theirs, layers[1], range(20)), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert all(
        torch.equal(a[name], b[name])
        for a, b in zip(ours.state.values(), theirs.state.values(), strict=True)
        for name in ("step", "exp_avg", "exp_avg_sq")
    )


def test_an_optimizer_goes_on_from_its_state() -> None:
    settings = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-7}
    whole = nn.Linear(5, 3)
    halves = nn.Linear(5, 3)
    halves.load_state_dict(whole.state_dict())
    expected = trained(FusedAdam(whole.parameters(), **settings), whole, range(20))
    first = FusedAdam(halves.parameters(), **settings)
    trained(first, halves, range(7))
    second = FusedAdam(halves.parameters(), **settings)
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(trained(second, halves, range(7, 20)), expected, strict=True))
