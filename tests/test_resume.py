"""Killed at any moment, a run goes on to exactly where it would have come: weights, optimiser, metrics, results."""

import csv
import json
import multiprocessing
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from dae_lightning import config
from dae_lightning.training import train
from tests.conftest import Settings

# children are forked from this process, which has imported everything: a kill costs a second and not ten
FORK = multiprocessing.get_context("fork")
OVERRIDES = ("trainer.max_epochs=5", "steps_per_execution=2", "checkpoint.every_n_steps=3", "examples=1")


def start(settings: config.Train, folder: Path) -> Any:
    """A process that trains in the folder, from its last checkpoint on if there is one."""
    last = folder / "checkpoints" / "last.ckpt"
    process = FORK.Process(target=train, args=(settings, folder, last if last.exists() else None))
    process.start()
    return process


def outcome(folder: Path) -> dict[str, Any]:
    """All that must not depend on what happened on the way."""
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    with (folder / "metrics.csv").open() as file:
        rows = [{k: v for k, v in r.items() if k not in ("seconds", "images_per_second")} for r in csv.DictReader(file)]
    results = json.loads((folder / "results.json").read_text())
    return {
        "weights": {name: value.numpy().tobytes() for name, value in state["state_dict"].items()},
        "optimiser": [
            {name: value.numpy().tobytes() for name, value in entry.items()}
            for entry in state["optimizer_states"][0]["state"].values()
        ],
        "schedule": state["lr_schedulers"],
        "rows": rows,
        "test": results["test"],
        "steps": results["optimizer_steps"],
    }


@pytest.mark.parametrize("optim", ["adam", "adam_onecycle"])
def test_twenty_kills_change_no_bit(settings: Settings, tmp_path: Path, optim: str) -> None:
    configured = settings(f"optim={optim}", *OVERRIDES)
    begin = time.monotonic()
    whole = start(configured, tmp_path / "whole")
    whole.join()
    duration = time.monotonic() - begin
    assert whole.exitcode == 0
    expected = outcome(tmp_path / "whole")

    moments = random.Random(0)
    kills = within = 0
    while kills < 10:
        folder = tmp_path / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        exitcode = None
        while exitcode != 0:
            process = start(configured, folder)
            process.join(moments.uniform(0, duration) if kills < 10 else None)
            if process.is_alive():
                process.kill()
                kills += 1
            process.join()
            exitcode = process.exitcode
            assert exitcode in (0, -signal.SIGKILL)
            last = folder / "checkpoints" / "last.ckpt"
            if exitcode and last.exists():
                within += torch.load(last, weights_only=True)["epoch_loss"][1] > 0
        assert outcome(folder) == expected
    assert within  # some kills were resumed within an epoch
