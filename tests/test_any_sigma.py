"""One model for every noise level: sigma by estimate, the network that uses it, and noise as pictures hold it."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torch import Tensor

from dae_lightning import Denoiser, DenoisingAutoencoder, GaussianNoise, GaussianRange, config
from dae_lightning.cli.hydra_app import CONF, checked
from dae_lightning.cli.run_folders import find_checkpoint
from dae_lightning.data.glyphs import Glyphs
from dae_lightning.errors import ConfigError
from dae_lightning.evaluation.estimators import Unsuited
from dae_lightning.evaluation.evaluate import evaluate
from dae_lightning.evaluation.methods import METHODS
from dae_lightning.inference import denoiser as inference
from dae_lightning.inference import export, files
from dae_lightning.model.metrics import bce
from dae_lightning.model.noise_level import CLIPPED, NORMAL_MEDIAN, estimate_sigma
from dae_lightning.randomness import derive, generator
from dae_lightning.sweeps.jobs import differing
from dae_lightning.training.many_steps import FusedAdam, ManySteps
from tests.conftest import Run, weights

AWARE = {"kind": "sigma_aware", "input_scale": 0.5, "negative_slope": 0.2}
NOISE = GaussianRange(0.0, 0.05, 8.0)
IMAGES = torch.rand(6, 12, 10, generator=generator(0))


def aware(**changes: object) -> DenoisingAutoencoder:
    return DenoisingAutoencoder((12, 10), 5, NOISE, AWARE | changes)


def trained(model: DenoisingAutoencoder, steps: int = 30, rate: float = 0.01) -> DenoisingAutoencoder:
    """Trained a little, so that gain, shift and gate are what they are in use."""
    adam = torch.optim.Adam(model.parameters(), rate)
    for step in range(steps):
        adam.zero_grad()
        model.loss(model.noise.corrupt(IMAGES, generator(step)), IMAGES).backward()
        adam.step()
    return model.eval()


@pytest.mark.parametrize("sigma", [0.25, 0.5, 1.0, 2.0, 8.0])
@pytest.mark.parametrize("mean", [0.0, 0.5])
def test_sigma_is_read_off_noisy_images_whatever_the_mean_of_their_noise(sigma: float, mean: float) -> None:
    clean = Glyphs(200, 1, 0).load().train.images.float() / 255
    noisy = GaussianNoise(mean, sigma).corrupt(clean, generator(1))
    estimates = estimate_sigma(noisy)
    assert estimates.shape == (200,)
    assert estimates.median().item() == pytest.approx(sigma, rel=0.06)
    assert estimates.std().item() < 0.1 * sigma
    colour = noisy[:198].view(66, 3, 28, 28)  # three channels have a sigma together
    assert estimate_sigma(colour).std() < estimates.std()


@pytest.mark.parametrize("sigma", [0.05, 0.1])
def test_an_images_own_edges_are_not_taken_for_noise(sigma: float) -> None:
    clean = Glyphs(200, 1, 0).load().train.images.float() / 255
    noisy = GaussianNoise(0.0, sigma).corrupt(clean, generator(1))
    details = (noisy[:, :-1, :-1] - noisy[:, :-1, 1:] - noisy[:, 1:, :-1] + noisy[:, 1:, 1:]) / 2
    by_median = details.abs().flatten(1).median(1).values / NORMAL_MEDIAN
    excess, of_median = (estimate.median().item() / sigma - 1 for estimate in (estimate_sigma(noisy), by_median))
    assert abs(excess) < 0.4 * of_median
    assert estimate_sigma(noisy).std() < by_median.std()


def test_images_without_noise_or_detail_have_none() -> None:
    assert estimate_sigma(torch.full((2, 5, 5), 0.5)).tolist() == [0, 0]
    ramp = torch.linspace(0, 1, 28).expand(1, 28, 28)
    assert estimate_sigma(ramp).item() < 1e-6
    assert estimate_sigma(Glyphs(200, 1, 0).load().train.images.float() / 255).median() < 0.03


@pytest.mark.parametrize("sigma", [0.1, 0.25, 0.5, 1.0, 2.0])
def test_sigma_is_that_of_before_the_clipping(sigma: float) -> None:
    clean = Glyphs(400, 1, 0).load().train.images.float() / 255
    pictures = GaussianNoise(0.0, sigma, clip=True).corrupt(clean, generator(2))
    assert estimate_sigma(pictures).median().item() == pytest.approx(sigma, rel=0.2)


def test_the_table_is_that_of_a_picture_half_black_and_half_every_grey_alike() -> None:
    count = 400_000
    grey = torch.rand(count, generator=generator(3)) * (torch.rand(count, generator=generator(4)) < 0.5)
    noise = torch.randn(4, count, generator=generator(5))
    for sigma, said in CLIPPED:
        a, b, c, d = (grey + sigma * noise).clamp(0, 1)
        assert ((a - b - c + d).abs() / 2).median().item() / NORMAL_MEDIAN == pytest.approx(said, rel=0.02, abs=1e-6)


def test_the_network_is_its_equations() -> None:
    network = trained(aware()).network
    sigma = torch.rand(6, 1, generator=generator(6)) * 4
    noisy = IMAGES + sigma[..., None] * torch.randn(6, 12, 10, generator=generator(7))
    hidden = sigma.log() @ network.level.weight.T + network.level.bias
    levels = (hidden * torch.sigmoid(hidden)) @ network.condition.weight.T + network.condition.bias
    gain, shift, gate = levels[:, :5], levels[:, 5:10], levels[:, 10:]
    code = 0.5 * noisy.flatten(1) / (sigma**2 + 0.35**2).sqrt() @ network.encoder.weight.T + network.encoder.bias
    code = (1 + gain) * torch.where(code > 0, code, 0.2 * code) + shift
    image = torch.sigmoid(code @ network.decoder.weight.T + network.decoder.bias).view(6, 12, 10)
    share = torch.sigmoid(gate)[..., None]
    expected = share * noisy.clamp(0, 1) + (1 - share) * image
    torch.testing.assert_close(network(noisy, sigma[:, 0]), expected)
    torch.testing.assert_close(network.encode(noisy, sigma[:, 0]), code)
    assert gain.abs().min() > 1e-3
    assert shift.abs().min() > 1e-4


def test_it_is_told_sigma_or_estimates_it_and_answers_in_range() -> None:
    network = trained(aware()).network
    noisy = NOISE.corrupt(IMAGES, generator(8))
    assert torch.equal(network(noisy), network(noisy, estimate_sigma(noisy)))
    assert torch.equal(network(noisy, 2), network(noisy, torch.full((6,), 2.0)))
    assert not torch.equal(network(noisy, 2), network(noisy, 0.2))
    for extreme in (0.0, 1e9):
        denoised = network(noisy * 1e3, extreme)
        assert bool(((denoised >= 0) & (denoised <= 1)).all())
    torch.testing.assert_close(torch.sigmoid(network.logits(noisy)), network(noisy), atol=2e-6, rtol=0)


def test_it_starts_as_the_mean_image_with_weights_of_its_seed() -> None:
    mean = torch.linspace(0.1, 0.9, 120).view(12, 10)
    network = aware().network
    network.start_at(mean)
    # the encoder's part is small at first; so is the input's
    assert (network(torch.zeros(1, 12, 10), 8.0) - mean).abs().max() < 0.05
    assert all(torch.equal(one, other) for one, other in zip(aware().parameters(), aware().parameters(), strict=True))


def test_its_loss_is_bce_in_float32_under_autocast_too() -> None:
    model = trained(aware())
    noisy = NOISE.corrupt(IMAGES, generator(9))
    expected = bce(torch.logit(model.network(noisy), 1e-6), IMAGES).mean()
    torch.testing.assert_close(model.loss(noisy, IMAGES), expected)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(noisy, IMAGES)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=0.01)


@pytest.mark.parametrize("shape", [24, (24,), (1, 5), (2, 3, 4, 5)])
def test_images_whose_noise_cannot_be_read_are_refused_by_their_shape(shape: int | tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"^network=sigma_aware: input_shape=\(.*\): .*network=dense takes others$"):
        DenoisingAutoencoder(shape, 5, NOISE, AWARE)


def test_many_steps_take_the_textbooks_steps() -> None:
    """With torch's own Adam to the bit; `share` and the rest of the fast path are no part of the equation."""
    textbook, fast = aware(), ManySteps((12, 10), 5, NOISE, AWARE)
    assert fast.optimizer_class is FusedAdam
    noisy = NOISE.corrupt(IMAGES, generator(10))
    assert torch.equal(textbook.loss(noisy, IMAGES), fast.loss(noisy, IMAGES))


