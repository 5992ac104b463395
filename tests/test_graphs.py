"""Recorded steps: on a GPU against the same steps unrecorded; elsewhere what surrounds the recording.

Where there is no GPU, `called_again` stands in for it: a "replay" that calls the step again. It shows that batches,
rates, losses and the optimiser's state go where they belong, and nothing about CUDA.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dae_lightning.errors import TrainingError
from dae_lightning.training import cuda_graphs as graphs
from dae_lightning.training.callbacks import History
from dae_lightning.training.many_steps import FusedAdam
from dae_lightning.training.setup import make_model
from tests.conftest import Run, Settings
from tests.faults.kills import differing_bits, outcome, trained

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
EXACT = f"optim.lr={2**-10}"  # a graph reads the rate as float32: others differ in their last digits
BATCHES = [torch.rand(size, 6, generator=torch.Generator().manual_seed(size)) for size in (5, 5, 3, 5, 3)]


def called_again(step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    for _ in range(graphs.WARM_UP):
        loss = step().clone()
    return lambda: loss.copy_(step()), loss  # type: ignore[return-value]


class Fit:
    """A layer, its optimiser, and the step of both; with each step the rate is halved."""

    def __init__(self) -> None:
        self.layer = nn.Linear(6, 6)
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(6))
            self.layer.bias.zero_()
        self.optimizer = FusedAdam(self.layer.parameters(), lr=0.25, fused=True)

    def step(self, noisy: Tensor, clean: Tensor) -> Tensor:
        loss = F.mse_loss(self.layer(noisy), clean)
        loss.backward()
        self.optimizer.update()
        return loss.detach()

    def take(self, step: Callable[[Tensor, Tensor], Tensor], batches: list[Tensor]) -> list[Tensor]:
        losses = []
        for clean in batches:
            losses.append(step(clean + 0.5, clean))
            self.optimizer.param_groups[0]["lr"] /= 2
        return losses


@pytest.mark.parametrize("behind", [0, 2])
def test_recorded_steps_are_the_steps(behind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "capture", called_again)
    plain, recorded = Fit(), Fit()
    for fit in (plain, recorded):
        fit.take(fit.step, BATCHES[:behind])  # as before a recording in a resumed run
    losses = plain.take(plain.step, BATCHES)
    again = recorded.take(graphs.RecordedStep(recorded.step, recorded.optimizer), BATCHES)
    assert torch.equal(torch.stack(losses), torch.stack(again))
    assert torch.equal(plain.layer.weight, recorded.layer.weight)
    left, right = plain.optimizer.state_dict(), recorded.optimizer.state_dict()
    assert left["param_groups"] == right["param_groups"]  # the rate is a number, as in a checkpoint
    for index, moments in left["state"].items():
        assert all(torch.equal(value, right["state"][index][name]) for name, value in moments.items())


def test_every_size_of_a_batch_is_recorded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = []
    monkeypatch.setattr(graphs, "capture", lambda step: (recordings.append(step), called_again(step))[1])
    fit = Fit()
    fit.take(graphs.RecordedStep(fit.step, fit.optimizer), BATCHES)
    assert len(recordings) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_cannot_be_recorded_names_the_way_out() -> None:
    with pytest.raises(TrainingError, match="cannot be recorded as a CUDA graph .*: cuda_graph=false trains"):
        graphs.capture(lambda: torch.zeros(()))


def test_the_key_reaches_the_model(settings: Settings) -> None:
    assert make_model(settings(), (2,)).cuda_graph
    assert not make_model(settings("cuda_graph=false"), (2,)).cuda_graph


@gpu
def test_a_step_that_waits_for_the_gpu_cannot_be_recorded() -> None:
    value = torch.zeros((), device="cuda")
    with pytest.raises(TrainingError, match="cannot be recorded as a CUDA graph .*: cuda_graph=false trains"):
        graphs.capture(lambda: value + value.item())


@gpu
@pytest.mark.parametrize("network", [(), ("network=sigma_aware", "noise=gaussian_range")])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_with_and_without_graphs_the_weights_are_the_same(run: Run, precision: str, network: tuple[str, ...]) -> None:
    overrides = ("trainer=gpu", EXACT, f"trainer.precision={precision}", *network)
    replayed, launched = run("replayed", *overrides), run("launched", *overrides, "cuda_graph=false")
    assert differing_bits(trained(replayed), trained(launched)) == 0


@gpu
@pytest.mark.parametrize("optim", ["adam", "adam_onecycle"])
def test_a_run_on_the_gpu_is_equal_to_itself_however_many_steps_are_executed(run: Run, optim: str) -> None:
    overrides = ("trainer=gpu", f"optim={optim}")
    many, one = run("many", *overrides, "steps_per_execution=50"), run("one", *overrides, "steps_per_execution=1")
    assert differing_bits(outcome(many), outcome(one)) == 0


@gpu
@pytest.mark.parametrize("optim", ["adam", "adam_onecycle"])
def test_the_recorded_rate_follows_its_schedule(run: Run, optim: str) -> None:
    overrides = ("trainer=gpu", f"optim={optim}")
    replayed, launched = run("replayed", *overrides), run("launched", *overrides, "cuda_graph=false")
    for left, right in zip(*(torch.load(f / "checkpoints/last.ckpt", weights_only=True)["state_dict"].values()
                             for f in (replayed, launched)), strict=True):  # fmt: skip
        torch.testing.assert_close(left, right)


@gpu
@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_a_run_on_the_gpu_goes_on_there_to_the_same_bits_and_elsewhere_too(
    run: Run, tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("optim=adam_onecycle", "trainer.max_epochs=4", "steps_per_execution=2", "checkpoint.every_n_steps=2")

    def power_cut(self: History, trainer: Any, *_: object) -> None:
        if trainer.lightning_module.batches_seen >= 20:
            raise RuntimeError("power cut")

    whole = run("whole", "trainer=gpu", *overrides)
    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_batch_start", power_cut, raising=False)
        with pytest.raises(RuntimeError, match="power cut"):
            run("broken", "trainer=gpu", *overrides)
    last = tmp_path / "broken" / "checkpoints" / "last.ckpt"
    resumed = run("broken", f"trainer={device}", *overrides, checkpoint=last)
    if device == "gpu":
        assert differing_bits(outcome(whole), outcome(resumed)) == 0
