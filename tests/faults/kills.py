"""The harness of kills: trainings that are killed as by `kill -9`, at seeded moments, and then resumed.

The processes are forked from one that has imported everything: a kill costs a second and not ten.
"""

import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dae_lightning import config
from dae_lightning.training import run as training
from dae_lightning.training.many_steps import FusedAdam, ManySteps

FORK: Any = multiprocessing.get_context("fork")  # Any: mypy knows no Value in it
OVERRIDES = ("trainer.max_epochs=5", "steps_per_execution=2", "checkpoint.every_n_steps=3", "examples=1")
STEPS = 15  # of an epoch: 120 of the 130 small images, batches of 8


@dataclass(frozen=True)
class Kill:
    """What one kill cost. `within`: the run went on within an epoch; `repeated`: optimiser steps taken once more."""

    within: bool
    repeated: int


@dataclass(frozen=True)
class KilledRun:
    """A run that was killed, resumed and finished; `bits` in which it differs from one that was never killed."""

    kills: list[Kill]
    bits: int


Plan = Callable[[random.Random], Callable[[], None]]  # draws a moment; the child is then told of it


def die_before(owner: Any, name: str, nth: int, counts: Callable[..., bool] = lambda *_: True) -> None:
    """Kill this process, as from outside, when it comes to the n-th call of a function (of those that count)."""
    original, seen = getattr(owner, name), 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        seen += counts(*args)
        if seen == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, dying)


def _rename_of_a_checkpoint(source: Any, target: Any) -> bool:
    return str(target).endswith(".ckpt")


def _at(owner: Any, name: str, draw: Callable[[random.Random], int], *counts: Callable[..., bool]) -> Plan:
    def plan(moments: random.Random) -> Callable[[], None]:
        nth = draw(moments)
        return lambda: die_before(owner, name, nth, *counts)

    return plan


TARGETS: dict[str, Plan] = {
    "before or after the first step": _at(FusedAdam, "update", lambda r: r.randint(1, 2)),
    "at the last step of an epoch": _at(FusedAdam, "update", lambda r: STEPS * r.randint(1, 5)),
    "during validation": _at(ManySteps, "validation_step", lambda r: r.randint(1, 5)),
    "between a checkpoint's temporary file and its rename": _at(
        os, "replace", lambda r: r.randint(1, 20), _rename_of_a_checkpoint
    ),
}
RANDOM = "at a random moment"


class Kills:
    """Kills trainings with the given settings; what is lost shows against a run that nobody touched."""

    def __init__(self, settings: config.Train, folder: Path, seed: int) -> None:
        self.settings, self.folder, self.moments = settings, folder, random.Random(seed)
        self._steps = FORK.Value("q", 0)  # that the process under way has taken
        begin = time.monotonic()
        process = self._start(folder / "whole")
        process.join()
        assert process.exitcode == 0
        self._seconds = time.monotonic() - begin
        self._expected = outcome(folder / "whole")

    def at(self, target: str) -> KilledRun:
        """A run that is killed once, at a moment of a kind (one of TARGETS)."""
        killed = self._fresh()
        process = self._start(killed, TARGETS[target](self.moments))
        process.join()
        assert process.exitcode == -signal.SIGKILL, target
        kill = self._cost(killed, begun=0)
        return self._finish(killed, [kill])

    def at_random(self, most: int) -> KilledRun:
        """A run that is killed again and again, at most so often, wherever it is."""
        killed = self._fresh()
        kills: list[Kill] = []
        while len(kills) < most:
            begun = saved_step(killed)
            process = self._start(killed)
            process.join(self.moments.uniform(0, self._seconds))
            process.kill()
            process.join()
            if process.exitcode == 0:  # it was faster
                break
            assert process.exitcode == -signal.SIGKILL
            kills.append(self._cost(killed, begun))
        return self._finish(killed, kills)

    def _fresh(self) -> Path:
        shutil.rmtree(self.folder / "killed", ignore_errors=True)
        return self.folder / "killed"

    def _start(self, folder: Path, prepare: Callable[[], None] = lambda: None) -> Any:
        self._steps.value = 0
        process = FORK.Process(target=_train, args=(self.settings, folder, self._steps, prepare))
        process.start()
        return process

    def _cost(self, folder: Path, begun: int) -> Kill:
        last = folder / "checkpoints" / "last.ckpt"
        within = last.exists() and torch.load(last, weights_only=True)["epoch_loss"][1] > 0
        return Kill(within, begun + self._steps.value - saved_step(folder))

    def _finish(self, folder: Path, kills: list[Kill]) -> KilledRun:
        process = self._start(folder)
        process.join()
        assert process.exitcode == 0
        assert not list(folder.rglob(".*.partial"))
        return KilledRun(kills, differing_bits(outcome(folder), self._expected))


def _train(settings: config.Train, folder: Path, steps: Any, prepare: Callable[[], None]) -> None:
    """In the child: train, from the last checkpoint on if there is one, and count the optimiser's steps."""
    update = FusedAdam.update

    def counting(self: FusedAdam) -> None:
        update(self)
        steps.value += 1

    FusedAdam.update = counting  # type: ignore[method-assign]
    prepare()
    last = folder / "checkpoints" / "last.ckpt"
    settings = settings.model_copy(update={"figures": False})  # they would take half of so small a run's time
    training.train(settings, folder, last if last.exists() else None)


def saved_step(folder: Path) -> int:
    """The optimiser steps behind a run's last checkpoint; 0 where there is none."""
    last = folder / "checkpoints" / "last.ckpt"
    if not last.exists():
        return 0
    state = torch.load(last, weights_only=True)["optimizer_states"][0]["state"]
    return int(state[0]["step"]) if state else 0


def outcome(folder: Path) -> list[bytes]:
    """All that must not depend on what happened on the way: weights, optimiser, schedule, metrics, test results."""
    with (folder / "metrics.csv").open() as file:
        rows = [{k: v for k, v in r.items() if k not in ("seconds", "images_per_second")} for r in csv.DictReader(file)]
    results = json.loads((folder / "results.json").read_text())
    return [*trained(folder), *(json.dumps(v).encode() for v in (rows, results["test"], results["optimizer_steps"]))]


def trained(folder: Path) -> list[bytes]:
    """What the training itself comes to: weights, optimiser, schedule."""
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    optimizer = state["optimizer_states"][0]
    tensors = [*state["state_dict"].values(), *(v for entry in optimizer["state"].values() for v in entry.values())]
    values = [optimizer["param_groups"], state["lr_schedulers"]]
    return [*(tensor.numpy().tobytes() for tensor in tensors), *(json.dumps(value).encode() for value in values)]


def differing_bits(left: list[bytes], right: list[bytes]) -> int:
    """In how many bits two outcomes differ."""
    pairs: Iterator[tuple[bytes, bytes]] = zip(left, right, strict=True)
    return sum((int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).bit_count() for a, b in pairs)
