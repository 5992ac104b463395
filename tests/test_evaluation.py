"""An evaluation, whole: its files, that they are the same twice, and that they agree with the run's own results."""

import csv
import io
import json
import math
import os
import sys
import time
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from tqdm import tqdm

from dae_lightning import config
from dae_lightning.cli.hydra_app import CONF, checked
from dae_lightning.cli.run_folders import find_checkpoint
from dae_lightning.data.chunks import ChunkLoader
from dae_lightning.data.datamodule import EVAL_BATCH
from dae_lightning.data.idx import IdxFolder
from dae_lightning.errors import CheckpointError, ConfigError
from dae_lightning.evaluation.evaluate import evaluate, fit, measure
from dae_lightning.evaluation.methods import METHODS, Condition, make_conditions, model_methods
from dae_lightning.model.autoencoder import DenoisingAutoencoder
from dae_lightning.model.noise import GaussianNoise, GaussianRange, MaskingNoise
from tests.conftest import Run

COLUMNS = "method,checkpoint,task,sigma,images,psnr,psnr_ci95,ssim,bce,bce_excess,regret"
SILENT = tqdm(disable=True)


def batches(images: torch.Tensor) -> ChunkLoader:
    return ChunkLoader(images, EVAL_BATCH)


def settings(*overrides: str) -> config.Evaluate:
    small = ["checkpoint=x", "output=x", "examples=3"]
    small += [] if any(override.startswith("probabilities") for override in overrides) else ["sigmas=[0.5,2]"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return checked(compose("evaluate", [*small, *overrides]), config.Evaluate)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "evaluation.csv").open() as file:
        return list(csv.DictReader(file))


