"""A loss that is not finite: the optimiser does not step, the last good checkpoint stays, one line, exit status 1."""

import re
from pathlib import Path

import pytest
import torch

from dae_lightning.training.many_steps import FusedAdam, ManySteps
from tests.conftest import weights
from tests.faults.processes import Training, before, small


def poison(step: int) -> None:
    """Within this process, the loss of a step (from 0) becomes nan."""
    sound = ManySteps.loss

    def poisoned(self: ManySteps, noisy: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        return sound(self, noisy, clean) * (float("nan") if self.batches_seen == step + 1 else 1)

    ManySteps.loss = poisoned  # type: ignore[method-assign]


@pytest.mark.parametrize(("optim", "rate"), [("adam", "0.001"), ("adam_onecycle", r"0\.00\d+")])
def test_the_optimiser_does_not_step_and_the_last_good_checkpoint_stays(
    tmp_path: Path, idx_root: Path, optim: str, rate: str
) -> None:
    def diverge() -> None:
        poison(step=21)
        # the sixth step of the second epoch, within a chunk: 21 steps are taken, from 0 to 20, and no other
        before(FusedAdam, "update", lambda: (tmp_path / "stepped").touch(), nth=22)

    folder = tmp_path / "run"
    arguments = small(idx_root, f"optim={optim}", "checkpoint.every_n_steps=2", f"hydra.run.dir={folder}")
    training = Training(tmp_path, *arguments, prepare=diverge)
    assert training.status() == 1
    line = rf"error: the loss of step 21, at rate {rate}, is nan: lower optim.lr=\S+"
    assert re.fullmatch(line, training.said.splitlines()[-1]), training.said
    assert "Traceback" not in training.said
    assert not (tmp_path / "stepped").exists()
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert int(state["optimizer_states"][0]["state"][0]["step"]) >= 15 + 2
    assert all(bool(value.isfinite().all()) for value in weights(folder).values())
    again = Training(tmp_path, f"resume={folder}")
    assert again.status() == 0, again.said


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, idx_root: Path) -> None:
    """The loss of the step that spoils them is still finite."""

    def spoil() -> None:
        update, left = FusedAdam.update, 15 + 8

        def spoiling(self: FusedAdam) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self.param_groups[0]["lr"] = float("inf")
            update(self)

        FusedAdam.update = spoiling  # type: ignore[method-assign]

    folder = tmp_path / "run"
    arguments = small(idx_root, "checkpoint.every_n_steps=2", f"hydra.run.dir={folder}")
    training = Training(tmp_path, *arguments, prepare=spoil)
    assert training.status() == 1
    assert training.said.endswith("error: the weights after step 23 are not finite: lower optim.lr\n")
    assert all(bool(value.isfinite().all()) for value in weights(folder).values())
