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
    """`step(noisy, clean)`, which takes an optimiser step and gives its loss, recorded once for every size of a batch.

    Every step is a replay, the first one of a fit too: which kernels take a step depends on its batch alone, never on
    what came before, so that a resumed run stays the uninterrupted one.
    """

    def __init__(self, step: Callable[[Tensor, Tensor], Tensor], optimizer: Optimizer) -> None:
        self._step, self._optimizer = step, optimizer
        self._graphs: dict[torch.Size, _Graph] = {}

    def __call__(self, noisy: Tensor, clean: Tensor) -> Tensor:
        if clean.shape not in self._graphs:
            self._graphs[clean.shape] = _Graph(self._step, self._optimizer, (noisy, clean))
        return self._graphs[clean.shape].replay(noisy, clean)


class _Graph:
    def __init__(
        self, step: Callable[[Tensor, Tensor], Tensor], optimizer: Optimizer, batch: tuple[Tensor, Tensor]
    ) -> None:
        self._groups = optimizer.param_groups
        self._batch = [part.clone() for part in batch]
        self._rates = [torch.tensor(group["lr"], device=batch[0].device) for group in self._groups]
        self._filled = [group["lr"] for group in self._groups]

        def recorded() -> Tensor:
            with _rates_from(optimizer, self._rates):
                return step(*self._batch)

        with _unchanged(optimizer):
            self._replay, self._loss = capture(recorded)

    def replay(self, *batch: Tensor) -> Tensor:
        for static, part in zip(self._batch, batch, strict=True):
            static.copy_(part)
        for number, group in enumerate(self._groups):
            if group["lr"] != self._filled[number]:
                self._filled[number] = group["lr"]
                self._rates[number].fill_(group["lr"])
        self._replay()
        return self._loss.clone()  # the next replay writes there again


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