def test_a_run_of_the_command_resumes_to_the_bit_and_its_checkpoint_denoises(run: Run, tmp_path: Path) -> None:
    asked = ["network=sigma_aware", "noise=gaussian_range", "noise.clip=true", "output_bias=mean_image"]
    whole = run("whole", *asked, "trainer.max_epochs=3")
    part = run("part", *asked, "trainer.max_epochs=2")
    resumed = run("part", *asked, "trainer.max_epochs=3", checkpoint=part / "checkpoints" / "last.ckpt")
    before, after = weights(whole), weights(resumed)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    model = DenoisingAutoencoder.load_from_checkpoint(whole / "checkpoints" / "last.ckpt").eval()
    assert model.hparams["network"] == {"kind": "sigma_aware", "input_scale": 1.0}
    images = torch.rand(3, 12, 12)
    assert torch.equal(model(images), model.network(images, estimate_sigma(images)))


@pytest.mark.parametrize("noise", [GaussianNoise(0.0, 2.0, clip=True), GaussianRange(0.0, 0.05, 2.0, clip=True)])
def test_clipped_noise_is_what_bytes_can_hold(noise: GaussianNoise | GaussianRange) -> None:
    noisy = noise.corrupt(IMAGES, generator(11))
    assert torch.equal(noisy, as_bytes(noisy).float() / 255)
    unclipped = plain(noise)
    assert torch.equal(noisy, as_bytes(unclipped.corrupt(IMAGES, generator(11))).float() / 255)
    assert noise.in_range
    assert not unclipped.in_range
    assert "clip" not in unclipped.settings()  # as in the checkpoints of earlier versions
    assert noise.at(0.5).settings() == GaussianNoise(0.0, 0.5, clip=True).settings()
    assert noise.title().endswith(", clipped to bytes")


