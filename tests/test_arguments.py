"""Paths on the command line mean themselves, whatever characters they are made of."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from dae_lightning.cli.arguments import pasteable, quoted, with_paths_quoted
from dae_lightning.cli.hydra_app import CONF

LITERAL = (
    *("run one ñ", "写真", "latent=8", "photos (1)", "2024", "1e3", "true", "it's", "a:b", 'say "hi"', "#1!", "$HOME"),
)
SPECIAL = ("a,b", "[x]", "{y}", "back\\slash", "ends\\", "\\'", "latent=8,seed=1")


def meant(argument: str) -> object:
    """What Hydra makes of an argument."""
    return OverridesParser.create().parse_override(with_paths_quoted(argument)).value()


@pytest.mark.parametrize("path", [*LITERAL, *SPECIAL])
def test_a_path_in_hydras_quotes_is_itself_and_without_them_too_unless_it_looks_like_several(path: str) -> None:
    assert meant(f"checkpoint={quoted(path)}") == path
    assert path in SPECIAL or meant(f"checkpoint={path}") == path
    assert with_paths_quoted(with_paths_quoted(f"images={path}")) == with_paths_quoted(f"images={path}")


@pytest.mark.parametrize("path", [*LITERAL, *SPECIAL])
def test_what_is_to_be_pasted_comes_through_shell_and_hydra(path: str) -> None:
    (argument,) = shlex.split(pasteable("resume", Path(path)))
    assert meant(argument) == path
    assert pasteable("resume", Path("outputs/2026-01-02/03-04-05-678")) == "resume=outputs/2026-01-02/03-04-05-678"


def test_lists_sweeps_nulls_and_a_home_keep_their_meaning() -> None:
    assert meant("checkpoint=[a,b]") == ["a", "b"]
    assert with_paths_quoted("data.root=a,b") == "data.root=a,b"
    assert (meant("output=null"), meant("resume="), meant("latent=8")) == (None, "", 8)
    assert meant("images=~/photos") == os.path.expanduser("~/photos")
    assert meant("checkpoint=a\\=b") == "a=b"


@pytest.mark.parametrize(
    ("path", "said"), [("run one ñ/latent=8 写", str), ("run [one], {ñ}=\\'写", quoted)], ids=["literal", "quoted"]
)
def test_every_command_finds_such_a_run_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, said: Callable[[str], str]
) -> None:
    run = tmp_path / path
    for place in (".hydra", "checkpoints"):
        (run / place).mkdir(parents=True)
    (run / ".hydra" / "config.yaml").write_text("latent: 5\nresume: null\n")
    (run / "checkpoints" / "last.ckpt").touch()
    commands = [
        ["train", f"resume={said(path)}", "latent=6", "--cfg", "job"],
        ["evaluate", f"checkpoint={said(path)}", f"data.root={said(path)}", "data=idx", "--cfg", "job"],
        ["export", f"checkpoint={said(path)}", f"output={said(path)}", "--cfg", "job"],
        ["denoise", f"checkpoint={said(path)}", f"images={said(path)}", f"output={said(path + '/out')}"],
        ["summarize", path],
    ]
    program = (
        "import json, sys; sys.modules |= dict.fromkeys(['torch', 'lightning'])\n"
        "from dae_lightning.cli import commands\n"
        "for name, *arguments in json.loads(sys.argv[1]):\n"
        "    sys.argv[1:] = arguments\n"
        "    try: getattr(commands, name)()\n"
        "    except SystemExit as end: print(end.code or '')\n"
        "    print('---')\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, json.dumps(commands)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(CONF.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    train, evaluate, export, denoise, summarize = answer.stdout.split("---\n")[:5]
    shown = yaml.safe_load(train)
    assert (shown["latent"], shown["resume"]) == (6, str(run))
    shown = yaml.safe_load(evaluate)
    assert (shown["checkpoint"], shown["data"]["root"]) == (path, path)
    monkeypatch.chdir(tmp_path)
    output = {"checkpoint": path, "output": "${evaluation_folder:${checkpoint},elsewhere}"}
    assert OmegaConf.create(output).output == f"{path}/evaluation"
    shown = yaml.safe_load(export)
    assert (shown["checkpoint"], shown["output"]) == (path, path)
    assert denoise.startswith(f"error: images={path}: holds no PNG")
    assert summarize.startswith(f"error: {path}: a single run's folder")
