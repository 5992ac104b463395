"""The newest checkpoint of a run is damaged: it goes on from the newest that is not, and ends as it would have."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dae_lightning.cli import commands
from dae_lightning.cli.run_folders import find_run, to_resume
from dae_lightning.errors import CheckpointError
from dae_lightning.files import replace_text
from dae_lightning.training.resume import newest_intact
from tests.conftest import Run, weights


def damage(path: Path) -> None:
    """Flip one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rows(folder: Path) -> list[dict[str, str]]:
    """Of metrics.csv, the timings aside."""
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in r.items() if k not in ("seconds", "images_per_second")} for r in csv.DictReader(file)]


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
    assert said.startswith(f"warning: skipped {last}: damaged: the SHA-256 digest differs; ")
    assert "resuming from best.ckpt, step " in said
    assert said.count("\n") == 1
    # further back than it was: the rows of metrics.csv come again, and none twice
    run("run", "trainer.max_epochs=4", checkpoint=newest_intact(last))
    assert rows(folder) == rows(tmp_path / "whole")
    assert all(bool((weights(folder)[name] == weight).all()) for name, weight in weights(tmp_path / "whole").items())


@pytest.mark.parametrize("lose", [damage, Path.unlink])
def test_without_held_out_images_the_one_before_is_there_to_fall_back_to(
    run: Run, capsys: pytest.CaptureFixture[str], lose: Callable[[Path], None]
) -> None:
    folder = run("run", "trainer.max_epochs=3", "data.val_size=0")
    last, previous = folder / "checkpoints" / "last.ckpt", folder / "checkpoints" / "previous.ckpt"
    assert sorted(last.parent.iterdir()) == [last, previous]
    lose(last)
    replace_text(folder / ".hydra" / "config.yaml", "")
    assert find_run(str(folder)) == (folder, last)
    assert to_resume("last", folder) == to_resume("auto", folder) == last
    assert newest_intact(last) == previous
    assert "resuming from previous.ckpt, step " in capsys.readouterr().err


def test_where_none_is_intact_there_is_one_line(run: Run) -> None:
    folder = run("run")
    for path in (folder / "checkpoints").iterdir():
        damage(path)
    with pytest.raises(CheckpointError, match="last.ckpt: damaged.*and there is no intact one beside it"):
        newest_intact(folder / "checkpoints" / "last.ckpt")


def test_the_command_falls_back_but_not_from_a_checkpoint_that_was_named(
    tmp_path: Path, idx_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def command(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["train.py", *arguments])
        commands.train()
        return capsys.readouterr().err

    small = ["trainer=cpu", "data=idx", f"data.root={idx_root}", "latent=4", "trainer.max_epochs=2", "examples=1"]
    small += ["trainer.enable_progress_bar=false", "hydra.run.dir=run"]
    command(*small)
    damage(last := tmp_path / "run" / "checkpoints" / "last.ckpt")
    with pytest.raises(SystemExit) as refused:
        command(f"resume={last}")
    assert str(refused.value).startswith(f"error: {last}: damaged")
    for arguments in (["resume=run"], [*small, "resume=last"], [*small, "resume=auto"]):
        shutil.copy(last.with_name("best.ckpt"), last)
        damage(last)
        said = command(*arguments)
        assert f"warning: skipped {last.relative_to(tmp_path)}" in said or f"warning: skipped {last}" in said
        assert "resuming from best.ckpt" in said
