"""A sweep in the folder of an earlier one: nothing twice, nothing lost, nothing overwritten."""

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from dae_lightning.errors import CheckpointError
from dae_lightning.sweeps.jobs import Job, differing, folder_of
from dae_lightning.sweeps.run_jobs import tell
from dae_lightning.training import run as training
from dae_lightning.training.many_steps import FusedAdam
from tests.conftest import Settings
from tests.faults.kills import differing_bits, outcome
from tests.faults.processes import Training, before, small

Prepare = Callable[[], object]


def sweep(
    cwd: Path, idx_root: Path, *arguments: str, prepare: Prepare = lambda: None, epochs: int = 1
) -> tuple[int, str]:
    """Run a sweep in `cwd`/sweep, with short names for its folders; its exit status, and what it said."""
    folder = (f"hydra.sweep.dir={cwd / 'sweep'}", f"trainer.max_epochs={epochs}")
    if not any(argument.startswith("hydra.sweep.subdir=") for argument in arguments):
        folder += ("hydra.sweep.subdir=${seed}_${latent}",)

    def telling() -> None:
        train = training.train

        def told(settings: Any, place: Path, checkpoint: Path | None = None, *more: Any) -> float:
            print(f"{place.name} from {checkpoint and checkpoint.name}")
            return train(settings, place, checkpoint, *more)

        training.train = told
        prepare()

    run = Training(cwd, "-m", *small(idx_root, *folder, *arguments), prepare=telling)
    return run.status(), run.said


def records(cwd: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in (cwd / "sweep").glob("*/job.json")}


def test_what_is_finished_is_not_run_again_though_the_grid_and_the_names_have_grown(
    tmp_path: Path, idx_root: Path
) -> None:
    status, said = sweep(tmp_path, idx_root, "seed=0,1", "hydra.sweep.subdir=${seed}")
    assert status == 0, said
    before = records(tmp_path)
    assert {name: record["status"] for name, record in before.items()} == {"0": "finished", "1": "finished"}
    assert before["1"]["config"]["seed"] == 1
    assert before["1"]["config"]["resume"] is None
    assert "seed=1" in before["1"]["overrides"]
    assert before["1"]["value"] == pytest.approx(validation(tmp_path / "sweep" / "1"))
    written = results(tmp_path)

    watched = ("trainer.enable_progress_bar=false", "checkpoint.every_seconds=7")  # on which no result depends
    status, said = sweep(tmp_path, idx_root, "seed=1,2", "latent=4,5", *watched)
    assert status == 0, said
    assert "1: finished before, skipped\n" in said
    assert said.count(" from None\n") == 3
    assert set(records(tmp_path)) == {"0", "1", "1_5", "2_4", "2_5"}
    assert results(tmp_path)["1"] == written["1"]
    assert {"seed=1", "latent=4"} <= set(records(tmp_path)["1"]["overrides"])  # as the grid has it now


def validation(folder: Path) -> float:
    """A run's val/denoising/bce."""
    header, row = (folder / "metrics.csv").read_text().splitlines()
    return float(dict(zip(header.split(","), row.split(","), strict=True))["val/denoising/bce"])