@pytest.fixture
def network(tmp_path: Path) -> Denoiser:
    """As in use, and saved as any_sigma.ckpt."""
    model = trained(aware())
    torch.save({"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}, tmp_path / "any_sigma.ckpt")
    return Denoiser(model, "cpu")


def test_a_denoiser_is_told_one_sigma_or_one_for_each_image(network: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy, levels = network.corrupt(IMAGES, sigma=[0.1, 0.2, 0.5, 1, 2, 4], seed=3), np.array([0.1, 0.2, 0.5, 1, 2, 4])
    for place, level in enumerate(levels):
        assert torch.equal(noisy[place], network.corrupt(IMAGES, sigma=level, seed=3)[place])
        torch.testing.assert_close(network(noisy, sigma=levels)[place], network(noisy[place], sigma=level))
    torch.testing.assert_close(network(list(noisy), sigma=levels), list(network(noisy, sigma=levels)))
    torch.testing.assert_close(network(noisy), network(noisy, sigma=estimate_sigma(noisy)))
    whole = network(noisy, sigma=levels)
    monkeypatch.setattr(inference, "BATCH_PIXELS", 240)  # two images at a time
    torch.testing.assert_close(network(noisy, sigma=levels), whole)


def test_a_sigma_that_makes_no_sense_is_refused_in_one_line(network: Denoiser) -> None:
    for wrong in ([0.1, 0.2], [0.1] * 5 + [-1.0], [0.1] * 5 + [float("nan")]):
        for method in (network, network.corrupt):
            with pytest.raises(ConfigError, match=r"^sigma of shape .*: must be one number for each of the 6 images"):
                method(IMAGES, sigma=wrong)
    with pytest.raises(ConfigError, match=r"^sigma=-1: must be at least 0$"):
        network(IMAGES, sigma=-1)
    dense = Denoiser(DenoisingAutoencoder((12, 10), 5, NOISE), "cpu")
    with pytest.raises(ConfigError, match=r"^sigma=0.5: network=dense cannot use it; leave it out$"):
        dense(IMAGES, sigma=0.5)


def test_files_are_denoised_by_the_sigma_told_or_estimated_and_that_is_printed(
    network: Denoiser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = Glyphs(1, 1, 0).load().train.images[0, 8:20, 9:19]
    picture = as_bytes(GaussianNoise(0.0, 0.5, clip=True).corrupt(clean[None] / 255, generator(12)))[0]
    Image.fromarray(picture.numpy()).save(tmp_path / "a.png")

    def denoised(checkpoint: str = "any_sigma.ckpt", **changes: Any) -> str:
        asked = {"checkpoint": str(tmp_path / checkpoint), "images": str(tmp_path / "a.png"), "seed": 0}
        asked |= {"output": str(tmp_path / "out"), "resize": False, "corrupt": False, "sigma": None, "device": "cpu"}
        settings = config.Denoise(**asked | changes)
        files.denoise(settings, Path(settings.checkpoint), files.find_images(settings.images, settings.output))
        return capsys.readouterr().out

    def result() -> Tensor:
        return torch.from_numpy(np.array(Image.open(tmp_path / "out" / "a.png")))

    sigma = estimate_sigma(picture[None] / 255).item()
    assert f"note: sigma of the noise is about {sigma:.2g}: {tmp_path / 'a.png'}" in denoised()
    assert torch.equal(result(), network(picture))
    assert "sigma of the noise" not in denoised(sigma=2.0)
    assert torch.equal(result(), network(picture, sigma=2.0))
    noisy = network.corrupt(picture, 2.0, derive(0, "files", "a.png"))
    denoised(sigma=2.0, corrupt=True)
    assert torch.equal(result().float(), (network(noisy, sigma=2.0) * 255).round())

    dense = DenoisingAutoencoder((12, 10), 5, GaussianRange(0.0, 4.0, 8.0, clip=True))
    torch.save({"hyper_parameters": dict(dense.hparams), "state_dict": dense.state_dict()}, tmp_path / "dense.ckpt")
    assert f"about {sigma:.2g}, and the model was trained at 4 to 8: " in denoised("dense.ckpt")
    assert "sigma of the noise" not in denoised("dense.ckpt", sigma=5.0, corrupt=True)
    with pytest.raises(ConfigError, match=r"^sigma=5: network=dense cannot be told it; with corrupt=true it is of"):
        denoised("dense.ckpt", sigma=5.0)


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_an_export_has_sigma_as_its_second_input(network: Denoiser, tmp_path: Path, format: str) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime") if format == "onnx" else ():
        pytest.importorskip(package)
    checkpoint, path = tmp_path / "any_sigma.ckpt", tmp_path / "exported"
    export.export_checkpoint(config.Export(checkpoint=str(checkpoint), format=format, output=str(path)), checkpoint)  # type: ignore[arg-type]
    exported = (export.from_onnx if format == "onnx" else export.from_program)(path.read_bytes())
    noisy = network.corrupt(IMAGES, sigma=1.0)
    with torch.no_grad():
        told = exported(noisy, torch.tensor([0.1, 0.5, 1.0, 1.0, 2.0, 8.0]))
        torch.testing.assert_close(told, network(noisy, sigma=[0.1, 0.5, 1, 1, 2, 8]), atol=1e-5, rtol=0)
        for unknown in (-1.0, float("nan")):
            estimated = exported(noisy[:3], torch.full((3,), unknown))
            torch.testing.assert_close(estimated, network(noisy[:3]), atol=1e-5, rtol=0)


def test_an_evaluation_has_rows_told_and_estimated_and_what_is_lost_to_specialists(run: Run, tmp_path: Path) -> None:
    folders = {
        "aware": run("aware", "network=sigma_aware", "noise=gaussian_range"),
        "weak": run("weak", "noise.sigma=0.5"),
        "strong": run("strong", "noise.sigma=2"),
    }
    asked = ["checkpoint=x", f"output={tmp_path / 'evaluation'}", "sigmas=[0.5,2]", "methods=[noisy_clipped]"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = checked(compose("evaluate", asked), config.Evaluate)
    evaluate(settings, {name: find_checkpoint(folder) for name, folder in folders.items()}, tmp_path / "evaluation")
    with (tmp_path / "evaluation" / "evaluation.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == "denoising"]
    for level in ("0.5", "2.0"):
        psnr = {(row["method"], row["checkpoint"]): float(row["psnr"]) for row in rows if row["sigma"] == level}
        assert set(psnr) == {
            ("model", "aware"), ("model_told", "aware"), ("model", "weak"), ("model", "strong"), ("noisy_clipped", "")
        }  # fmt: skip
        best = max(psnr["model", "weak"], psnr["model", "strong"])
        for row in rows:
            if row["sigma"] == level:
                assert float(row["regret"]) == pytest.approx(best - float(row["psnr"]), abs=2e-6)


def test_jobs_of_sweeps_from_before_there_was_clip_are_the_same_jobs() -> None:
    assert differing({"noise": {"sigma": 2}}, {"noise": {"sigma": 2, "clip": False}}) == []
    assert differing({"noise": {"sigma": 2}}, {"noise": {"sigma": 2, "clip": True}}) == ["noise.clip"]


def test_estimators_that_know_no_clipped_noise_say_so() -> None:
    noise, train = GaussianNoise(0.0, 1.0, clip=True), torch.zeros(4, 3, 3, dtype=torch.uint8)
    for method in ("wiener", "posterior_mean"):
        with pytest.raises(Unsuited, match="is implemented for|is not implemented for"):
            METHODS[method].fit(train, noise)


def plain(noise: GaussianNoise | GaussianRange) -> GaussianNoise | GaussianRange:
    settings = {name: value for name, value in noise.settings().items() if name not in ("kind", "clip")}
    return type(noise)(**settings)


def as_bytes(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round().byte()
