"""The main job, end to end on small data: what it leaves, that it is determined, that it can be resumed."""

import csv
import io
import json
import logging
import signal
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from dae_lightning import DenoisingAutoencoder
from dae_lightning.config import Train
from dae_lightning.errors import CheckpointError, ConfigError, TrainingError
from dae_lightning.model.checkpoint import write_checkpoint
from dae_lightning.signals import SIGNALS
from dae_lightning.training import checkpoints
from dae_lightning.training.callbacks import History
from dae_lightning.training.run import train
from dae_lightning.training.setup import make_data
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


def test_figures_are_drawn_only_if_asked_for(run: Run) -> None:
    folder = run("run", "figures=false", "trainer.max_epochs=1")
    assert (folder / "results.json").is_file()
    assert not (folder / "figures").exists()


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


def test_the_order_of_the_images_is_a_function_of_seed_and_epoch(settings: Settings) -> None:
    def order(epoch: int, *overrides: str) -> list[int]:
        data = make_data(settings(*overrides))
        data.setup()
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        return torch.cat([indices for _, indices in loader]).tolist()

    assert order(0) == order(0)
    assert sorted(order(0)) == list(range(120))
    assert len({tuple(order(0)), tuple(order(1)), tuple(order(0, "seed=1"))}) == 3


def test_the_mean_image_of_the_table_is_the_training_images(run: Run, settings: Settings) -> None:
    data = make_data(settings())
    data.setup()
    mean, test = data.train.images.double().mean(0) / 255, data.test.images.double() / 255
    each = -10 * torch.log10((test - mean).square().flatten(1).mean(1))
    scores = json.loads((run("run") / "results.json").read_text())["test"]["mean_image"]
    assert scores["denoising"]["psnr"] == scores["reconstruction"]["psnr"] == pytest.approx(float(each.mean()))


def test_checkpoints_come_as_often_as_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []

    def record(checkpoint: dict[str, Any], path: Path) -> None:
        if path.name == "last.ckpt":
            saved.append(checkpoint["batches_seen"])
        write_checkpoint(checkpoint, path)

    monkeypatch.setattr(checkpoints, "write_checkpoint", record)
    run("steps", "steps_per_execution=3", "trainer.max_epochs=1", "checkpoint.every_n_steps=4")
    assert saved == [6, 9, 12, 15]  # behind the execution in which a fourth step falls; at the end of the epoch
    saved.clear()
    run("seconds", "steps_per_execution=5", "trainer.max_epochs=1", "checkpoint.every_seconds=1e-9")
    assert saved == [5, 10, 15]


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


