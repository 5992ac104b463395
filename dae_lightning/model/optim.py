"""Optimisers and their schedules, by name."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from torch.nn import Parameter
from torch.optim import Adam
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from dae_lightning import kinds
from dae_lightning.schema import check

# Keras' defaults (its eps is not PyTorch's); conf/optim/adam.yaml says the same, and a test holds them together
NOTEBOOK_ADAM: Mapping[str, Any] = MappingProxyType({"kind": "adam", "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-7})


def check_optim(settings: Mapping[str, Any]) -> kinds.Optim:
    """`settings` with types and ranges checked, the notebook's where they are left out; raises ConfigError."""
    settings = {**NOTEBOOK_ADAM, **settings} if isinstance(settings, Mapping) else settings
    optim: kinds.Optim = check(kinds.Optim, settings, "optim")
    return optim


def make_optimizer(
    settings: kinds.Optim, parameters: Iterable[Parameter], total_steps: int, optimizer_class: type[Adam] = Adam
) -> tuple[Adam, LRScheduler | None]:
    """The optimiser and, for a rate that changes with every step, its schedule over `total_steps`."""
    optimizer = optimizer_class(parameters, lr=settings.lr, betas=settings.betas, eps=settings.eps)
    if isinstance(settings, kinds.Adam):
        return optimizer, None
    # Smith and Topin, Super-Convergence, 2018; the momentum stays as it is. OneCycleLR divides by warmup * steps - 1,
    # and by (1 - warmup) * steps.
    warmup = settings.warmup if settings.warmup * total_steps > 1 else 0.0
    schedule = OneCycleLR(optimizer, settings.lr, total_steps, pct_start=warmup, cycle_momentum=False)
    return optimizer, schedule
