"""The JSON Schemas beside `conf/*.yaml`: those of the code, and what an editor would make of the files."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dae_lightning.cli.hydra_app import CONF
from dae_lightning.cli.schema import main

FILES = sorted([*CONF.glob("*.yaml"), *CONF.glob("*/*.yaml")])


def referred(path: Path) -> Path:
    """The schema in a YAML file's first line, or below the one that Hydra wants to be the first."""
    line, second, *_ = path.read_text().splitlines()
    line = second if line.startswith("# @package") else line
    found = re.fullmatch(r"# yaml-language-server: \$schema=(.*)", line)
    assert found, line
    return (path.parent / found[1]).resolve()


def complaints(path: Path, values: Any) -> list[str]:
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    return [error.message for error in validator(json.loads(referred(path).read_text())).iter_errors(values)]


def test_the_schemas_are_those_of_the_code(tmp_path: Path) -> None:
    """(Else: python -m dae_lightning.cli.schema.) In a process of its own, where no test has registered kinds."""
    for group in filter(Path.is_dir, CONF.iterdir()):
        (tmp_path / group.name).mkdir()
    subprocess.run([sys.executable, "-m", "dae_lightning.cli.schema", tmp_path], check=True, cwd=CONF.parent)
    made, shipped = (
        {path.relative_to(top): path.read_text() for path in top.rglob("*.json")} for top in (tmp_path, CONF)
    )
    assert made == shipped


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_a_file_refers_to_its_schema_which_has_nothing_against_it_but_all_against_a_mistake(path: Path) -> None:
    group = path.parent.name
    own = CONF / f"{'train' if group == 'experiment' else path.stem}.schema.json"
    assert referred(path) == (own if group in ("conf", "experiment") else path.parent / "schema.json")
    values = yaml.safe_load(path.read_text())
    assert complaints(path, values) == []
    assert complaints(path, values | {"latnt": 3})
    for key, value in values.items():
        if isinstance(value, (int, float)):
            assert complaints(path, values | {key: "two"}), key


@pytest.mark.parametrize(
    ("place", "mistake"),
    [
        ("train.yaml", {"latent": 0}),
        ("train.yaml", {"output_bias": "mean"}),
        ("noise/gaussian.yaml", {"kind": "gausian"}),
        ("noise/gaussian.yaml", {"probability": 0.5}),
        ("experiment/best_sigma2.yaml", {"noise": {"sgma": 2.0}}),
        ("experiment/best_sigma2.yaml", {"trainer": {"max_epochs": 1.5}}),
        ("trainer/cpu.yaml", {"accelerator": "tpu"}),
        ("logger/mlflow.yaml", {"root": 3}),
    ],
)
def test_a_mistake_is_seen(place: str, mistake: dict[str, Any]) -> None:
    values = yaml.safe_load((CONF / place).read_text())
    assert complaints(CONF / place, values | mistake)


def test_ones_own_choices_get_schemas_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    main(tmp_path)
    assert (tmp_path / "noise" / "schema.json").is_file()
    assert (tmp_path / "train.schema.json").is_file()
    assert not (tmp_path / "optim").exists()
