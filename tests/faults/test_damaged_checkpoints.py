"""The newest checkpoint of a run is damaged: it goes on from the newest that is not, and ends as it would have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dae_lightning.errors import CheckpointError
from dae_lightning.resuming import newest_intact
from tests.conftest import Run, weights

TRAIN = Path(__file__).parents[2] / "train.py"


def damage(path: Path) -> None:
    """Flip one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_run_falls_back_and_ends_as_the_uninterrupted_one(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("whole", "trainer.max_epochs=4")
    folder = run("run", "trainer.max_epochs=3")
    last, best = folder / "checkpoints" / "last.ckpt", folder / "checkpoints" / "best.ckpt"
    assert newest_intact(last) == last
    assert capsys.readouterr().err == ""
    damage(last)
    assert newest_intact(last) == best
    said = capsys.readouterr().err
    assert said.startswith(f"warning: skipped {last}: damaged, or no checkpoint (")
    assert "the digest differs); going on from best.ckpt, step " in said
    assert said.count("\n") == 1
    # an epoch or two further back than where it was: the rows of metrics.csv come again, and none twice
    run("run", "trainer.max_epochs=4", checkpoint=newest_intact(last))
    ours, theirs = (
        [row.split(",")[:-2] for row in (tmp_path / name / "metrics.csv").read_text().splitlines()]
        for name in ("run", "whole")
    )
    keep = [i for i, name in enumerate(theirs[0]) if name not in ("seconds", "images_per_second")]
    assert [[row[i] for i in keep if i < len(row)] for row in ours] == [
        [r[i] for i in keep if i < len(r)] for r in theirs
    ]
    assert all(bool((weights(folder)[name] == weight).all()) for name, weight in weights(tmp_path / "whole").items())


def test_where_none_is_intact_there_is_one_line(run: Run) -> None:
    folder = run("run")
    for path in (folder / "checkpoints").iterdir():
        damage(path)
    with pytest.raises(CheckpointError, match="last.ckpt: damaged.*and there is no intact one beside it"):
        newest_intact(folder / "checkpoints" / "last.ckpt")


def test_the_command_falls_back_but_not_from_a_checkpoint_that_was_named(tmp_path: Path, idx_root: Path) -> None:
    folder = tmp_path / "run"
    small = ["trainer=cpu", "data=idx", f"data.root={idx_root}", "latent=4", "trainer.max_epochs=1", "examples=1"]

    def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, str(TRAIN), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert command(*small, f"hydra.run.dir={folder}").returncode == 0
    damage(last := folder / "checkpoints" / "last.ckpt")
    named = command(f"resume={last}")
    assert named.returncode == 1
    assert named.stderr.startswith(f"error: {last}: damaged, or no checkpoint")
    assert named.stderr.count("\n") == 1
    in_folder = command(f"resume={os.path.relpath(folder, tmp_path)}", "trainer.max_epochs=2")
    assert in_folder.returncode == 0, in_folder.stderr
    assert f"warning: skipped {last}" in in_folder.stderr
    assert "going on from best.ckpt" in in_folder.stderr
