"""Choices of one's own: a folder of YAML files beside a command, `--config-dir DIR`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dae_lightning.cli.checks import check_sweep
from dae_lightning.cli.choices import choices
from dae_lightning.errors import ConfigError

ROOT = Path(__file__).parent.parent
FILES = {
    "noise/strong.yaml": "defaults: [gaussian]\nsigma: 4.0\n",
    "data/few.yaml": "defaults: [glyphs]\ntest_size: 100\n",
    "callbacks/patient.yaml": "defaults: [early_stopping]\npatience: 50\n",
    "experiment/mine.yaml": "# @package _global_\ndefaults:\n  - override /noise: strong\nlatent: 64\n",
}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of them, whose name has a space."""
    folder = tmp_path / "my choices"
    for place, text in FILES.items():
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_text(text)
    return folder


def called(command: str, *arguments: object, status: int = 0) -> str:
    """What a command says, without torch."""
    program = "import sys; sys.modules['torch'] = None\n"
    program += f"from dae_lightning.cli.main import {command}; {command}()"
    said = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == status, said.stderr
    return said.stdout + said.stderr


def test_they_are_chosen_as_the_packages_own(own: Path) -> None:
    said = called("train", "--config-dir", own, "experiment=mine", "callbacks=patient", "--cfg", "job")
    values = yaml.safe_load(said)
    assert (values["noise"]["kind"], values["noise"]["sigma"], values["latent"]) == ("gaussian", 4.0, 64)
    assert values["callbacks"] == {
        "kind": "early_stopping",
        "monitor": "val/denoising/${loss}",
        "patience": 50,
        "min_delta": 0.0,
    }
    evaluated = yaml.safe_load(called("evaluate", f"--config-dir={own}", "data=few", "--cfg", "job"))
    assert (evaluated["data"]["kind"], evaluated["data"]["test_size"]) == ("glyphs", 100)


def test_help_lists_them(own: Path) -> None:
    said = called("train", "--help", "--config-dir", own)
    assert "noise: gaussian, gaussian_range, masking, salt_and_pepper, strong\n" in said
    assert "mine, notebook_sigma2" in said


def test_a_sweep_over_them_is_one_over_something(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "noise=glob(str*)"])
    with pytest.raises(ConfigError, match="has no value to sweep over"):
        check_sweep(sys.argv[1:])
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--config-dir", str(own)])
    assert "strong" in choices("noise")
    check_sweep(sys.argv[1:])


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_mistake_in_them_is_one_line(own: Path, command: str) -> None:
    (own / "data" / "few.yaml").write_text("kind: glyphs\ntrain_size: 0\ntest_size: 5\n")
    said = called(command, "--config-dir", own, "data=few", *["checkpoint=a"] * (command == "evaluate"), status=1)
    assert said == "error: data.train_size=0: must be at least 1\n"
    said = called(command, "--config-dir", own / "data" / "nowhere", status=1)
    assert said.startswith("error: ")
    assert str(own / "data" / "nowhere") in said
    assert said.count("\n") == 1
