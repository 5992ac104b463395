"""The model: its shapes, its equation, its training step, its checkpoint."""

import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.nn import functional as F

import dae_lightning
from dae_lightning import DenoisingAutoencoder, GaussianNoise, MaskingNoise
from dae_lightning.training.many_steps import ManySteps

IMAGES = torch.rand(5, 6, 4, generator=torch.Generator().manual_seed(0))


def small(**changes: Any) -> DenoisingAutoencoder:
    return DenoisingAutoencoder(**{"input_shape": (6, 4), "latent": 3, "noise": GaussianNoise(0.0, 2.0)} | changes)


def chunked(**changes: Any) -> ManySteps:
    return ManySteps(**{"input_shape": (6, 4), "latent": 3, "noise": GaussianNoise(0.0, 2.0)} | changes)


class Batches(list[Any]):
    """A loader to Lightning, which takes a plain list for several loaders."""


def fit(model: DenoisingAutoencoder, batches: Any, **flags: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 1, "log_every_n_steps": 1} | flags,
    )
    trainer.fit(model, Batches(batches), Batches([(IMAGES, torch.arange(len(IMAGES)))]))
    return trainer


@pytest.mark.parametrize("shape", [24, (24,), [6, 4], (6, 4), (2, 3, 4)])
def test_images_come_out_in_the_shape_in_which_they_went_in(shape: Any) -> None:
    model = small(input_shape=shape).eval()
    images = torch.rand(7, *([shape] if isinstance(shape, int) else shape))
    assert model(images).shape == images.shape
    assert model.encode(images).shape == (7, 3)


@pytest.mark.parametrize("shape", ["28", 2.0, (2, 3.0), True, None, {2, 3}])
def test_an_input_shape_of_another_type_is_a_type_error(shape: Any) -> None:
    with pytest.raises(TypeError, match="input_shape=.*must be an int, or a tuple or list of ints"):
        small(input_shape=shape)


@pytest.mark.parametrize("shape", [0, -3, (2, 0), ()])
def test_an_input_shape_that_is_not_positive_is_a_value_error(shape: Any) -> None:
    with pytest.raises(ValueError, match="input_shape=.*must be positive"):
        small(input_shape=shape)


@pytest.mark.parametrize("latent", [0, -1, 2.5, "8", True])
def test_a_latent_that_is_no_count_is_refused(latent: Any) -> None:
    with pytest.raises(ValueError, match=r"latent=.*: must be (a whole number|at least 1)$"):
        small(latent=latent)


@pytest.mark.parametrize(
    ("noise", "value"),
    [(2.0, "2.0"), ("gaussian", "'gaussian'"), (None, "None"), (GaussianNoise, "<class .*GaussianNoise'>")],
)
def test_a_noise_that_is_none_is_refused_by_what_would_be_one(noise: Any, value: str) -> None:
    with pytest.raises(ValueError, match=f"^noise={value}: must be a Noise, or its settings$"):
        small(noise=noise)


def test_a_network_or_optimiser_that_is_none_is_refused_by_what_would_be_one() -> None:
    with pytest.raises(ValueError, match=r"^network=Linear\(.*: must be a Network, or its settings$"):
        small(network=torch.nn.Linear(24, 24))
    for optim in ("adam", 0.01, torch.optim.Adam):
        with pytest.raises(ValueError, match=r"^optim=.*: must be a mapping whose kind is one of adam, adam_onecycle$"):
            small(optim=optim)


