"""Optimisers and their schedules, by name."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Adam
from torch.optim.adam import adam
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from dae_lightning import config
from dae_lightning.schema import check

# Keras' defaults (its eps is not PyTorch's); conf/optim/adam.yaml says the same, and a test holds them together
NOTEBOOK_ADAM: Mapping[str, Any] = MappingProxyType({"kind": "adam", "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-7})


class FusedAdam(Adam):
    """torch's Adam, whose `update` is `step` and then `zero_grad` with little but the kernel's call.

    What torch does round the kernel (records for profilers, hooks, checks) takes a tenth of a training step of 32
    images, and a further fifth where Lightning is imported and there is no GPU, for which it then looks in every step.
    """

    @torch.no_grad()
    def update(self) -> None:
        """Take the step that the gradients say, and drop them."""
        for group in self.param_groups:
            parameters, (beta1, beta2) = group["params"], group["betas"]
            states = [self.state[parameter] for parameter in parameters]
            if not all(states):
                self.step()  # the first one, of all groups; it makes the moments
                break
            adam(
                parameters,
                [parameter.grad for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=beta1,
                beta2=beta2,
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


def check_optim(settings: Mapping[str, Any]) -> config.Optim:
    """`settings` with types and ranges checked; raises ConfigError."""
    optim: config.Optim = check(config.Optim, dict(settings), "optim")
    return optim


def make_optimizer(
    settings: config.Optim, parameters: Iterable[Parameter], total_steps: int
) -> tuple[FusedAdam, LRScheduler | None]:
    """The optimiser and, for a rate that changes with every step, its schedule over `total_steps`."""
    optimizer = FusedAdam(parameters, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)
    if isinstance(settings, config.Adam):
        return optimizer, None
    # Smith and Topin, Super-Convergence, 2018; the momentum stays as it is. OneCycleLR divides by warmup * steps - 1,
    # and by (1 - warmup) * steps.
    warmup = settings.warmup if settings.warmup * total_steps > 1 else 0.0
    schedule = OneCycleLR(optimizer, settings.lr, total_steps, pct_start=warmup, cycle_momentum=False)
    return optimizer, schedule
