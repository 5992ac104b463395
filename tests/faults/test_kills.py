"""Killed at any moment, a run goes on to exactly where it would have come: weights, optimiser, metrics, results."""

import random
import signal
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
    tricks = ["input_scale=0.5", "output_bias=mean_image", "+trainer.max_steps=75"] if optim == "adam_onecycle" else []
    kills = Kills(settings(f"optim={optim}", *tricks, *OVERRIDES), tmp_path, seed=0)
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

    subprocess.run(command("whole"), check=True)
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    moments = random.Random(0)
    for _ in range(5):
        process = subprocess.Popen(command("killed"))
        for _ in range(moments.randint(1, 40)):  # of the 300 checkpoints of a run
            await_change(last, process)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    subprocess.run(command("killed"), check=True)
    assert differing_bits(outcome(tmp_path / "killed"), outcome(tmp_path / "whole")) == 0


def await_change(file: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until another file stands in the place of this one, as after every checkpoint."""

    def written() -> int:
        return file.stat().st_mtime_ns if file.exists() else 0

    before = written()
    while written() == before:
        assert process.poll() is None
        time.sleep(0.001)
