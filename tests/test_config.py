"""The real configurations in `conf/`: every choice and every flag trains, and the schema knows them all."""

import inspect
import json
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from PIL import Image

from dae_lightning import config, kinds
from dae_lightning.cli.hydra_app import CONF, checked
from dae_lightning.errors import TrainingError
from tests.conftest import Run, Settings

FLAGS = {
    "benchmark": "true",
    "check_val_every_n_epoch": "2",
    "detect_anomaly": "true",
    "deterministic": "true",
    "enable_model_summary": "true",
    "fast_dev_run": "true",
    "gradient_clip_algorithm": "value",
    "gradient_clip_val": "1",
    "inference_mode": "false",
    "limit_train_batches": "3",
    "limit_val_batches": "1.0",
    "limit_test_batches": "1",
    "log_every_n_steps": "2",
    "max_steps": "5",
    "max_time": "00:00:10:00",
    "num_sanity_val_steps": "1",
    "precision": "bf16-mixed",
    "profiler": "simple",
}


CHOICES = [
    f"{path.parent.name}={path.stem}"
    for path in sorted(CONF.glob("*/*.yaml"))
    if path.parent.name not in ("data", "experiment", "logger")
    and path.stem not in ("gpu", "ddp")  # test_distributed.py
]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_trains(run: Run, choice: str) -> None:
    folder = run("run", choice, "trainer.max_epochs=1")
    assert json.loads((folder / "results.json").read_text())["optimizer_steps"] == 15


def test_glyphs_train(run: Run) -> None:
    folder = run("run", "data=glyphs", "data.train_size=60", "data.test_size=20", "trainer.max_epochs=1")
    assert json.loads((folder / "results.json").read_text())["optimizer_steps"] == 7  # 55 images, 8 a batch


@pytest.mark.parametrize("rgb", [False, True])
def test_an_image_folder_trains(run: Run, tmp_path: Path, rgb: bool) -> None:
    (tmp_path / "images").mkdir()
    for i in range(20):
        pixels = torch.randint(256, (12, 14, 3) if rgb else (12, 14), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / "images" / f"{i}.png")
    folder = run("run", "data=image_folder", f"data.root={tmp_path / 'images'}", "trainer.max_epochs=1")
    assert json.loads((folder / "results.json").read_text())["optimizer_steps"] == 2  # 16 train, 1 of them held out


@pytest.mark.parametrize("sigma", [2, 6])
def test_the_notebooks_experiments_are_its_recipes(settings: Settings, sigma: int) -> None:
    recipe = settings(
        f"experiment=notebook_sigma{sigma}",
        "latent=192",
        "batch_size=32",
        "trainer.max_epochs=100",
    )
    assert recipe.latent == 192
    assert recipe.noise == kinds.GaussianNoise(kind="gaussian", mean=0.0, sigma=sigma)
    assert recipe.optim == kinds.Adam(kind="adam", lr=1e-3, betas=(0.9, 0.999), eps=1e-7)
    assert recipe.data.val_size == 0


@pytest.mark.parametrize("name", ["best", "fast"])
@pytest.mark.parametrize("sigma", [2, 6])
def test_the_other_experiments_train_the_notebooks_task_on_no_more_images(name: str, sigma: int) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        recipe, notebook = (
            checked(compose("train", [f"experiment={each}_sigma{sigma}", "data=glyphs"]), config.Train)
            for each in (name, "notebook")
        )
    assert (recipe.noise, recipe.latent, recipe.data) == (notebook.noise, notebook.latent, notebook.data)
    assert recipe.trainer.max_epochs == 100


def test_the_models_default_optimiser_is_the_configurations() -> None:
    shipped = yaml.safe_load((CONF / "optim" / "adam.yaml").read_text())
    assert shipped == kinds.Adam(kind="adam").model_dump(mode="json")


def test_the_schema_names_only_flags_that_the_trainer_has() -> None:
    flags = set(config.Trainer.model_fields)
    assert flags | set(config.OTHER_FLAGS) == inspect.signature(pl.Trainer).parameters.keys()
    tested = {"accelerator", "devices", "max_epochs", "enable_progress_bar", *FLAGS}
    tested |= {"strategy", "num_nodes"}  # test_distributed.py
    assert flags == tested


@pytest.mark.parametrize("flag", FLAGS)
def test_every_trainer_flag_trains(run: Run, settings: Settings, flag: str) -> None:
    folder = run("run", f"{'' if flag == 'precision' else '+'}trainer.{flag}={FLAGS[flag]}")
    steps = json.loads((folder / "results.json").read_text())["optimizer_steps"]
    expected = {"fast_dev_run": 1, "limit_train_batches": 2 * 12, "max_steps": 5}
    assert steps == expected.get(flag, 2 * 15)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.devices=[0]", r"trainer.devices=\[0\]: names a GPU, but this run is on the CPU"),
        ("+trainer.limit_val_batches=0.5", r"trainer: .*limit_val_batches"),
    ],
)
def test_flags_that_do_not_fit_the_machine_or_the_data_are_one_line(run: Run, override: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message) as error:
        run("run", override)
    assert "\n" not in str(error.value)
