"""The Denoiser: what goes in comes out denoised, of the same kind, and noise is added only when asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dae_lightning import Denoiser, DenoisingAutoencoder, GaussianNoise, MaskingNoise
from dae_lightning.errors import CheckpointError, ConfigError
from dae_lightning.inference import denoiser as inference
from dae_lightning.model.noise import corrupt_each
from tests.conftest import Run

SHAPE = (6, 4)
BYTES = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)
FLOATS = torch.from_numpy(BYTES).float() / 255


def make(shape: tuple[int, ...] = SHAPE, **changes: Any) -> Denoiser:
    """With weights large enough for outputs far from 0.5."""
    model = DenoisingAutoencoder(shape, **{"latent": 3, "noise": GaussianNoise(0.5, 2.0)} | changes)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(3).add_(0.1)
    return Denoiser(model, "cpu")


def truth(denoiser: Denoiser, images: torch.Tensor) -> torch.Tensor:
    """The model's own answer to images (N, *input_shape) in [0, 1]."""
    with torch.no_grad():
        return denoiser.model.eval()(images)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", ">f4", "longdouble"])
def test_arrays_come_back_of_their_type_shape_and_range(dtype: str) -> None:
    denoiser = make()
    images = BYTES if dtype == "uint8" else (BYTES / 255).astype(dtype)
    expected = truth(denoiser, FLOATS).numpy()
    expected = (expected * 255).round() if dtype == "uint8" else expected
    for came, wanted in ((images, expected), (images[2], expected[2]), (images[:0], expected[:0])):
        denoised = denoiser(came)
        assert isinstance(denoised, np.ndarray)
        assert (denoised.dtype, denoised.shape) == (came.dtype, came.shape)
        tolerance = 1 if dtype == "uint8" else 2e-3 if dtype == "float16" else 1e-6
        np.testing.assert_allclose(denoised.astype(np.float64), wanted, atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_come_back_of_their_type_shape_and_range(dtype: torch.dtype) -> None:
    denoiser = make()
    images = torch.from_numpy(BYTES) if dtype == torch.uint8 else FLOATS.to(dtype)
    expected = truth(denoiser, FLOATS if dtype == torch.uint8 else images.float())
    denoised = denoiser(images)
    assert (denoised.dtype, denoised.shape, denoised.device) == (dtype, images.shape, images.device)
    level, tolerance = (255, 1) if dtype == torch.uint8 else (1, 4e-3 if dtype.itemsize == 2 else 1e-6)
    torch.testing.assert_close(denoised.float(), expected * level, atol=tolerance, rtol=0)
    torch.testing.assert_close(denoiser(images[1]), denoised[1], atol=tolerance, rtol=0)


def test_pictures_come_back_as_pictures() -> None:
    grey, colour, flat = make((6, 4)), make((3, 6, 4)), make((1, 6, 4))
    image = Image.fromarray(BYTES[0])
    denoised = grey(image)
    assert (denoised.mode, denoised.size) == ("L", (4, 6))
    np.testing.assert_array_equal(np.array(denoised), grey(BYTES[0]))
    np.testing.assert_array_equal(np.array(flat(image)), flat(BYTES[:1])[0])
    rgb = np.random.default_rng(1).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    denoised = colour(Image.fromarray(rgb))
    assert (denoised.mode, denoised.size) == ("RGB", (4, 6))
    np.testing.assert_array_equal(np.array(denoised).transpose(2, 0, 1), colour(rgb.transpose(2, 0, 1)))


def test_a_list_comes_back_as_a_list_each_of_its_own_kind() -> None:
    denoiser = make()
    items = [BYTES[0], FLOATS[1], Image.fromarray(BYTES[2]), BYTES[3] / 255]
    denoised = denoiser(items)
    assert isinstance(denoised, list)
    assert isinstance(denoiser(tuple(items)), tuple)
    for came, one in zip(denoised, (denoiser(item) for item in items), strict=True):
        assert type(came) is type(one)
        np.testing.assert_allclose(np.asarray(came, dtype=float), np.asarray(one, dtype=float), atol=1e-6)
    assert denoiser([]) == []


def test_the_size_of_a_batch_and_of_the_whole_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(100, *SHAPE)
    whole = make()(images)
    noisy = make().corrupt(images, seed=3)
    monkeypatch.setattr(inference, "BATCH_PIXELS", 7 * 24)
    torch.testing.assert_close(make()(images), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(make()(list(images)), list(whole), atol=1e-6, rtol=0)
    assert torch.equal(make().corrupt(images, seed=3), noisy)
    assert torch.equal(torch.stack(make().corrupt(list(images), seed=3)), noisy)
    assert torch.equal(make().corrupt(images[:9], seed=3), noisy[:9])


def test_what_came_is_left_as_it_was_even_if_it_cannot_be_written() -> None:
    images = BYTES[:, :, ::-1].copy()
    images.flags.writeable = False
    kept = images.copy()
    np.testing.assert_array_equal(make()(images), make()(kept))
    np.testing.assert_array_equal(make()(kept[:, ::-1][:, ::-1]), make()(kept))
    np.testing.assert_array_equal(images, kept)
    floats = FLOATS.clone().requires_grad_()
    assert not make()(floats).requires_grad
    assert torch.equal(floats, FLOATS)


def test_no_noise_is_added_even_to_a_model_left_in_training_mode() -> None:
    denoiser = make()
    denoised = denoiser(FLOATS)
    denoiser.model.train()
    assert torch.equal(denoiser(FLOATS), denoised)


def test_decoding_the_code_is_denoising() -> None:
    denoiser = make()
    codes = denoiser.encode(BYTES)
    assert (codes.shape, codes.dtype) == ((5, 3), np.float32)
    np.testing.assert_allclose(denoiser.decode(codes), denoiser(FLOATS.numpy()), atol=1e-6)
    assert denoiser.encode(FLOATS[0]).shape == (3,)
    assert torch.equal(denoiser.decode(denoiser.encode(FLOATS[0])), denoiser(FLOATS[0]))
    assert denoiser.encode(Image.fromarray(BYTES[0])).shape == (3,)
    with pytest.raises(TypeError, match=r"codes are uint8: must be floating point"):
        denoiser.decode(np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match=r"codes are \(2, 4\): must be \(3,\) or \(N, 3\)"):
        denoiser.decode(torch.zeros(2, 4))


def test_corrupting_adds_the_noise_of_the_checkpoint_unclipped_as_a_function_of_the_seed() -> None:
    denoiser = make()
    noisy = denoiser.corrupt(FLOATS, seed=4)
    assert torch.equal(noisy, corrupt_each(denoiser.model.noise, FLOATS, 4, torch.arange(5)))
    assert noisy.min() < 0
    assert noisy.max() > 1
    assert not torch.equal(noisy, denoiser.corrupt(FLOATS, seed=5))
    from_bytes = denoiser.corrupt(BYTES, seed=4)
    assert from_bytes.dtype == np.float32
    np.testing.assert_array_equal(from_bytes, noisy.numpy())
    assert isinstance(denoiser.corrupt(Image.fromarray(BYTES[0])), np.ndarray)


def test_another_sigma_keeps_the_mean() -> None:
    noise = make((200, 200)).corrupt(torch.zeros(200, 200), sigma=0.1)
    assert noise.mean().item() == pytest.approx(0.5, abs=0.002)
    assert noise.std().item() == pytest.approx(0.1, rel=0.02)
    assert torch.equal(make().corrupt(FLOATS, sigma=0), FLOATS + 0.5)


def test_noise_settings_that_make_no_sense_are_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^sigma=-1: must be at least 0$"):
        make().corrupt(FLOATS, sigma=-1)
    with pytest.raises(ConfigError, match=r"^seed=-1: must be at least 0"):
        make().corrupt(FLOATS, seed=-1)
    with pytest.raises(ConfigError, match=r"^sigma=2: the model's noise, MaskingNoise\(.*\), has none; leave it out$"):
        make(noise=MaskingNoise(0.3)).corrupt(FLOATS, sigma=2)
    assert set(make(noise=MaskingNoise(1.0)).corrupt(FLOATS).unique().tolist()) == {0.0}


WRONG: list[tuple[Any, type[Exception], str]] = [
    (BYTES[:, :, :3], ValueError, r"images are \(5, 6, 3\): must be \(6, 4\) or \(N, 6, 4\)"),
    (BYTES[None], ValueError, r"images are \(1, 5, 6, 4\): must be"),
    ([BYTES], ValueError, r"images are \(5, 6, 4\): must be \(6, 4\) each in a list"),
    (Image.new("L", (5, 6)), ValueError, r"images are \(6, 5\): must be"),
    (Image.new("RGB", (4, 6)), TypeError, r"images are RGB: must be L"),
    (BYTES.astype(np.int64), TypeError, r"images are int64: must be uint8 \(0 to 255\) or floating point"),
    (BYTES.astype(np.uint16), TypeError, r"images are uint16"),
    (BYTES > 3, TypeError, r"images are bool"),
    (BYTES.astype(complex), TypeError, r"images are complex128"),
    (BYTES.astype(object), TypeError, r"images are object"),
    (torch.zeros(5, *SHAPE, dtype=torch.int32), TypeError, r"images are torch.int32"),
    (FLOATS / 0, ValueError, r"images hold NaN or infinity: must be finite"),
    (
        BYTES.astype(np.float64) / BYTES.max() * 255,
        ValueError,
        r"^images reach 255: divide by 255; clean floats lie in \[0, 1\]$",
    ),
    (list(FLOATS * 255), ValueError, r"^images reach 2\d\d: divide by 255"),
    (np.full(SHAPE, 1e300), ValueError, r"images hold NaN or infinity"),
    ("noisy.png", TypeError, r"images are str: must be NumPy arrays, tensors or PIL images, or a list of"),
    (None, TypeError, r"images are NoneType"),
    ([[0.5]], TypeError, r"images are list"),
]


@pytest.mark.parametrize(("images", "error", "message"), WRONG)
def test_wrong_images_are_refused_in_one_line(images: Any, error: type[Exception], message: str) -> None:
    denoiser = make()
    for method in (denoiser, denoiser.encode, denoiser.corrupt):
        with pytest.raises(error, match=message) as caught:
            method(images)
        assert "\n" not in str(caught.value)


def test_noisy_floats_may_lie_anywhere() -> None:
    noisy = FLOATS * 60 - 30
    torch.testing.assert_close(make()(noisy), truth(make(), noisy), atol=1e-6, rtol=0)


@pytest.mark.parametrize("model", ["folder", Path("folder"), None, torch.nn.Linear(2, 2)])
def test_a_model_that_is_none_is_refused_by_what_would_be_one(model: Any) -> None:
    remedy = "must be a DenoisingAutoencoder; Denoiser.load reads a run folder or a checkpoint"
    with pytest.raises(TypeError, match=f"^model is {type(model).__name__}: {remedy}$"):
        Denoiser(model)


def test_a_model_of_vectors_takes_no_pictures() -> None:
    denoiser = make((24,))
    assert denoiser(FLOATS.flatten(1)).shape == (5, 24)
    with pytest.raises(TypeError, match=r"images are L: must be NumPy arrays or tensors$"):
        denoiser(Image.new("L", (4, 6)))


def test_a_run_folder_and_its_checkpoint_are_the_same_denoiser(run: Run, tmp_path: Path) -> None:
    folder = run("run", "trainer.max_epochs=1")
    images = torch.rand(3, 12, 12)
    best = Denoiser.load(folder / "checkpoints" / "best.ckpt", device="cpu")
    assert torch.equal(best(images), Denoiser.load(str(folder), device="cpu")(images))
    with pytest.raises(CheckpointError, match="nowhere: no such file or run folder"):
        Denoiser.load("nowhere")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(CheckpointError, match="text.ckpt: damaged, or not a checkpoint"):
        Denoiser.load(tmp_path / "text.ckpt")


def test_a_device_that_is_not_there_is_one_line() -> None:
    model = make().model
    with pytest.raises(ConfigError, match=r"device=gpu: must be auto, cpu, or cuda"):
        Denoiser(model, "gpu")
    with pytest.raises(ConfigError, match=r"device=meta: must be auto, cpu, or cuda"):
        Denoiser(model, "meta")
    if not torch.cuda.is_available():
        assert Denoiser(model).model.device == torch.device("cpu")
        with pytest.raises(ConfigError, match=r"device=cuda: torch sees no CUDA GPU here; device=cpu needs none"):
            Denoiser(model, "cuda")