@pytest.mark.parametrize(
    "recipe", [["optim=adam"], ["optim=adam_onecycle"], ["optim=adam_onecycle", "+trainer.max_steps=60"]]
)
def test_a_run_resumed_at_the_end_of_an_epoch_is_the_uninterrupted_one(
    run: Run, tmp_path: Path, recipe: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (*recipe, "steps_per_execution=4", "trainer.max_epochs=4")
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


def _test_scores(folder: Path) -> object:
    return json.loads((folder / "results.json").read_text())["test"]


def test_a_finished_run_goes_on_with_more_epochs(run: Run) -> None:
    whole = run("whole", "trainer.max_epochs=3")
    run("short", "trainer.max_epochs=2")
    longer = run("short", "trainer.max_epochs=3", checkpoint=run("short") / "checkpoints" / "last.ckpt")
    assert same_weights(whole, longer)
    assert without_times(whole) == without_times(longer)


@pytest.mark.parametrize(
    ("overrides", "continues"),
    [
        ([], "trainer.max_epochs=N with a higher N continues it"),
        (["trainer.max_epochs=9", "+trainer.max_steps=30"], "trainer.max_steps=N with a higher N continues it"),
        (["optim=adam_onecycle"], "a one-cycle run cannot be made longer"),
    ],
)
def test_resuming_a_finished_run_says_so_and_how_to_continue(
    run: Run, capsys: pytest.CaptureFixture[str], overrides: list[str], continues: str
) -> None:
    last = run("run", "figures=false", *overrides) / "checkpoints" / "last.ckpt"
    assert "the run is finished" not in capsys.readouterr().out
    run("run", "figures=false", *overrides, checkpoint=last)
    assert f"the run is finished, after 2 epochs and 30 steps: it is only tested again; {continues}\n" in (
        capsys.readouterr().out
    )


def test_a_checkpoint_of_another_latent_is_not_gone_on_with(run: Run) -> None:
    folder = run("run")
    with pytest.raises(CheckpointError, match="has latent 6, but the settings and data ask for 7"):
        run("run", "latent=7", checkpoint=folder / "checkpoints" / "last.ckpt")


def test_a_checkpoint_of_another_input_scale_is_not_gone_on_with(run: Run) -> None:
    folder = run("run")
    with pytest.raises(CheckpointError, match=r"has network .*1.0\}, but the settings and data ask for .*0.5\}"):
        run("run", "input_scale=0.5", checkpoint=folder / "checkpoints" / "last.ckpt")


def test_a_training_may_start_at_the_mean_of_its_images(settings: Settings, tmp_path: Path) -> None:
    data = make_data(settings())
    data.setup()
    train(settings("output_bias=mean_image", "optim.lr=1e-12", "trainer.max_epochs=1"), tmp_path)
    started = weights(tmp_path)["network.decoder.bias"].sigmoid().view(12, 12)
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


def test_what_is_changed_of_the_optimiser_when_a_run_goes_on_counts(run: Run, tmp_path: Path) -> None:
    last = run("run") / "checkpoints" / "last.ckpt"
    run("run", "optim.lr=1e-4", "optim.betas=[0.8,0.9]", "trainer.max_epochs=3", checkpoint=last)
    assert [row["lr"] for row in rows(tmp_path / "run")] == [1e-3, 1e-3, 1e-4]
    run("run", "optim.lr=1e-4", "optim.betas=[0.8,0.9]", "trainer.max_epochs=4", checkpoint=last)  # and stays
    assert len(rows(tmp_path / "run")) == 4


@pytest.mark.parametrize(
    ("begun", "ended", "said"),
    [
        ("optim=adam_onecycle", ["optim=adam_onecycle", "optim.lr=1e-3"], "a one-cycle run cannot change its optim"),
        ("noise.sigma=2", ["noise.sigma=3"], "has noise .*'sigma': 2.0.*, but the settings and data ask for .*3.0"),
        ("eval_seed=0", ["eval_seed=1"], "has eval_seed 0, but the settings and data ask for 1"),
        ("data.seed=0", ["data.seed=1"], "data.seed was 0, not 1: images held out now may have been trained on"),
        ("data.val_size=9", ["data.val_size=8"], "data.val_size was 9, not 8"),
    ],
)
def test_what_cannot_be_changed_in_a_run_is_refused(run: Run, begun: str, ended: list[str], said: str) -> None:
    last = run("run", begun) / "checkpoints" / "last.ckpt"
    with pytest.raises(CheckpointError, match=said):
        run("run", *ended, checkpoint=last)


def test_a_run_with_a_limit_of_time_goes_on_without_it(run: Run) -> None:
    last = run("run", "+trainer.max_time=00:01:00:00") / "checkpoints" / "last.ckpt"
    assert len(rows(run("run", "trainer.max_epochs=3", checkpoint=last))) == 3


@pytest.mark.parametrize("max_steps", [20, 30])
def test_a_one_cycle_run_that_ends_within_a_chunk_is_complete(run: Run, max_steps: int) -> None:
    recipe = ("optim=adam_onecycle", "steps_per_execution=7", f"+trainer.max_steps={max_steps}")
    last = run("run", *recipe) / "checkpoints" / "last.ckpt"
    ended = weights(last.parent.parent)
    again = weights(run("run", *recipe, checkpoint=last))
    assert all(torch.equal(again[name], ended[name]) for name in ended)


def test_a_batch_job_of_slurm_with_more_tasks_trains_in_the_process_that_was_started(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "dae", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert json.loads((run("run") / "results.json").read_text())["epochs"] == 2


def test_a_profile_and_a_summary_are_shown_where_they_are_asked_for(run: Run) -> None:
    said: list[str] = []
    handler, logger = logging.Handler(), logging.getLogger("lightning.pytorch")
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        run("quiet", "trainer.max_epochs=1")
        assert not said
        run("asked", "trainer.max_epochs=1", "+trainer.profiler=simple", "+trainer.enable_model_summary=true")
    finally:
        logger.removeHandler(handler)
    assert any("Profiler Report" in line for line in said)
    assert any("Trainable params" in line for line in said)


def test_it_trains_in_another_thread_and_leaves_the_handlers_of_signals_as_they_were(run: Run) -> None:
    before = [signal.getsignal(signum) for signum in SIGNALS]
    thread = threading.Thread(target=run, args=("thread", "figures=false", "trainer.max_epochs=1"))
    thread.start()
    thread.join()
    assert len(rows(run("here", "figures=false", "trainer.max_epochs=1"))) == 1
    assert [signal.getsignal(signum) for signum in SIGNALS] == before


def test_the_epochs_that_are_announced_are_those_that_max_steps_allows(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = ("trainer.max_epochs=9", "+trainer.max_steps=20", "trainer.enable_progress_bar=true")  # 15 an epoch
    run("run", "figures=false", *limits)
    announced = [line.split()[1] for line in capsys.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert announced == ["1/2", "2/2"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_shows_that_it_validates_and_what_came_of_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    folder = run("run", "figures=false", "trainer.enable_progress_bar=true")
    shown = terminal.getvalue().split("\r")
    for epoch, row in enumerate(rows(folder), start=1):
        assert any(line.startswith(f"epoch {epoch}/2, validation: ") for line in shown)
        scores = f"loss={row['train/loss']:.4f}, val={row['val/denoising/bce']:.4f}]"
        assert any(line.startswith(f"epoch {epoch}/2: ") and scores in line for line in shown)
    assert "100%" in shown[-1]
    assert scores in shown[-1]
