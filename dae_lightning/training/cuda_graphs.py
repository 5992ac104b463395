"""Training steps as CUDA graphs: at a small batch a GPU waits for the next kernel's launch longer than a kernel takes.

A graph is recorded once and replayed by one launch. What is recorded is the function that is called where there is no
GPU; but what Python does in it is not done again, and every tensor keeps its place. So all that changes from step to
step comes in through tensors that are filled before each replay: the batch, noise and all, and the rate. ("CUDA
semantics" in PyTorch's documentation, section "CUDA Graphs", whole-network capture.)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

from dae_lightning.errors import TrainingError

WARM_UP = 3  # steps, as in PyTorch's documentation


class RecordedStep:
    """`step(*batch)`, which takes an optimiser step and gives its loss, recorded once for every size of a batch.

    Every step is a replay, the first one of a fit too: which kernels take a step depends on its batch alone, never on
    what came before, so that a resumed run stays the uninterrupted one.
    """

    def __init__(self, step: Callable[..., Tensor], optimizer: Optimizer) -> None:
        self._step, self._optimizer = step, optimizer
        self._replays: dict[torch.Size, Callable[..., Tensor]] = {}

    def __call__(self, *batch: Tensor) -> Tensor:
        shape = batch[0].shape
        if shape not in self._replays:
            self._replays[shape] = _record(self._step, self._optimizer, batch)
        return self._replays[shape](*batch)


def _record(step: Callable[..., Tensor], optimizer: Optimizer, first: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    """`step` for batches of the size of the `first`, as a replay."""
    batch, groups = [part.clone() for part in first], optimizer.param_groups
    filled = [group["lr"] for group in groups]
    rates = [torch.tensor(rate, device=first[0].device) for rate in filled]

    def recorded() -> Tensor:
        with _rates_from(optimizer, rates):
            return step(*batch)

    with _unchanged(optimizer):
        replay, loss = capture(recorded)

    def replayed(*parts: Tensor) -> Tensor:
        for static, part in zip(batch, parts, strict=True):
            static.copy_(part)
        for number, group in enumerate(groups):
            if group["lr"] != filled[number]:
                filled[number] = group["lr"]
                rates[number].fill_(group["lr"])
        replay()
        return loss.clone()  # the next replay writes there again

    return replayed


def capture(step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """What replays `step`, and where it leaves the loss. `step` is called a few times, and recorded when called last.

    Raises:
        TrainingError: it cannot be recorded; the message names the way out.
    """
    try:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        # whatever is made when it is first needed, the optimiser's moments among it, is to be made before
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):  # records; nothing is computed
            loss = step()
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise TrainingError(
            f"the training step cannot be recorded as a CUDA graph ({reason}): cuda_graph=false trains without"
        ) from error
    return graph.replay, loss


@contextmanager
def _rates_from(optimizer: Optimizer, rates: list[Tensor]) -> Iterator[None]:
    """`optimizer` reads its rates from tensors, and lets itself be recorded; afterwards its settings are as before.

    So schedules and checkpoints see plain numbers, as on a CPU. (Fused Adam needs nothing else to be recorded: its step
    count is on the GPU anyway.)
    """
    before = [(group["lr"], group["capturable"]) for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group.update(lr=rate, capturable=True)
    try:
        yield
    finally:
        for group, (lr, capturable) in zip(optimizer.param_groups, before, strict=True):
            group.update(lr=lr, capturable=capturable)


@contextmanager
def _unchanged(optimizer: Optimizer) -> Iterator[None]:
    """Restores weights and moments in place, whatever steps are taken inside."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    before = [
        (parameter.detach().clone(), {name: value.clone() for name, value in optimizer.state[parameter].items()})
        for parameter in parameters
    ]
    yield
    with torch.no_grad():
        for parameter, (weights, moments) in zip(parameters, before, strict=True):
            parameter.copy_(weights)
            for name, value in optimizer.state[parameter].items():
                value.copy_(moments[name]) if name in moments else value.zero_()  # those made inside start at zero