def test_the_notebooks_own_call_is_answered_with_the_names_of_here() -> None:
    ours = r"DenoisingAutoencoder\(input_shape=..., latent=..., noise=GaussianNoise\(mean, sigma\)\)$"
    for kind in (DenoisingAutoencoder, ManySteps):
        with pytest.raises(TypeError, match=f"^input_dim, latent_dim, noise_mean, noise_stddev: .* {ours}"):
            kind(input_dim=(28, 28), latent_dim=256, noise_mean=0.0, noise_stddev=2.0)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=f"^noise_stddev: .* {ours}"):
        small(noise_stddev=2.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'latnet'"):
        small(latnet=3)


def test_an_optimisers_settings_that_are_left_out_are_the_notebooks() -> None:
    notebooks = {"kind": "adam", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-7}
    assert small(optim={}).hparams["optim"] == small().hparams["optim"] == notebooks
    assert small(optim={"lr": 1e-2}).hparams["optim"] == notebooks | {"lr": 1e-2}
    assert small(optim={"kind": "adam_onecycle", "warmup": 0.3}).optim.eps == 1e-7
    with pytest.raises(ValueError, match=r"optim.rate=0.1: no such key .*did you mean optim"):
        small(optim={"rate": 0.1})


def test_what_the_package_names_is_there() -> None:
    wanted = {"FashionMnist", "Glyphs", "IdxFolder", "ImageFolder", "ImageDataModule", "MaskingNoise", "__version__"}
    assert wanted <= set(dae_lightning.__all__) == set(dir(dae_lightning))
    assert all(getattr(dae_lightning, name) for name in dae_lightning.__all__)
    assert dae_lightning.__version__ == version("dae_lightning")


def test_wrong_images_are_refused_by_what_they_are() -> None:
    model = small().eval()
    with pytest.raises(TypeError, match=r"images are torch.uint8: must be torch.float32"):
        model((IMAGES * 255).to(torch.uint8))
    with pytest.raises(ValueError, match=r"images are \(5, 4, 6\): must be \(B, 6, 4\)"):
        model(IMAGES.transpose(1, 2))
    with pytest.raises(ValueError, match=r"images are \(6, 4\): must be \(B, 6, 4\)"):
        model(IMAGES[0])
    with pytest.raises(TypeError, match=r"images are torch.float64: must be torch.float32"):
        model(IMAGES.double())
    with pytest.raises(TypeError, match=r"images are ndarray: must be a tensor"):
        model(IMAGES.numpy())
    with pytest.raises(ValueError, match=r"images lie in \[0, 255\]: must lie in \[0, 1\]"):
        fit(small(), [torch.tensor([0.0, 255.0]).repeat(2, 6, 2)])


@pytest.mark.parametrize("slope", [0.3, 0.01])
def test_the_network_is_the_notebooks_equation(slope: float) -> None:
    model = small(network={"kind": "dense", "negative_slope": slope}).eval()
    x = IMAGES.flatten(1)
    code = x @ model.network.encoder.weight.T + model.network.encoder.bias
    code = torch.where(code > 0, code, slope * code)
    image = 1 / (1 + torch.exp(-(code @ model.network.decoder.weight.T + model.network.decoder.bias)))
    torch.testing.assert_close(model(IMAGES), image.view_as(IMAGES))
    assert bool((code < 0).any())  # the slope was in play
    kept = {"negative_slope": slope} if slope != 0.3 else {}  # no more than in the checkpoints of earlier versions
    assert model.hparams["network"] == {"kind": "dense", "input_scale": 1.0} | kept


def test_scaling_the_input_is_scaling_the_encoders_weights() -> None:
    plain, scaled = small().eval(), small(network={"kind": "dense", "input_scale": 0.25}).eval()
    assert not torch.allclose(plain(IMAGES), scaled(IMAGES))
    with torch.no_grad():
        plain.network.encoder.weight.mul_(0.25)
    assert torch.equal(plain(IMAGES), scaled(IMAGES))  # a power of two rounds nothing


def test_an_untrained_model_answers_with_the_image_it_starts_at() -> None:
    model = small()
    with torch.no_grad():
        model.network.decoder.weight.zero_()
    model.network.start_at(IMAGES[0])
    torch.testing.assert_close(model.eval()(IMAGES[1:2]), IMAGES[:1])
    model.network.start_at(torch.ones(6, 4))
    assert bool(model.network.decoder.bias.isfinite().all())


def test_weights_are_glorot_uniform_biases_zero_and_both_a_function_of_the_seed() -> None:
    model = small(input_shape=(28, 28), latent=256)
    for layer in (model.network.encoder, model.network.decoder):
        bound = math.sqrt(6 / (784 + 256))
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
        assert layer.bias.count_nonzero() == 0
    torch.rand(1)  # the global generator has no say
    assert torch.equal(small(seed=3).network.encoder.weight, small(seed=3).network.encoder.weight)
    assert not torch.equal(small(seed=3).network.encoder.weight, small(seed=4).network.encoder.weight)


def test_noise_in_training_is_a_function_of_seed_and_step() -> None:
    model, same, other = small(), small(), small(seed=1)
    first, second = (model.noise(IMAGES, model.noise_generator()) for _ in range(2))
    assert torch.equal(first, same.noise(IMAGES, same.noise_generator()))
    assert not torch.equal(first, second)
    assert not torch.equal(first, other.noise(IMAGES, other.noise_generator()))


def test_noise_in_evaluation_is_a_function_of_eval_seed_and_image_alone() -> None:
    indices = torch.arange(5)
    draw = small().corrupt_fixed(IMAGES, indices)
    assert torch.equal(draw[2:], small(seed=1).corrupt_fixed(IMAGES[2:], indices[2:]))
    assert not torch.equal(draw, small(eval_seed=1).corrupt_fixed(IMAGES, indices))


def test_noise_reaches_the_encoder_while_the_trainer_trains_and_only_then() -> None:
    """Under Keras 3 the notebook silently trains without noise: its model never tells the layer that it trains."""
    model = small(noise=GaussianNoise(0.0, 5.0))
    seen = []
    model.network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    fit(model, [IMAGES])
    assert (seen[-1] - IMAGES.flatten(1)).std().item() == pytest.approx(5, rel=0.3)
    model.eval()(IMAGES)
    assert torch.equal(seen[-1], IMAGES.flatten(1))


def test_the_target_is_the_clean_image_and_the_loss_is_bce_of_the_sigmoid() -> None:
    model = small(noise=MaskingNoise(1.0), optim={"kind": "adam", "lr": 1e-12, "betas": (0.9, 0.999), "eps": 1})
    trainer = fit(model, [IMAGES])
    black = model.eval()(torch.zeros_like(IMAGES))  # what the encoder saw: everything is masked
    expected = F.binary_cross_entropy(black, IMAGES)
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_epochs_loss_is_the_mean_over_its_images_be_the_last_batch_smaller() -> None:
    frozen = {"kind": "adam", "lr": 1e-12, "betas": (0.9, 0.999), "eps": 1}
    model = chunked(noise=MaskingNoise(0.0), optim=frozen)
    trainer = fit(model, [(IMAGES[1:], IMAGES[:1])])
    expected = F.binary_cross_entropy(model.eval()(IMAGES), IMAGES)
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_chunk_of_batches_takes_as_many_optimiser_steps_as_the_batches_alone() -> None:
    batches = [torch.rand(4, 6, 4) for _ in range(6)]
    alone, together = chunked(), chunked()
    fit(alone, [(batch,) for batch in batches])
    fit(together, [tuple(batches[:4]), tuple(batches[4:])])
    assert together.batches_seen == alone.batches_seen == 6
    assert torch.equal(alone.network.encoder.weight, together.network.encoder.weight)


def test_max_steps_ends_within_a_chunk() -> None:
    model = chunked()
    model.max_steps = 4
    fit(model, [tuple(IMAGES for _ in range(6))], max_epochs=-1)
    assert model.batches_seen == 4


@pytest.mark.parametrize("name", ["adam", "adam_onecycle"])
def test_a_saved_model_loads_without_further_arguments_with_its_noise(name: str, tmp_path: Path) -> None:
    optim = {"kind": name, "lr": 1e-2, "betas": [0.9, 0.99], "eps": 1e-7}
    optim |= {"warmup": 0.3} if "cycle" in name else {}
    model = small(noise=GaussianNoise(0.5, 6.0), optim=optim, network={"kind": "dense", "input_scale": 0.2})
    fit(model, [IMAGES] * 5).save_checkpoint(tmp_path / "model.ckpt")
    loaded = DenoisingAutoencoder.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True).eval()
    assert loaded.noise.settings() == {"kind": "gaussian", "mean": 0.5, "sigma": 6.0}
    assert loaded.hparams == model.hparams
    assert torch.equal(loaded(IMAGES), model.eval()(IMAGES))
    assert torch.equal(loaded(IMAGES), loaded(IMAGES))  # no noise


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step() -> None:
    model = chunked()
    with torch.no_grad():
        model.network.decoder.bias.fill_(math.inf)
    with pytest.raises(Exception, match=r"the loss of step 0, at rate 0.001, is (nan|inf): lower optim.lr=0.001"):
        fit(model, [tuple([IMAGES] * 3)])
