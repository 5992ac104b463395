"""Training on photographs: data=patches, network=residual and loss=mse, as experiment=photographs has them together."""

import csv
import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from dae_lightning import DenoisingAutoencoder, GaussianRange, ImageDataModule
from dae_lightning.data.patches import Patches
from dae_lightning.errors import CheckpointError, ConfigError
from dae_lightning.training.callbacks import History
from dae_lightning.training.many_steps import ManySteps
from dae_lightning.training.run import train
from tests.conftest import Run, Settings, weights
from tests.faults.kills import differing_bits, outcome
from tests.test_training import rows, same_weights


@pytest.fixture
def asked(photographs: Path) -> list[str]:
    """A small experiment=photographs: 60 patches an epoch, 8 steps."""
    small = ["data=patches", f"data.root={photographs}", "data.patch=7", "data.patches_per_epoch=60", "data.val_size=2"]
    return [*small, "experiment=photographs", "steps_per_execution=3", "figures=false", "trainer.max_epochs=2"]


def test_a_run_tells_what_its_pictures_are_and_how_to_use_it(
    run: Run, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run("run", *asked, "figures=true", "output_bias=zero")
    assert "49 -> 6 -> 49, GaussianRange(mean=0.0, low=0.00392157, high=0.29411765, clip=True), on cpu" in (
        said := capsys.readouterr().out
    )
    assert "; 9 training, 2 validation, 1 test pictures\n" in said
    results = json.loads((folder / "results.json").read_text())
    assert results["optimizer_steps"] == 16
    assert results["config"]["loss"] == "mse"
    assert (folder / "figures" / "train_examples.png").is_file()
    model = DenoisingAutoencoder.load_from_checkpoint(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert (model.patches, model.loss_kind, model.input_shape) == (True, "mse", (7, 7))
    assert model.hparams["network"] == {"kind": "residual", "depth": 2}
    assert all(torch.equal(value, weights(folder)[name]) for name, value in model.state_dict().items())


def test_a_training_of_seconds_beats_the_noisy_input(run: Run, asked: list[str]) -> None:
    longer = ("data.patches_per_epoch=9600", "latent=64", "batch_size=32", "optim.lr=3e-3", "noise.clip=false")
    tested = json.loads((run("run", *asked, *longer) / "results.json").read_text())["test"]
    gain = tested["model"]["denoising"]["psnr"] - tested["noisy_input"]["denoising"]["psnr"]
    assert gain > 2  # dB, mean over sigma from 1/255 to 75/255
    assert tested["model"]["reconstruction"]["psnr"] > 40


def test_a_run_that_is_broken_off_within_an_epoch_resumes_to_the_bit(
    run: Run, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(self: History, trainer: Any, *_: object) -> None:
        if trainer.lightning_module.batches_seen >= 14:  # the second epoch began at 8
            raise RuntimeError("power cut")

    asked += ["checkpoint.every_n_steps=2"]
    whole = run("whole", *asked)
    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_batch_start", power_cut, raising=False)
        with pytest.raises(RuntimeError, match="power cut"):
            run("broken", *asked)
    last = tmp_path / "broken" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["batches_seen"] == 14
    assert differing_bits(outcome(run("broken", *asked, checkpoint=last)), outcome(whole)) == 0


def test_steps_per_execution_changes_no_bit_and_another_seed_all(run: Run, asked: list[str]) -> None:
    one, other = run("one", *asked, "steps_per_execution=1"), run("other", *asked, "seed=1")
    assert same_weights(run("many", *asked, "steps_per_execution=50"), one)
    assert not same_weights(one, other)


def test_many_steps_are_the_textbooks_steps(photographs: Path) -> None:
    """The sigma that the network is told in training included, to the bit."""
    models = []
    for kind in (DenoisingAutoencoder, ManySteps):
        model = kind((7, 7), 6, GaussianRange(0.0, 0.004, 0.3), {"kind": "residual"}, loss="mse")
        model.optimizer_class = torch.optim.Adam
        data = ImageDataModule(Patches(photographs, 0.2, 0, 7, 60), 8, 3, val_size=2)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = pl.Trainer(accelerator="cpu", max_epochs=2, **quiet, enable_model_summary=False)  # type: ignore[arg-type]
        trainer.fit(model, datamodule=data)
        assert model.batches_seen == 16
        models.append((model, float(trainer.callback_metrics["val/denoising/mse"])))
    (textbook, score), (fast, same) = models
    assert not torch.equal(textbook.network.noise.weight, torch.zeros(49, 6))
    assert all(torch.equal(one, two) for one, two in zip(textbook.parameters(), fast.parameters(), strict=True))
    assert score == same


# --- loss=mse -------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_squared_error_before_clipping_over_the_sigma_that_is_told() -> None:
    clean, noisy, sigma = torch.rand(3, 7, 7), 4 * torch.randn(3, 7, 7), torch.tensor([0.0, 0.2, 0.3])
    dense, residual = (
        DenoisingAutoencoder((7, 7), 6, GaussianRange(0.0, 0.1, 0.3), {"kind": network}, loss="mse")
        for network in ("dense", "residual")
    )
    torch.nn.init.normal_(residual.network.noise.weight)  # untrained, it answers with its input, whatever the sigma
    torch.testing.assert_close(dense.loss(noisy, clean), (dense.network(noisy) - clean).square().mean())
    each = (residual.network.regress(noisy, sigma) - clean).square().mean((1, 2))
    expected = (each / torch.tensor([0.5 / 255, 0.2, 0.3])).mean()
    torch.testing.assert_close(residual.loss(noisy, clean, sigma), expected)


@pytest.mark.parametrize("network", ["dense", "sigma_aware"])
def test_the_best_weights_are_those_of_the_lowest_validation_loss(
    settings: Settings, tmp_path: Path, network: str
) -> None:
    fast = ("loss=mse", f"network={network}", "optim.lr=0.3", "trainer.max_epochs=5", "output_bias=mean_image")
    returned = train(settings(*fast), tmp_path)
    scores = [row["val/denoising/mse"] for row in rows(tmp_path)]
    assert returned == pytest.approx(min(scores))
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == scores.index(min(scores))
    assert {"val/reconstruction/mse", "val/denoising/psnr"} <= rows(tmp_path)[0].keys()
    assert "val/denoising/bce" not in rows(tmp_path)[0]


def test_early_stopping_watches_the_loss_that_there_is(settings: Settings, run: Run) -> None:
    asked = ("loss=mse", "callbacks=early_stopping", "callbacks.patience=1", "callbacks.min_delta=1")
    assert settings(*asked).callbacks.monitor == "val/denoising/mse"  # type: ignore[attr-defined]
    with (run("run", *asked, "trainer.max_epochs=5") / "metrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2
    message = r"^callbacks.monitor=val/denoising/bce: with loss=mse there is val/denoising/mse$"
    with pytest.raises(ConfigError, match=message):
        settings(*asked, "callbacks.monitor=val/denoising/bce")


def test_a_run_keeps_its_loss_when_it_is_resumed(run: Run) -> None:
    last = run("run") / "checkpoints" / "last.ckpt"
    assert "loss" not in torch.load(last, weights_only=True)["hyper_parameters"]  # as in those of earlier versions
    with pytest.raises(CheckpointError, match=r"has loss None, but the settings and data ask for mse$"):
        run("run", "loss=mse", "trainer.max_epochs=3", checkpoint=last)
