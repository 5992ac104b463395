"""The main job, end to end on small data: what it leaves, that it is determined, that it can be gone on with."""

import csv
import json
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from dae_lightning import DenoisingAutoencoder
from dae_lightning.config import Train
from dae_lightning.errors import CheckpointError, ConfigError, TrainingError
from dae_lightning.history import History
from dae_lightning.training import make_data, train
from tests.conftest import Run, Settings, weights

TRICKS = ("input_scale=0.5", "output_bias=mean_image")


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def without_times(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows(folder)]


def same_weights(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_run_leaves_checkpoints_metrics_results_and_figures(run: Run) -> None:
    folder = run("run", "+trainer.log_every_n_steps=5")
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {
        *(f"checkpoints/{name}.ckpt" for name in ("best", "last", "previous")),
        *("metrics.csv", "results.json"),
        *("figures/loss.png", "figures/train_examples.png", "figures/test_examples.png"),
    }
    results = json.loads((folder / "results.json").read_text())
    assert results.keys() == {
        *("test", "epochs", "optimizer_steps", "fit_seconds", "images_per_second"),
        *("seed", "device", "versions", "config"),
    }
    assert results["test"].keys() == {"model", "noisy_input", "mean_image"}
    for scores in results["test"].values():
        assert scores.keys() == {"reconstruction", "denoising"}
        for metrics in scores.values():
            assert metrics.keys() == {"bce", "bce_excess", "psnr", "ssim"}
    assert results["epochs"] == 2
    assert results["optimizer_steps"] == 2 * 15  # 120 of the 130 images train: a twelfth, 10, is held out
    assert results["test"]["noisy_input"]["reconstruction"]["psnr"] is None  # infinite
    assert results["test"]["noisy_input"]["denoising"]["psnr"] == pytest.approx(-6.02, abs=0.1)


def test_metrics_csv_has_one_dense_row_an_epoch(run: Run) -> None:
    written = rows(run("run"))
    assert [row["epoch"] for row in written] == [1, 2]
    assert [row["step"] for row in written] == [15, 30]
    tasks = [f"val/{task}/{name}" for task in ("reconstruction", "denoising") for name in ("bce", "psnr")]
    assert {"train/loss", "lr", "seconds", "images_per_second", *tasks} <= written[0].keys()
    assert written[1]["train/loss"] < written[0]["train/loss"]


def test_best_is_the_epoch_of_the_lowest_validation_bce_and_is_what_is_tested(
    settings: Settings, tmp_path: Path
) -> None:
    # a rate so high that the loss rises again
    returned = train(settings("optim.lr=0.3", "trainer.max_epochs=6"), tmp_path)
    scores = [row["val/denoising/bce"] for row in rows(tmp_path)]
    assert scores.index(min(scores)) < 5  # or the test shows nothing
    assert returned == pytest.approx(min(scores))
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == scores.index(min(scores))
    assert json.loads((tmp_path / "results.json").read_text())["test"]["model"] == _tested(settings(), tmp_path, "best")


def test_without_held_out_images_the_last_weights_count(settings: Settings, tmp_path: Path) -> None:
    returned = train(settings("data.val_size=0"), tmp_path)
    assert not (tmp_path / "checkpoints" / "best.ckpt").exists()
    assert returned == pytest.approx(rows(tmp_path)[-1]["train/loss"])
    assert json.loads((tmp_path / "results.json").read_text())["test"]["model"] == _tested(settings(), tmp_path, "last")


def _tested(settings: Train, folder: Path, name: str) -> dict[str, dict[str, float]]:
    """The scores of a checkpoint in a fresh Trainer, as `results.json` has them."""
    data = make_data(settings)
    model = DenoisingAutoencoder.load_from_checkpoint(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    (metrics,) = trainer.test(model, datamodule=data, verbose=False)
    return {
        task: {name: metrics[f"test/{task}/{name}"] for name in ("bce", "bce_excess", "psnr", "ssim")}
        for task in ("reconstruction", "denoising")
    }


def test_one_seed_gives_one_result_and_another_seed_another(run: Run) -> None:
    first, second, other = run("first"), run("second"), run("other", "seed=1")
    assert same_weights(first, second)
    assert without_times(first) == without_times(second)
    assert not same_weights(first, other)


def test_an_epoch_without_validation_has_no_validation_in_its_row(settings: Settings, tmp_path: Path) -> None:
    train(settings("+trainer.check_val_every_n_epoch=2", "trainer.max_epochs=3"), tmp_path)
    with (tmp_path / "metrics.csv").open() as file:
        assert [bool(row["val/denoising/bce"]) for row in csv.DictReader(file)] == [False, True, False]


@pytest.mark.parametrize("recipe", [["optim=adam"], ["optim=adam_onecycle", *TRICKS]])
def test_steps_per_execution_changes_no_bit(run: Run, recipe: list[str]) -> None:
    many = run("many", *recipe, "steps_per_execution=50")
    assert same_weights(many, run("one", *recipe, "steps_per_execution=1"))
    assert same_weights(many, run("four", *recipe, "steps_per_execution=4"))


def test_steps_per_execution_changes_no_bit_under_autocast(run: Run) -> None:
    """Torch's autocast keeps the weights that it has cast until it ends; Lightning's, which spans a chunk, must not."""
    many = run("many", "trainer.precision=bf16-mixed", "steps_per_execution=50")
    assert same_weights(many, run("one", "trainer.precision=bf16-mixed", "steps_per_execution=1"))


@pytest.mark.parametrize("optim", ["adam", "adam_onecycle"])
def test_a_run_resumed_at_the_end_of_an_epoch_is_the_uninterrupted_one(
    run: Run, tmp_path: Path, optim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (f"optim={optim}", "trainer.max_epochs=4")
    whole = run("whole", *overrides)
    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_epoch_start", _break_in_epoch_2)
        with pytest.raises(RuntimeError, match="power cut"):
            run("broken", *overrides)
    last = tmp_path / "broken" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["epoch"] == 1
    resumed = run("broken", *overrides, checkpoint=last)
    assert same_weights(whole, resumed)
    assert without_times(whole) == without_times(resumed)
    assert _test_scores(whole) == _test_scores(resumed)


def _break_in_epoch_2(history: History, trainer: pl.Trainer, model: pl.LightningModule) -> None:
    if trainer.current_epoch == 2:
        raise RuntimeError("power cut")
    history._start, history._images = 0.0, 0


def _test_scores(folder: Path) -> object:
    return json.loads((folder / "results.json").read_text())["test"]


def test_a_finished_run_goes_on_with_more_epochs(run: Run) -> None:
    whole = run("whole", "trainer.max_epochs=3")
    run("short", "trainer.max_epochs=2")
    longer = run("short", "trainer.max_epochs=3", checkpoint=run("short") / "checkpoints" / "last.ckpt")
    assert same_weights(whole, longer)
    assert without_times(whole) == without_times(longer)


def test_a_checkpoint_of_another_latent_is_not_gone_on_with(run: Run) -> None:
    folder = run("run")
    with pytest.raises(CheckpointError, match="has latent 6, but the settings and data ask for 7"):
        run("run", "latent=7", checkpoint=folder / "checkpoints" / "last.ckpt")


def test_a_checkpoint_of_another_input_scale_is_not_gone_on_with(run: Run) -> None:
    folder = run("run")
    with pytest.raises(CheckpointError, match=r"has input_scale 1.0, but the settings and data ask for 0.5"):
        run("run", "input_scale=0.5", checkpoint=folder / "checkpoints" / "last.ckpt")


def test_a_training_may_start_at_the_mean_of_its_images(settings: Settings, tmp_path: Path) -> None:
    data = make_data(settings())
    data.setup()
    train(settings("output_bias=mean_image", "optim.lr=1e-12", "trainer.max_epochs=1"), tmp_path)
    started = weights(tmp_path)["decoder.bias"].sigmoid().view(12, 12)
    torch.testing.assert_close(started, data.train.images.double().mean(0).div(255).float())


def test_a_one_cycle_run_cannot_be_made_longer(run: Run) -> None:
    folder = run("run", "optim=adam_onecycle")
    with pytest.raises(CheckpointError, match="planned for 30 optimiser steps, not 45"):
        run(
            "run",
            "optim=adam_onecycle",
            "trainer.max_epochs=3",
            checkpoint=folder / "checkpoints" / "last.ckpt",
        )


def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"the loss of step \d+, at rate 1e\+18, is (nan|inf): lower optim.lr=1e\+18"
    ):
        run("run", "optim.lr=1e18", "trainer.max_epochs=30")
    for checkpoint in (tmp_path / "run").rglob("*.ckpt"):
        assert all(bool(value.isfinite().all()) for value in weights(tmp_path / "run", checkpoint.name).values())


def test_holding_out_everything_is_refused(run: Run) -> None:
    with pytest.raises(ConfigError, match="data.val_size=130: must be less than the 130 training images"):
        run("run", "data.val_size=130")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(run: Run) -> None:
    with pytest.raises(TrainingError, match="trainer.accelerator=gpu: torch sees no CUDA GPU"):
        run("run", "trainer=gpu", "trainer.max_epochs=1")


def test_the_official_split_is_kept_and_the_rest_is_split_once(settings: Settings) -> None:
    data = make_data(settings())
    data.setup()
    raw = data.source.load()
    assert torch.equal(data.test.images, raw.test.images)
    together = torch.cat([data.train.images, data.val.images]).flatten(1)
    assert len(data.val.images) == 10
    assert sorted(map(bytes, together.numpy())) == sorted(map(bytes, raw.train.images.flatten(1).numpy()))
