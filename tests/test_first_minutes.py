"""From an empty folder to a page in a browser: every command says what comes next, and `latest` finds the run."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from dae_lightning.cli.run_folders import latest_run
from dae_lightning.errors import CheckpointError
from dae_lightning.locks import sole_use
from tests.faults.processes import Training, small

ROOT = Path(__file__).parent.parent
CALL = "import sys; from dae_lightning.cli.main import {0}; {0}()"
NO_TORCH = "import sys; sys.modules['torch'] = None; "


def called(folder: Path, command: str, *arguments: str, torch: bool = True) -> "subprocess.CompletedProcess[str]":
    """A command in a folder, as `dae-COMMAND`."""
    program = ("" if torch else NO_TORCH) + CALL.format(command)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def save(folder: Path, name: str, time: float) -> None:
    """A checkpoint in a run folder, of that time."""
    path = folder / "checkpoints" / f"{name}.ckpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time, time))


def test_latest_is_the_run_below_outputs_that_saved_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run, job = Path("outputs/2026-01-31/10-00-00"), Path("outputs/multirun/2026-01-30/10-00-00/latent=3")
    save(run, "last", 100)
    assert latest_run() == str(run)
    save(job, "best", 200)
    save(job, "last", 150)
    save(Path("outputs/killed"), "previous", 300)  # of which no command takes a checkpoint
    save(Path("elsewhere"), "last", 400)
    (tmp_path / "outputs/2026-02-01/10-00-00/checkpoints").mkdir(parents=True)
    assert latest_run() == str(job)
    save(run, "last", 500)  # resumed
    assert latest_run() == str(run)


def test_latest_says_which_run_it_is_and_whether_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("outputs/a"), "last", 100)
    latest_run()
    with sole_use(Path("outputs/a")):
        latest_run()
    assert capsys.readouterr().err == ("checkpoint=latest: outputs/a\ncheckpoint=latest: outputs/a (still training)\n")


def test_without_a_run_latest_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs/evaluation").mkdir(parents=True)
    with pytest.raises(CheckpointError) as error:
        latest_run()
    expected = f"checkpoint=latest: no run with a checkpoint in {tmp_path / 'outputs'}; dae-train starts one"
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["denoise", "checkpoint=latest", "images=nowhere"], "images=nowhere: no such file or folder"),
        (["evaluate", "checkpoint=[latest,nowhere]"], "checkpoint=nowhere: no such file or run folder"),
        (["export", "checkpoint=[nowhere,latest]", "format=page"], "checkpoint=nowhere: no such file or run folder"),
    ],
)
def test_every_command_finds_latest_without_torch(tmp_path: Path, arguments: list[str], message: str) -> None:
    save(tmp_path / "outputs/a", "last", 100)
    answer = called(tmp_path, *arguments, torch=False)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == f"checkpoint=latest: outputs/a\nerror: {message}\n"


@pytest.mark.slow
def test_a_run_ends_with_the_next_command(tmp_path: Path, idx_root: Path) -> None:
    (tmp_path / "mine.py").touch()
    run = Training(tmp_path, *small(idx_root, "hydra.run.dir=a run", "plugins=[mine]"))
    assert run.status() == 0, run.said
    *_, folder, last = run.said.splitlines()
    assert folder.endswith(f": {tmp_path / 'a run'}")
    assert last.startswith("next: ")
    command, *arguments = shlex.split(last.removeprefix("next: "))
    exported = called(tmp_path, command.removeprefix("dae-"), *arguments)
    assert exported.returncode == 0, exported.stderr
    assert opened(exported.stdout) == tmp_path / "a run" / "checkpoints" / "best.html"


def test_a_run_without_a_checkpoint_and_a_job_of_a_sweep_name_none(tmp_path: Path, idx_root: Path) -> None:
    for arguments in (["+trainer.fast_dev_run=1"], ["-m", "seed=0,1"]):
        run = Training(tmp_path, *arguments, *small(idx_root))
        assert run.status() == 0, run.said
        assert "next:" not in run.said


def opened(said: str) -> Path:
    """The page that the last line tells to open."""
    line = said.splitlines()[-1]
    assert line.startswith("open it in a browser: file://")
    page = Path(unquote(urlparse(line.removeprefix("open it in a browser: ")).path))
    assert "</html>" in page.read_text(encoding="utf-8")
    return page


@pytest.mark.slow
def test_the_demo_leaves_a_page_of_two_models_and_runs_like_any_other(tmp_path: Path) -> None:
    demo = called(tmp_path, "demo")
    assert demo.returncode == 0, demo.stderr
    page = opened(demo.stdout)
    assert page.parent.parent == tmp_path / "outputs" / "demo"
    assert '"trained": "sigma 0.03 to 8"' in page.read_text(encoding="utf-8")
    assert '"trained": "sigma 2"' in page.read_text(encoding="utf-8")
    said = [shlex.split(line[2:]) for line in demo.stdout.splitlines() if line.startswith("$ ")]
    assert [command for command, *_ in said] == ["dae-train", "dae-train", "dae-export"]
    again = called(tmp_path, "export", *said[2][1:-1], "output=again.html")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()

    evaluated = called(tmp_path, "evaluate", "checkpoint=latest", "limit=100", "methods=[noisy]")
    assert evaluated.returncode == 0, evaluated.stderr
    assert (page.parent / "sigma2" / "evaluation" / "evaluation.csv").is_file()
    resumed = called(tmp_path, "train", f"resume={page.parent / 'sigma2'}")
    assert "the run is finished" in resumed.stdout


def test_the_demo_takes_no_keys(tmp_path: Path) -> None:
    assert called(tmp_path, "demo", "--help", torch=False).stdout.startswith("dae-demo\n")
    refused = called(tmp_path, "demo", "data=mnist", torch=False)
    assert (refused.returncode, refused.stderr) == (1, "error: data=mnist: dae-demo takes no keys; dae-train does\n")
    assert list(tmp_path.iterdir()) == []