def test_an_evaluation_agrees_with_the_runs_results_and_is_the_same_twice(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run("run", "noise.sigma=2")
    for name in ("once", "twice"):
        evaluate(settings(), {"run": find_checkpoint(folder)}, tmp_path / name)
    files = {path.name for path in (tmp_path / "once").iterdir()}
    assert files == {"evaluation.csv", "evaluation.json", "denoising_curve.png", "gallery.png"}
    for name in files:
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()

    assert (tmp_path / "once" / "evaluation.csv").read_text().splitlines()[0] == COLUMNS
    results = json.loads((folder / "results.json").read_text())["test"]["model"]
    for row in rows(tmp_path / "once"):
        if row["method"] == "model" and row["sigma"] in ("", "2.0"):
            for metric, value in results[row["task"]].items():
                assert float(row[metric]) == pytest.approx(value, abs=2e-6)
    keys = [(row["method"], row["task"], row["sigma"]) for row in rows(tmp_path / "once")]
    assert len(keys) == len(set(keys)) == 2 * 6 + 2
    assert [key[0] for key in keys if key[1:] == ("reconstruction", "")] == ["model", "mean_image"]
    assert {row["images"] for row in rows(tmp_path / "once")} == {"40"}
    report = json.loads((tmp_path / "once" / "evaluation.json").read_text())
    assert [row["method"] for row in report["rows"]] == [key[0] for key in keys]
    assert "denoising (noisy in), 40 test images: PSNR in dB" in capsys.readouterr().out


def test_several_checkpoints_are_rows_of_one_table_on_other_data_too(run: Run, idx_root: Path, tmp_path: Path) -> None:
    places = {name: find_checkpoint(run(name, f"noise.sigma={name}")) for name in ("1", "2")}
    asked = settings("data=idx", f"data.root={idx_root}", "methods=[noisy]", "limit=7")
    evaluate(asked, places, tmp_path / "both")
    denoising = [row for row in rows(tmp_path / "both") if row["task"] == "denoising"]
    assert [row["checkpoint"] for row in denoising] == ["1", "2", ""] * 2
    assert {row["images"] for row in denoising} == {"7"}

    masked = find_checkpoint(run("masked", "noise=masking"))
    with pytest.raises(CheckpointError, match="different kinds of noise"):
        evaluate(asked, {**places, "masked": masked}, tmp_path / "three")
    with pytest.raises(CheckpointError, match=r"takes images of \(12, 12\), but those of the data are \(28, 28\)"):
        evaluate(settings("data=glyphs", "data.train_size=10", "data.test_size=10"), places, tmp_path / "other")


def test_other_noise_has_its_own_grid_and_leaves_out_what_means_nothing_there(run: Run, tmp_path: Path) -> None:
    masked = find_checkpoint(run("masked", "noise=masking"))
    evaluate(settings("probabilities=[0,0.5]"), {"masked": masked}, tmp_path / "evaluation")
    table = rows(tmp_path / "evaluation")
    assert {row["sigma"] for row in table} == {"", "0.0", "0.5"}
    assert "posterior_mean" not in {row["method"] for row in table}
    report = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert "posterior_mean" in report["left_out"]
    (untouched,) = [row for row in report["rows"] if (row["method"], row["sigma"]) == ("noisy", 0)]
    assert untouched["psnr"] is None  # infinite
    (untouched,) = [row for row in table if (row["method"], row["sigma"]) == ("noisy", "0.0")]
    assert untouched["psnr"] == ""


def test_the_mean_of_the_noise_in_training_is_part_of_the_noise_at_every_level() -> None:
    model = DenoisingAutoencoder((12, 12), 4, GaussianNoise(0.25, 2.0))
    *denoising, _ = make_conditions(settings(), {"": model})
    expected = [GaussianNoise(0.25, sigma).settings() for sigma in (0.5, 2.0)]
    assert [condition.noise.settings() for condition in denoising] == expected


def test_the_noise_on_an_image_depends_on_no_other_image_and_no_method() -> None:
    images = torch.randint(0, 256, (9, 12, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    condition = Condition("denoising", 1.0, GaussianNoise(0.0, 1.0))
    noisy = METHODS["noisy"], lambda noisy: noisy
    alone = [measure(condition, [noisy], batches(images[:count]), 0, SILENT)[0]["psnr"] for count in (1, 9)]
    again = measure(condition, [noisy, noisy], batches(images[:1]), 0, SILENT)
    assert [row["psnr"] for row in again] == [alone[0]] * 2
    assert math.isnan(again[0]["psnr_ci95"])  # one image has no spread
    assert alone[1] != alone[0]


def test_the_bar_counts_the_batches_of_denoising(capsys: pytest.CaptureFixture[str]) -> None:
    images, noisy = torch.zeros(700, 2, 2, dtype=torch.uint8), (METHODS["noisy"], lambda noisy: noisy)
    with tqdm(total=3) as bar:
        for level in (1.0, None):  # reconstruction is not counted, since it takes next to no time
            measure(Condition("denoising", level, GaussianNoise(0.0, 1.0)), [noisy], batches(images), 0, bar)
        assert bar.n == bar.total


def test_a_method_that_will_take_over_a_minute_is_announced_after_its_first_batch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = METHODS["noisy"], lambda noisy: noisy
    condition, images = Condition("denoising", 1.0, GaussianNoise(0.0, 1.0)), torch.zeros(700, 2, 2, dtype=torch.uint8)
    measure(condition, [noisy], batches(images), 0, SILENT)
    assert capsys.readouterr().err == ""
    clock = iter(range(0, 10_000, 40))  # every look at it is 40 seconds later
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    measure(condition, [noisy], batches(images), 0, SILENT)
    assert capsys.readouterr().err == "denoising 1: noisy takes about 2 min\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_or_a_line_names_the_method_that_is_fitted(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stderr(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    monkeypatch.setattr(sys, "stderr", shown := Stderr())
    condition, train = Condition("denoising", 1.0, GaussianNoise(0.0, 1.0)), torch.zeros(9, 2, 2, dtype=torch.uint8)
    with tqdm(disable=None, file=shown) as bar:
        fit([METHODS[name] for name in ("noisy", "mean_image", "wiener")], train, condition, {}, bar)
    if terminal:
        assert "denoising 1: fitting wiener" in shown.getvalue()
    else:
        assert shown.getvalue() == "denoising 1: fitting mean image\ndenoising 1: fitting wiener\n"


def test_filters_are_methods_like_the_others(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("pywt")
    names = ["total_variation", "nl_means", "wavelet", "median", "gaussian_blur"]
    asked = settings(f"methods=[noisy_clipped,{','.join(names)}]", "sigmas=[0.5]", "limit=20")
    evaluate(asked, {"run": find_checkpoint(run("run", "trainer.max_epochs=1"))}, tmp_path / "evaluation")
    scores = {row["method"]: float(row["psnr"]) for row in rows(tmp_path / "evaluation") if row["sigma"]}
    assert list(scores) == ["model", "noisy_clipped", *names]
    assert min(scores[name] for name in names) > scores["noisy_clipped"] + 2


def test_a_probe_has_a_row_for_every_checkpoint_and_fits_the_pixels_once(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    places = {name: find_checkpoint(run(name, f"noise.sigma={name}", "trainer.max_epochs=1")) for name in ("1", "2")}
    evaluate(settings("probe=true", "limit=20"), places, tmp_path / "evaluation")
    assert (tmp_path / "evaluation" / "probe.png").stat().st_size > 0
    with (tmp_path / "evaluation" / "probe.csv").open() as file:
        table = list(csv.DictReader(file))
    clean = [(row["features"], row["size"], row["checkpoint"]) for row in table if row["input"] == "clean"]
    assert clean == [("pixels", "144", ""), ("pca", "6", ""), ("latent", "6", "1"), ("latent", "6", "2")]
    assert {row["images"] for row in table} == {"20"}


def test_the_levels_of_training_are_a_number_or_the_ends_of_a_range() -> None:
    assert GaussianNoise(0.1, 2.0).levels() == (2.0,)
    assert GaussianRange(0.1, 0.5, 6.0).levels() == (0.5, 6.0)
    models = {
        place: DenoisingAutoencoder(4, 2, noise)
        for place, noise in (("a", GaussianNoise(0.0, 2.0)), ("b", GaussianRange(0.0, 0.5, 6.0)))
    }
    assert [method.title for method in model_methods(models)] == ["model (sigma 2)", "model (sigma 0.5 to 6)"]
    twins = model_methods({"runs/x": models["a"], "y": models["a"]})
    assert [method.title for method in twins] == ["model (sigma 2), runs/x", "model (sigma 2), y"]
    assert [method.title for method in model_methods({"a": models["a"]})] == ["model"]
    conditions = make_conditions(settings(), models)  # blind or not, it is Gaussian noise
    assert [(condition.task, condition.level) for condition in conditions] == [
        ("denoising", 0.5),
        ("denoising", 2),
        ("reconstruction", None),
    ]


def test_levels_for_noise_that_has_none_are_refused() -> None:
    class Fog(GaussianNoise):
        level = None

    def grids(**given: tuple[float, ...]) -> config.Evaluate:
        return settings().model_copy(update={"sigmas": None} | given)

    masked, foggy = (DenoisingAutoencoder(4, 2, noise) for noise in (MaskingNoise(0.5), Fog()))
    assert [condition.level for condition in make_conditions(grids(), {"": foggy})] == [1, None]
    levels = [condition.level for condition in make_conditions(grids(), {"": masked})]
    assert levels == [0.1, 0.25, 0.5, 0.75, 0.9, None]
    for model, key in ((foggy, "sigmas"), (foggy, "probabilities"), (masked, "sigmas")):
        with pytest.raises(ConfigError, match=rf"^{key}=\[0.5\]: the model's noise, .*, has no \w+; leave it out$"):
            make_conditions(grids(**{key: (0.5,)}), {"": model})


FLOORS: dict[str, dict[float, float]] = {  # DESIGN.md, section 1
    "noisy": {0.5: 6.03, 1: 0.01, 2: -6.01, 4: -12.03, 6: -15.55},
    "mean_image": {0.5: 10.97, 1: 10.97, 2: 10.97, 4: 10.97, 6: 10.97},
    "wiener": {0.5: 17.73, 1: 15.72, 2: 13.94, 4: 12.48, 6: 11.86},
    "posterior_mean": {0.5: 17.08, 1: 16.78, 2: 15.24, 4: 12.99, 6: 12.05},
}
BCE = {  # of one draw of the noise; others give 0.0005 more or less at sigma 2, 0.0015 at sigma 6
    ("wiener", 2): 0.3950,
    ("posterior_mean", 2): 0.3500,
    ("wiener", 6): 0.4614,
    ("posterior_mean", 6): 0.4496,
}


@pytest.mark.skipif("DAE_TEST_DATA" not in os.environ, reason="needs the reference images: set DAE_TEST_DATA")
def test_floors_and_ceilings_of_the_reference_images() -> None:
    train, test, _ = IdxFolder(os.environ["DAE_TEST_DATA"]).load()
    methods = [METHODS[name] for name in FLOORS]
    for sigma in (0.5, 1, 2, 4, 6):
        condition = Condition("denoising", sigma, GaussianNoise(0.0, sigma))
        fitted = fit(methods, train.images, condition, {}, SILENT)
        for row in measure(condition, fitted, batches(test.images), 0, SILENT):
            assert row["psnr"] == pytest.approx(FLOORS[row["method"]][sigma], abs=0.05)
            if (row["method"], sigma) in BCE:
                assert row["bce"] == pytest.approx(BCE[row["method"], sigma], abs=0.002)
