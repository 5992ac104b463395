"""Killed at any moment, a run goes on to exactly where it would have come: weights, optimiser, metrics, results."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Settings
from tests.faults.kills import OVERRIDES, TARGETS, Kills, differing_bits, outcome

TRAIN = Path(__file__).parents[2] / "train.py"


@pytest.mark.parametrize(("optim", "targets"), [("adam", list(TARGETS)[:2]), ("adam_onecycle", list(TARGETS)[2:])])
def test_ten_kills_change_no_bit(settings: Settings, tmp_path: Path, optim: str, targets: list[str]) -> None:
    kills = Kills(settings(f"optim={optim}", *OVERRIDES), tmp_path, seed=0)
    runs = [kills.at(target) for target in targets]
    while (left := 10 - sum(len(run.kills) for run in runs)) > 0:
        runs.append(kills.at_random(left))
    assert [run.bits for run in runs] == [0] * len(runs)
    costs = [kill for run in runs for kill in run.kills]
    assert any(kill.within for kill in costs)
    # every_n_steps=3 asks for a checkpoint; it is written behind a chunk of 2 steps
    assert max(kill.repeated for kill in costs) <= 3 + 2 + 1


def test_a_difference_of_one_bit_would_be_seen() -> None:
    assert differing_bits([b"abc", b"\x00"], [b"abc", b"\x01"]) == 1
    assert differing_bits([b"abc"], [b"abcd"]) == bin(ord("d")).count("1")


@pytest.mark.slow
def test_kills_of_the_whole_command_line_change_no_bit(tmp_path: Path, idx_root: Path) -> None:
    def command(name: str) -> list[str]:
        return [
            *(
                sys.executable,
                str(TRAIN),
                "trainer=cpu",
                "data=idx",
                f"data.root={idx_root}",
                "latent=4",
                "resume=auto",
            ),
            *("batch_size=4", "trainer.max_epochs=40", f"hydra.run.dir={tmp_path / name}", *OVERRIDES[1:]),
        ]

    begin = time.monotonic()
    subprocess.run(command("whole"), check=True)
    duration = time.monotonic() - begin
    moments = random.Random(0)
    kills = 0
    while kills < 5:
        try:
            subprocess.run(command("killed"), timeout=moments.uniform(0.4, 1) * duration, check=True)  # kills
            break
        except subprocess.TimeoutExpired:
            kills += 1
    subprocess.run(command("killed"), check=True)
    assert kills
    assert differing_bits(outcome(tmp_path / "killed"), outcome(tmp_path / "whole")) == 0
