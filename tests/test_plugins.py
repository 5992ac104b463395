"""Kinds of one's own: what `examples/` shows works in every command."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dae_lightning import Denoiser, DenoisingAutoencoder, plugins
from dae_lightning.errors import CheckpointError, ConfigError
from dae_lightning.model.network import Network
from dae_lightning.model.noise import Noise

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SMALL = ("data=glyphs", "data.train_size=60", "data.test_size=20", "latent=4", "trainer.max_epochs=1", "trainer=cpu")
NOISE = {"kind": "gaussian", "mean": 0, "sigma": 1}


def command(name: str, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    code = f"from dae_lightning.cli import commands; commands.{name}()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == status, done.stderr
    return done


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(example: Path) -> None:
    assert len(example.read_text().splitlines()) < 40


def test_help_lists_a_kind_of_ones_own() -> None:
    assert "noise: gaussian, gaussian_range, masking, salt_and_pepper\n" in command("train", "--help").stdout
    shown = command("train", "--help", "plugins=[examples.speckle]").stdout
    assert "noise: gaussian, gaussian_range, masking, salt_and_pepper, speckle\n" in shown


@pytest.mark.slow
def test_a_noise_of_ones_own_trains_resumes_evaluates_and_exports(tmp_path: Path) -> None:
    run, mine = tmp_path / "run", "plugins=[examples.speckle]"
    command("train", mine, "noise=speckle", "noise.sigma=0.25", *SMALL, f"hydra.run.dir={run}")
    command("train", mine, f"resume={run}", "trainer.max_epochs=2")
    table = command("evaluate", mine, f"checkpoint={run}", "sigmas=[0.1,0.5]", "methods=[noisy,wiener]").stdout
    assert "left out: wiener is not implemented for Speckle(sigma=0.5)" in table
    command("export", mine, f"checkpoint={run}", "format=torch")
    refused = command("evaluate", f"checkpoint={run}", status=1).stderr
    assert "noise.kind=speckle: must be one of gaussian, " in refused
    assert "plugins=[MODULE] registers one of your own" in refused
    wrong = command("train", mine, "noise=speckle", "noise.sigma=-1", *SMALL, status=1).stderr
    assert wrong == "error: noise.sigma=-1: must be at least 0\n"


@pytest.mark.slow
def test_a_network_and_data_of_ones_own_train_in_a_sweep(tmp_path: Path) -> None:
    modules = "plugins=[examples.convolutional,examples.arrays]"
    own = ("network=convolutional", "network.channels=2,3", "data=rectangles", "data.size=12", "data.count=100")
    small = ("latent=4", "trainer.max_epochs=1", "trainer=cpu", f"hydra.sweep.dir={tmp_path}")
    done = command("train", "-m", modules, *own, *small)
    assert "network.channels" in done.stdout
    assert "warning" not in done.stderr
    (tmp_path / "gallery.png").unlink()
    assert "2 done, 0 left of 2" in command("summarize", str(tmp_path), modules).stdout
    assert (tmp_path / "gallery.png").exists()
    plugins.load(["examples.convolutional"])
    denoiser = Denoiser.load(next(tmp_path.glob("*channels=3*")))
    assert denoiser(torch.rand(2, 12, 12)).shape == (2, 12, 12)


def test_a_kind_that_is_not_registered_is_named_with_the_way_to_register_it(tmp_path: Path) -> None:
    model = DenoisingAutoencoder((4, 4), 2, NOISE)
    content = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    content["hyper_parameters"]["network"] = {"kind": "unheard_of"}
    torch.save(content, tmp_path / "model.ckpt")
    expected = r"network.kind=unheard_of: must be one of .*plugins=\[MODULE\] registers"
    with pytest.raises(CheckpointError, match=expected):
        DenoisingAutoencoder.load_from_checkpoint(tmp_path / "model.ckpt")


def test_a_module_that_cannot_be_imported_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^plugins=no_such_module: cannot be imported \(ModuleNotFoundError"):
        plugins.load(["no_such_module"])


def test_a_network_without_logits_has_the_same_loss_and_its_weights_go_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.load(["examples.convolutional"])
    settings = {"kind": "convolutional", "channels": 2}
    model, same, other = (DenoisingAutoencoder((8, 8), 3, Noise.of(NOISE), settings, seed=s).eval() for s in (1, 1, 2))
    clean = torch.rand(5, 8, 8)
    assert torch.equal(model(clean), same(clean))
    assert not torch.equal(model(clean), other(clean))
    stable = model.loss(clean, clean)
    monkeypatch.setattr(type(model.network), "logits", Network.logits)
    torch.testing.assert_close(model.loss(clean, clean), stable)
    model.judge("test", clean, clean)
    assert model.quality["test_denoising"].compute()["bce"].item() == pytest.approx(stable.item(), rel=1e-5)
