"""The command line as a person uses it: answers at once, errors in one line, run folders, sweeps, resuming."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dae_lightning import schema
from dae_lightning.cli.hydra_app import CONF, _evaluation_folder, _folder_name
from dae_lightning.config import Denoise, Evaluate, Export, Train, Trainer
from tests.conftest import Run

TRAIN = Path(__file__).parent.parent / "train.py"
NO_TORCH = (
    "import runpy, sys\n"
    "sys.modules['torch'] = sys.modules['lightning'] = None\n"  # importing either is now an error
    "sys.argv = sys.argv[1:]\n"
    "runpy.run_path(sys.argv[0], run_name='__main__')\n"
)
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """`python train.py` in an empty folder; with torch=False it cannot import torch or lightning."""

    def called(*arguments: str, torch: bool = False) -> "subprocess.CompletedProcess[str]":
        python = [sys.executable] if torch else [sys.executable, "-c", NO_TORCH]
        return subprocess.run(
            [*python, str(TRAIN), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    return called


def test_help_explains_the_keys_and_lists_the_choices_without_torch(command: Command) -> None:
    shown = command("--help")
    assert shown.returncode == 0, shown.stderr
    assert "noise: gaussian, gaussian_range, masking, salt_and_pepper" in shown.stdout
    experiments = (
        "any_sigma, best_sigma2, best_sigma6, fast_sigma2, fast_sigma6, notebook_sigma2, notebook_sigma6, "
        "photographs, pictures"
    )
    assert f"experiment: {experiments}\n" in shown.stdout
    explained = set(re.findall(r"^  ([\w.]+)=\S+ {2,}\S", shown.stdout, re.MULTILINE))
    assert {"latent", "noise.sigma", "data.root", "resume"} <= explained <= schema.keys(Train)
    with_a_plus = {name for name, field in Trainer.model_fields.items() if not field.is_required()} - {"strategy"}
    assert not [flag for flag in with_a_plus if flag not in shown.stdout]


def test_the_configuration_is_shown_without_torch(command: Command) -> None:
    shown = command("--cfg", "job", "noise.sigma=6")
    assert shown.returncode == 0, shown.stderr
    assert yaml.safe_load(shown.stdout)["noise"] == {"kind": "gaussian", "mean": 0.0, "sigma": 6, "clip": False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["latnt=3"], "latnt: no such key; did you mean latent? (--help explains the keys)\n"),
        (["zzz=3"], "zzz: no such key; --help explains the keys\n"),
        (["+zzz=3"], "zzz=3: no such key; --help explains the keys\n"),
        (["epochs=3"], "epochs: no such key; did you mean trainer.max_epochs?"),
        (["noise.sgma=3"], "noise.sgma: no such key; did you mean noise.sigma?"),
        (["sigma=3"], "sigma: no such key; did you mean noise.sigma?"),
        (["+latnt=3"], "latnt=3: no such key; did you mean latent?"),
        (["+trainer.limit_train_batchs=3"], "did you mean trainer.limit_train_batches?"),
        (["+trainer.overfit_batches=1"], "trainer.overfit_batches=1: not a flag of this command; train a Denois"),
        (["trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches: not a flag of this command; train a"),
        (["noise=gausian"], "noise=gausian: no such choice; did you mean gaussian?"),
        (["noise.probability=0.3"], "noise.probability: not a key of the chosen noise"),
        (["trainer.limit_train_batches=3"], "add it with a plus: +trainer.limit_train_batches=..."),
        (["noise.sigma=inf"], "noise.sigma=inf: must be a finite number"),
        (["experiment=notebook_sigma2", "noise=masking"], "no such key with noise.kind=masking"),
        (["latent=9999999999"], "latent=9999999999: must be at most 1048576"),
        (["noise.sigma=-1"], "noise.sigma=-1: must be at least 0"),
        (["noise.sigma=nan"], "noise.sigma=nan: must be a finite number"),
        (["noise.sigma=two"], "noise.sigma=two: must be a finite number"),
        (["latent=0"], "latent=0: must be at least 1"),
        (["latent=2.5"], "latent=2.5: must be a whole number"),
        (["noise=gaussian_range", "noise.low=7"], "noise.low=7: must be at most high=6"),
        (["noise=gaussian_range", "noise.low=0"], "noise.low=0: must be above 0"),
        (["noise=masking", "noise.probability=1.5"], "noise.probability=1.5: must be at most 1"),
        (["optim.betas=[0.9,1]"], "optim.betas[1]=1: must be below 1"),
        (["trainer.max_epochs=null"], "trainer.max_epochs=None: must be a whole number"),
        (["noise.sigma=[1"], "[1"),
        (["resume=nowhere"], "resume=nowhere: no such file"),
        (["resume=."], "resume=.: no checkpoints/last.ckpt in it"),
        (["-m", "resume=a"], "resume=a: resumes a single run; leave out -m"),
        (["hydra.run.dir=/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_a_status_without_torch(
    command: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    answer = command(*arguments)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert answer.stderr.startswith("error: ")
    assert message in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "checkpoint: missing; give checkpoint=..."),
        (["checkpoint=nowhere"], "checkpoint=nowhere: no such file or run folder"),
        (["checkpoint=."], "checkpoint=.: no checkpoints/best.ckpt or last.ckpt in it"),
        (["checkpoint=[nowhere,b]"], "checkpoint=nowhere: no such file or run folder"),
        (["checkpoint=a", "sigmas=[1,-1]"], "sigmas[1]=-1: must be at least 0"),
        (["checkpoint=a", "sigmas=[]"], "sigmas=[]: must be a list of 1 or more"),
        (["checkpoint=a", "probabilities=[2]"], "probabilities[0]=2: must be at most 1"),
        (["checkpoint=a", "methods=[median,mean]"], "methods[1]=mean: must be one of noisy, noisy_clipped"),
        (["checkpoint=a", "sigma=1"], "sigma: no such key; did you mean sigmas?"),
        (["checkpoint=a", "methods=[wiener,median]"], "methods=[median]: skimage, pywt are not installed; pip install"),
        (["checkpoint=a", "probe=true"], "probe=true: sklearn is not installed; pip install 'dae_lightning[baselines]"),
        (["checkpoint=a", "data=idxx"], "data=idxx: no such choice; did you mean idx?"),
    ],
)
def test_evaluating_answers_a_mistake_in_the_same_way(tmp_path: Path, arguments: list[str], message: str) -> None:
    code = (
        "import sys; sys.modules |= dict.fromkeys(['torch', 'skimage', 'sklearn', 'pywt'])\n"
        "from dae_lightning.cli.commands import evaluate; evaluate()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TRAIN.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert answer.stderr.startswith("error: ")
    assert message in answer.stderr


def test_an_evaluation_lies_in_its_run_unless_told_otherwise(tmp_path: Path) -> None:
    assert _evaluation_folder(str(tmp_path), "elsewhere") == f"{tmp_path}/evaluation"
    assert _evaluation_folder(str(tmp_path / "best.ckpt"), "elsewhere") == "elsewhere"
    assert _evaluation_folder([str(tmp_path)], "elsewhere") == "elsewhere"


SMALL = ["trainer=cpu", "latent=4", "batch_size=16", "data=idx", "examples=2"]


@pytest.mark.slow
def test_a_run_has_a_folder_of_its_own_and_goes_on_there_from_anywhere(
    command: Command, idx_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "images").symlink_to(idx_root)
    first = command(*SMALL, "data.root=images", "trainer.max_epochs=1", "noise.sigma=1", torch=True)
    assert first.returncode == 0, first.stderr
    (folder,) = (tmp_path / "outputs").glob("*/*")
    assert "denoising (noisy in)" in first.stdout
    assert {path.name for path in folder.iterdir()} == {
        *(".hydra", ".lock", "checkpoints", "figures", "metrics.csv", "results.json")
    }

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    again = subprocess.run(
        [sys.executable, str(TRAIN), f"resume=../{folder.relative_to(tmp_path)}", "trainer.max_epochs=2"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert list(elsewhere.iterdir()) == []
    results = json.loads((folder / "results.json").read_text())
    assert results["epochs"] == 2
    assert results["config"]["noise"]["sigma"] == 1
    assert results["config"]["latent"] == 4

    recorded = (folder / ".hydra" / "config.yaml").read_text()
    lines = [line for line in first.stderr.splitlines() if line.startswith("epoch 1/1")]
    written = (folder / "metrics.csv").read_text().splitlines()
    (loss,) = [row["train/loss"] for row in csv.DictReader(written) if row["epoch"] == "1"]
    assert f"train/loss {float(loss):.4f}" in lines[0]
    afresh = command(*SMALL, "data.root=images", f"hydra.run.dir={folder}")
    assert "holds a run; resume=auto resumes it" in afresh.stderr
    fewer = command(f"resume={folder}", "trainer.max_epochs=1", torch=True)
    assert "trainer.max_epochs=1: the run has already trained 2 epochs" in fewer.stderr
    other = command(f"resume={folder / 'checkpoints' / 'best.ckpt'}", "latent=5", torch=True)
    assert other.returncode == 1
    assert other.stderr.startswith("error: ")
    assert "has latent 4, but the settings and data ask for 5" in other.stderr
    assert (folder / ".hydra" / "config.yaml").read_text() == recorded  # a refusal leaves the run as it was
    shown = command(f"resume={folder}", "--cfg", "job")
    assert yaml.safe_load(shown.stdout)["trainer"]["max_epochs"] == 2
    choice = command(f"resume={folder}", "trainer=gpu")
    assert "trainer=gpu: a run keeps the choices that it was started with" in choice.stderr
    moved = command(f"resume={folder}", "hydra.run.dir=elsewhere")
    assert "hydra.run.dir='elsewhere': a run is resumed in its own folder" in moved.stderr


@pytest.mark.slow
def test_a_sweep_has_a_folder_per_job_named_by_its_overrides_and_a_bad_job_stops_no_other(
    command: Command, idx_root: Path, tmp_path: Path
) -> None:
    sweep = tmp_path / "sweep"
    answer = command(
        "-m", *SMALL, f"data.root={idx_root}", "noise.sigma=-1,2", "latent=3,4", "trainer.max_epochs=1",
        f"hydra.sweep.dir={sweep}", torch=True,
    )  # fmt: skip
    assert answer.returncode == 1
    assert "noise.sigma=-1: must be at least 0" in answer.stderr
    done = {path.parent.name for path in sweep.glob("*/results.json")}
    assert len(done) == 2
    assert "denoising: PSNR" in answer.stdout  # the summary, though jobs failed
    assert len((sweep / "summary.csv").read_text().splitlines()) == 1 + 4
    assert {("latent=3" in name, "noise.sigma=2" in name) for name in done} == {(True, True), (False, True)}


def test_folder_names_hold_no_separator_and_fit_any_file_system() -> None:
    assert _folder_name("latent=3,optim.lr=1e-3") == "latent=3,optim.lr=1e-3"
    assert _folder_name("data.root='../a b',latent=3").startswith("data.root=.._a_b,latent=3-")
    names = {_folder_name(f"data.root={'写' * 300}{i}") for i in range(3)}
    assert len(names) == 3
    assert max(len(name.encode()) for name in names) <= 200


def test_different_jobs_never_share_a_folders_name() -> None:
    overrides = ["a/b", "a_b", "a//b", "a b", "'a b'", "写", "真", "x,latent=3", "'x,latent=3'", "x" * 300, "x" * 301]
    assert len({_folder_name(f"data.root={root}") for root in overrides}) == len(overrides)


def test_defaults_live_in_yaml_and_every_group_in_help_exists() -> None:
    assert {path.name for path in CONF.iterdir() if path.is_dir()} == {
        *("callbacks", "data", "experiment", "logger", "network", "noise", "optim", "trainer")
    }


CALL = "import sys; from dae_lightning.cli import commands; getattr(commands, sys.argv.pop(1))()"


@pytest.fixture
def tool(tmp_path: Path) -> Command:
    """`dae-denoise` or `dae-export` in an empty folder; with torch=False they can import neither torch nor onnx."""

    def called(*arguments: str, torch: bool = False) -> "subprocess.CompletedProcess[str]":
        absent = "('torch', 'lightning', 'onnx', 'onnxscript')"
        block = "" if torch else f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
        return subprocess.run(
            [sys.executable, "-c", block + CALL, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TRAIN.parent), os.environ.get("PYTHONPATH", "")])},
            capture_output=True,
            text=True,
            check=False,
        )

    return called


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["denoise"], "checkpoint and images: missing; give checkpoint=..."),
        (["denoise", "checkpoint=a", "image=b"], "image: no such key; did you mean images?"),
        (["denoise", "checkpoint=a", "images=."], "checkpoint=a: no such file or run folder"),
        (
            ["denoise", "checkpoint=.", "images=."],
            "checkpoint=.: no checkpoints/best.ckpt or last.ckpt in it",
        ),
        (["denoise", "checkpoint=model.ckpt", "images=b"], "images=b: no such file or folder"),
        (
            ["denoise", "checkpoint=model.ckpt", "images=."],
            "images=.: holds no PNG, JPEG, WebP, BMP or TIFF images",
        ),
        (
            ["denoise", "checkpoint=a", "images=b", "corrupt=true", "sigma=-1"],
            "sigma=-1: must be at least 0",
        ),
        (["denoise", "checkpoint=a", "images=b", "resize=2"], "resize=2: must be true or false"),
        (["denoise", "checkpoint=[1"], "checkpoint=[1: not understood"),
        (["denoise", "-m", "checkpoint=a,b"], "-m: only dae-train runs several jobs; call dae-denoise once for each"),
        (["export", "checkpoint=a", "-m"], "-m: only dae-train runs several jobs"),
        (["export"], "checkpoint: missing; give checkpoint=..."),
        (["export", "checkpoint=a", "format=tflite"], "format=tflite: must be one of onnx, torch"),
        (["export", "checkpoint=a", "format=torch"], "checkpoint=a: no such file or run folder"),
        (["export", "checkpoint=a"], "pip install 'dae_lightning[export]'"),
    ],
)
def test_a_mistake_in_using_a_model_is_one_line_and_a_status_without_torch(
    tool: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "model.ckpt").touch()
    answer = tool(*arguments)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert answer.stderr.startswith("error: ")
    assert message in answer.stderr


@pytest.mark.parametrize(("name", "kind"), [("denoise", Denoise), ("evaluate", Evaluate), ("export", Export)])
def test_the_help_of_a_tool_explains_its_own_keys_without_torch(tool: Command, name: str, kind: type) -> None:
    shown = tool(name, "--help")
    assert shown.returncode == 0, shown.stderr
    explained = {key.split(".")[0] for key in re.findall(r"^  ([\w.]+)=\S+ {2,}\S", shown.stdout, re.MULTILINE)}
    known = {key.split(".")[0] for key in schema.keys(kind)}
    assert explained | {"checkpoint", "images"} & known == known


def test_the_configuration_of_a_tool_is_shown_and_no_folder_made(tool: Command, tmp_path: Path) -> None:
    shown = tool("evaluate", "limit=3", "--cfg", "job", "data=idx")
    assert shown.returncode == 0, shown.stderr
    values = yaml.safe_load(shown.stdout)
    assert (values["limit"], values["data"]["kind"], "hydra" in values) == (3, "idx", False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_is_put_to_use_and_leaves_nothing_else_behind(tool: Command, tmp_path: Path, run: Run) -> None:
    folder = run("run", "trainer.max_epochs=1")
    (tmp_path / "photos").mkdir()
    Image.new("L", (12, 12), 90).save(tmp_path / "photos" / "good.png")
    (tmp_path / "photos" / "bad.png").touch()
    done = tool("denoise", f"checkpoint={folder}", "images=photos", "device=cpu", torch=True)
    assert done.returncode == 1
    assert done.stdout.startswith("1 images in 1 files denoised, in denoised\n")
    assert "skipped: photos/bad.png is empty\n" in done.stdout
    assert done.stderr == "error: 1 of 2 files skipped, as listed above\n"
    written = tool("export", f"checkpoint={folder}", "format=torch", "output=model.pt2", torch=True)
    assert written.returncode == 0, written.stderr
    assert "model.pt2: agrees with the model" in written.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"run", "photos", "denoised", "model.pt2"}


def interrupted(program: str, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """A program that sends itself SIGINT somewhere; modules in `cwd` come first."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(cwd), str(TRAIN.parent)])},
        capture_output=True,
        text=True,
        check=False,
    )