def results(cwd: Path) -> dict[str, int]:
    """When each job's results were written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (cwd / "sweep").glob("*/results.json")}


@pytest.mark.parametrize(
    ("fault", "status", "checkpoint"),
    [(lambda: os.kill(os.getpid(), signal.SIGKILL), "interrupted", "last.ckpt"), (lambda: sys.exit(3), "failed", None)],
    ids=["killed", "failed"],
)
def test_a_killed_job_goes_on_and_a_failed_one_starts_anew_to_the_bits_of_an_untouched_one(
    tmp_path: Path, idx_root: Path, fault: Prepare, status: str, checkpoint: str | None
) -> None:
    arguments = ("seed=0", "checkpoint.every_n_steps=2")
    ended, said = sweep(
        tmp_path, idx_root, *arguments, prepare=lambda: before(FusedAdam, "update", fault, 20), epochs=2
    )
    assert ended == 1, said
    assert records(tmp_path)["0_4"]["status"] == status
    assert (tmp_path / "sweep" / "0_4" / "checkpoints" / "last.ckpt").is_file()
    ended, said = sweep(tmp_path, idx_root, *arguments, epochs=2)
    assert ended == 0, said
    assert f"0_4 from {checkpoint}\n" in said
    assert records(tmp_path)["0_4"]["error"] is None
    whole = tmp_path / "whole"
    assert sweep(whole, idx_root, *arguments, epochs=2)[0] == 0
    assert differing_bits(outcome(tmp_path / "sweep" / "0_4"), outcome(whole / "sweep" / "0_4")) == 0


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, idx_root: Path) -> None:
    kill = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
    sweep(tmp_path, idx_root, "seed=0", prepare=lambda: before(FusedAdam, "update", kill, 20), epochs=2)
    (tmp_path / "sweep" / "0_4" / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
    status, said = sweep(tmp_path, idx_root, "seed=0", epochs=2)
    assert status == 0, said
    assert "0_4 from best.ckpt\n" in said


def test_a_folder_of_another_job_or_of_a_run_is_not_overwritten(tmp_path: Path, idx_root: Path) -> None:
    numbered = "hydra.sweep.subdir=job_${hydra.job.num}"
    assert sweep(tmp_path, idx_root, "seed=0,1", numbered)[0] == 0
    alone = tmp_path / "sweep" / "job_3"
    run = Training(tmp_path / "run", *small(idx_root, f"hydra.run.dir={alone}"))
    assert run.status() == 0, run.said
    written = results(tmp_path)
    status, said = sweep(tmp_path, idx_root, "seed=5,1,0,6", numbered)
    assert status == 1
    other = "another hydra.sweep.dir starts a new sweep"
    assert f"error: job_0: {tmp_path / 'sweep' / 'job_0'}: holds a job with another seed; {other}\n" in said
    assert f"error: job_3: {alone}: holds a run that is no job of a sweep; {other}\n" in said
    assert said.count("finished before, skipped") == 2  # seed 0 too, though it would be job_2 now
    assert results(tmp_path) == written
    assert not (tmp_path / "sweep" / "job_2").exists()


def test_settings_differ_by_what_results_depend_on() -> None:
    one = {"seed": 0, "checkpoint": {"every_seconds": 60}, "trainer": {"enable_progress_bar": True, "max_epochs": 2}}
    same = {"seed": 0, "checkpoint": {"every_seconds": 9}, "trainer": {"enable_progress_bar": False, "max_epochs": 2.0}}
    assert differing(one, same) == []
    assert differing(one, one | {"seed": 1, "trainer": {"max_epochs": 3}}) == ["seed", "trainer.max_epochs"]
    assert differing(one, one | {"latent": 4}) == ["latent"]
    assert differing({"optim": {"lr": 1}}, {"optim": {"lr": 2}}) == ["optim.lr"]
    assert differing(None, one) == [""]


def test_a_line_is_written_in_one_piece() -> None:
    """Jobs that run side by side share a terminal, which may buffer nothing."""

    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    written: list[str] = []
    tell("job: begun", Terminal())
    assert written == ["job: begun\n"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": "finished"}', "\xff"])
def test_a_damaged_record_is_unreadable(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.json").write_text(text, encoding="latin-1")
    job = Job.read(tmp_path)
    assert job is not None
    assert job.status == "unreadable"
    assert (job.error or "").startswith("job.json: ")


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert Job.read(tmp_path) is None
    job = Job(tmp_path, ["seed=1", "+new=2.0"], {"seed": 1, "noise": {"kind": "gaussian"}}).ended("failed", "a reason")
    job.write()
    again = Job.read(tmp_path)
    assert again is not None
    assert asdict(again) == asdict(job)
    assert [again.get(key) for key in ("seed", "new", "noise", "latent")] == ["1", "2", "gaussian", ""]


def test_a_record_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "seed=0").mkdir()
    (tmp_path / "seed=0" / "job.json").write_text("{broken")
    with pytest.raises(CheckpointError, match="job.json: cannot be read; delete the folder to run the job again"):
        folder_of({}, tmp_path / "seed=0", tmp_path)


@pytest.mark.parametrize("key", ["callbacks", "loss", "network.negative_slope", "noise.clip"])
def test_a_job_that_ran_before_a_key_existed_is_the_job_with_its_default(settings: Settings, key: str) -> None:
    now = settings().model_dump(serialize_as_any=True, mode="json")
    earlier, other = json.loads(json.dumps(now)), json.loads(json.dumps(now))
    *groups, name = key.split(".")
    for group in groups:
        earlier, other = earlier[group], other[group]
    del earlier[name]
    other[name] = "another"
    whole = [now | {groups[0]: part} if groups else part for part in (earlier, other)]
    assert differing(whole[0], now) == []
    assert differing(whole[0], whole[1]) == [key]
