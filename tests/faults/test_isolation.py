"""A training's bits are a function of its own settings: not of the jobs before it, nor of what is watched or kept."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import Run
from tests.faults.kills import differing_bits, outcome, trained
from tests.faults.processes import Training, small


def test_a_job_of_a_sweep_gives_the_bits_it_gives_alone(tmp_path: Path, idx_root: Path) -> None:
    swept = ("optim=adam_onecycle,adam", "+trainer.deterministic=true,false")
    names = "hydra.sweep.subdir=${optim.kind}-${trainer.deterministic}"
    sweep = Training(tmp_path, "-m", *small(idx_root, *swept, names, f"hydra.sweep.dir={tmp_path / 'sweep'}"))
    assert sweep.status() == 0, sweep.said
    for deterministic in "True", "False":  # the third job and the fourth
        name = f"adam-{deterministic}"
        own = ("optim=adam", f"+trainer.deterministic={deterministic}", f"hydra.run.dir={tmp_path / name}")
        alone = Training(tmp_path, *small(idx_root, *own))
        assert alone.status() == 0, alone.said
        assert differing_bits(outcome(tmp_path / "sweep" / name), outcome(tmp_path / name)) == 0, name


WATCHED = (
    "trainer.enable_progress_bar=true",
    "+trainer.enable_model_summary=true",
    "+trainer.check_val_every_n_epoch=2",
    "+trainer.num_sanity_val_steps=1",
    "+trainer.log_every_n_steps=5",
    "+trainer.profiler=simple",
    "checkpoint.every_n_steps=1",
    "checkpoint.every_seconds=1e-9",
    "examples=7",
    "eval_seed=1",
)


def test_what_is_watched_or_kept_changes_no_bit(run: Run) -> None:
    plain = trained(run("plain"))
    for override in WATCHED:
        assert differing_bits(trained(run(override, override)), plain) == 0, override
    assert differing_bits(trained(run("seed", "seed=1")), plain) > 0  # or the test shows nothing


def test_a_logger_and_its_pictures_change_no_bit(run: Run) -> None:
    pytest.importorskip("tensorboard")
    logged = run("logged", "logger=tensorboard", "logger.every_n_epochs=1")
    assert list(logged.rglob("events.out.tfevents.*"))
    assert differing_bits(outcome(logged), outcome(run("plain"))) == 0


def test_what_others_drew_from_the_global_generators_changes_no_bit(run: Run) -> None:
    plain = outcome(run("plain"))
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert differing_bits(outcome(run("later")), plain) == 0