CTRL_C = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.5)\n"


COMMANDS = ["train", "denoise", "evaluate", "export", "demo", "summarize"]


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_before_a_command_has_begun_is_no_traceback(tmp_path: Path, command: str) -> None:
    """It comes within the first import that takes time."""
    (tmp_path / "hydra.py").write_text(CTRL_C)
    stopped = interrupted(f"from dae_lightning.cli.main import {command}; {command}()", cwd=tmp_path)
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (-signal.SIGINT, "", "")


def test_ctrl_c_within_a_later_import_waits_for_its_end(tmp_path: Path) -> None:
    """Libraries answer an import that is broken off with errors of their own."""
    (tmp_path / "slow.py").write_text(f"{CTRL_C}print('imported')\n")
    program = "from dae_lightning.cli.main import train; train()"
    stopped = interrupted(program, "plugins=[slow]", "data.root=nowhere", cwd=tmp_path)
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (130, "imported\n", "stopped by SIGINT\n")


def test_ctrl_c_after_the_last_line_of_a_command_is_no_traceback(tmp_path: Path) -> None:
    program = (
        "import atexit, os, signal; atexit.register(os.kill, os.getpid(), signal.SIGINT)\n"
        "from dae_lightning.cli.main import train; train()"
    )
    ended = interrupted(program, "--help", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


def test_every_program_starts_where_ctrl_c_is_handled_first() -> None:
    scripts = (TRAIN.parent / "pyproject.toml").read_text().split("[project.scripts]")[1].split("\n\n")[0].split()
    assert [place for place in scripts if "dae_lightning" in place] == [
        f'"dae_lightning.cli.main:{name}"' for name in COMMANDS
    ]
    assert "from dae_lightning.cli.main import train\n" in TRAIN.read_text()
