"""Photographs of any size through a model of patches: arrays, image files, evaluation."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from PIL import Image

from dae_lightning import Denoiser, DenoisingAutoencoder, config
from dae_lightning.cli import commands
from dae_lightning.cli.hydra_app import CONF, checked
from dae_lightning.data.idx import read_idx, write_idx
from dae_lightning.data.photograph_files import read_photograph, write_photograph
from dae_lightning.errors import CheckpointError, ConfigError, DataError
from dae_lightning.evaluation.evaluate import evaluate
from dae_lightning.inference import photographs
from dae_lightning.inference.files import denoise, find_images
from dae_lightning.model.photograph_noise import photograph_sigma
from tests.test_documentation import blocks, undescribed

NOISE = {"kind": "gaussian_range", "mean": 0.0, "low": 1 / 255, "high": 75 / 255}
RESIDUAL = {"kind": "residual", "depth": 2}
PATCH = 15
Array = NDArray[Any]


def make(**changes: Any) -> DenoisingAutoencoder:
    """A model of patches that, untrained, gives back what it gets."""
    settings: dict[str, Any] = {"latent": 16, "noise": NOISE, "network": RESIDUAL, "loss": "mse", "patches": True}
    return DenoisingAutoencoder((PATCH, PATCH), **settings | changes)


def changed(strength: float = 3.0) -> DenoisingAutoencoder:
    """One that does something to its input, by random weights."""
    model = make()
    with torch.no_grad():
        model.network.noise.weight.normal_(0, strength, generator=torch.Generator().manual_seed(0))
    return model


def photograph(height: int = 40, width: int = 57, colours: int = 0, seed: int = 0) -> torch.Tensor:
    """Something like one, (H, W) or (3, H, W): slopes, edges and texture, from black to white."""
    random = np.random.default_rng(seed)
    shape = (colours or 1, 1, 1)
    y, x = np.mgrid[:height, :width] / 40
    picture = 0.5 + 0.2 * np.sin(3 * x + 2 * y + random.uniform(0, 6, shape)) + 0.1 * np.sin(5 * y)
    picture[:, (x > 0.3) & (y < 0.6)] += 0.3
    picture[:, (x + y) > 1.6] += 0.1 * np.sin(40 * x)[(x + y) > 1.6]
    tensor = torch.from_numpy(picture.clip(0, 1)).float()
    return tensor if colours else tensor[0]


def noisy(picture: torch.Tensor, sigma: float, seed: int = 0) -> torch.Tensor:
    return picture + sigma * torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed))


# --- any size -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(15, 15), (15, 40), (16, 31), (3, 15, 22), (3, 40, 16)])
@pytest.mark.parametrize("stride", [1, 3, 4, 15])
def test_a_network_that_changes_nothing_gives_the_picture_back_up_to_its_borders(
    shape: tuple[int, ...], stride: int
) -> None:
    picture = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    denoised = Denoiser(make(), "cpu")(picture, sigma=0.1, stride=stride)
    torch.testing.assert_close(denoised, picture, atol=1e-5, rtol=0)


def test_at_stride_1_a_shifted_picture_is_the_shifted_result() -> None:
    denoiser, picture = Denoiser(changed(), "cpu"), noisy(photograph(60, 61), 0.1)
    whole = denoiser(picture, sigma=0.1, stride=1)
    assert (whole - picture.clamp(0, 1)).abs().max() > 0.1
    shifted = denoiser(picture[1:, 1:], sigma=0.1, stride=1)
    inner = slice(PATCH, -PATCH)
    assert (shifted[inner, inner] - whole[1:, 1:][inner, inner]).abs().max() < 1e-4


def test_at_its_borders_a_picture_goes_on_as_in_a_mirror() -> None:
    denoiser, picture = Denoiser(changed(), "cpu"), noisy(photograph(), 0.1)
    larger = torch.nn.functional.pad(picture[None], (20, 20, 20, 20), mode="reflect")[0]
    expected = denoiser(larger, sigma=0.1, stride=1)[20:-20, 20:-20]
    torch.testing.assert_close(denoiser(picture, sigma=0.1, stride=1), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("stride", [1, 4])
def test_the_strips_in_which_it_is_done_change_nothing(monkeypatch: pytest.MonkeyPatch, stride: int) -> None:
    denoiser, picture = Denoiser(changed(), "cpu"), noisy(photograph(colours=3), 0.1)
    whole = denoiser(picture, stride=stride)
    monkeypatch.setattr(photographs, "BATCH", 50)
    torch.testing.assert_close(denoiser(picture, stride=stride), whole, atol=1e-5, rtol=0)


def test_the_mean_of_three_colours_is_denoised_as_a_grey_picture_with_less_noise() -> None:
    denoiser, picture = Denoiser(changed(0.3), "cpu"), 0.3 + 0.4 * photograph(colours=3)  # nothing is clipped
    luminance = denoiser(picture, sigma=0.1).mean(0)
    expected = denoiser(picture.mean(0), sigma=0.1 / 3**0.5)
    assert (luminance - picture.mean(0)).abs().max() > 1e-3
    torch.testing.assert_close(luminance, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(20, 31), (3, 20, 31), (5, 16, 15), (2, 3, 16, 15), (0, 20, 31)])
def test_arrays_and_tensors_come_back_of_their_type_shape_and_range(dtype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).random(shape)
    white = np.iinfo(dtype).max if dtype.startswith("uint") else 1
    array = (values * white).astype(dtype)
    denoiser = Denoiser(make(), "cpu")
    for came in (array, torch.from_numpy(array)):
        denoised = denoiser(came)
        assert (type(denoised), denoised.dtype, denoised.shape) == (type(came), came.dtype, came.shape)
        tolerance = 0 if dtype == "uint8" else 1 if dtype == "uint16" else 1e-3
        np.testing.assert_allclose(np.asarray(denoised, float), array.astype(float), atol=tolerance)


def test_pictures_and_lists_come_back_as_what_they_are() -> None:
    denoiser, random = Denoiser(make(), "cpu"), np.random.default_rng(0)
    pictures = [
        Image.fromarray(random.integers(0, 256, (30, 20), dtype=np.uint8)),
        Image.fromarray(random.integers(0, 256, (16, 40, 3), dtype=np.uint8)),
        Image.fromarray(random.integers(0, 65536, (15, 15), dtype=np.uint16)),
    ]
    for came, denoised in zip(pictures, denoiser(pictures), strict=True):
        assert (denoised.mode, denoised.size) == (came.mode, came.size)
        np.testing.assert_array_equal(np.array(denoised), np.array(came))
    mixed = (pictures[0], torch.rand(3, 20, 20), random.random((15, 90)))
    assert [type(one) for one in denoiser(mixed)] == [Image.Image, torch.Tensor, np.ndarray]
    assert denoiser([]) == []


def test_sigma_is_told_or_estimated_for_each_picture() -> None:
    denoiser = Denoiser(changed(), "cpu")
    pictures = [noisy(photograph(60, 60), 0.05), noisy(photograph(70, 50, 3), 0.2)]
    estimates = [photograph_sigma(picture) for picture in pictures]
    assert estimates == pytest.approx([0.05, 0.2], rel=0.2)
    estimated = denoiser(pictures)
    for picture, one, sigma in zip(pictures, estimated, estimates, strict=True):
        torch.testing.assert_close(one, denoiser(picture, sigma=sigma))
    torch.testing.assert_close(denoiser(pictures, sigma=estimates), estimated)
    assert not torch.allclose(denoiser(pictures[0], sigma=0.2), estimated[0], atol=1e-3)
    stack = torch.stack([noisy(photograph(), 0.1, seed) for seed in range(2)])
    torch.testing.assert_close(denoiser(stack, sigma=[0.05, 0.1])[1], denoiser(stack[1], sigma=0.1))


def test_noise_is_added_to_photographs_of_any_size() -> None:
    denoiser, pictures = Denoiser(make(), "cpu"), [photograph(300, 200), photograph(colours=3)]
    first, second = denoiser.corrupt(pictures, sigma=0.1, seed=1)
    assert (first - pictures[0]).std().item() == pytest.approx(0.1, rel=0.02)
    assert second.shape == pictures[1].shape
    assert torch.equal(denoiser.corrupt(pictures, sigma=0.1, seed=1)[0], first)


def test_a_dense_network_of_patches_does_without_sigma() -> None:
    denoiser = Denoiser(make(network={"kind": "dense"}, loss="bce"), "cpu")
    assert denoiser(photograph()).shape == (40, 57)
    assert denoiser(photograph(colours=3)).shape == (3, 40, 57)
    with pytest.raises(ConfigError, match=r"^sigma=0.1: network=dense cannot use it; leave it out$"):
        denoiser(photograph(), sigma=0.1)


def test_a_few_seconds_of_training_remove_noise_and_leave_clean_pictures_as_they_are() -> None:
    torch.manual_seed(0)
    model = make(latent=128, noise={"kind": "gaussian", "mean": 0.0, "sigma": 0.1})
    pictures = torch.stack([photograph(64, 64, seed=seed) for seed in range(8)])
    patches = pictures.unfold(1, PATCH, 2).unfold(2, PATCH, 2).reshape(-1, PATCH, PATCH)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        clean = patches[torch.randint(len(patches), (128,))]
        corrupted, sigma = model.corrupt(clean)
        loss = model.loss(corrupted, clean, sigma)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    denoiser, unseen = Denoiser(model, "cpu"), photograph(80, 90, seed=20)
    came = noisy(unseen, 0.1)
    assert psnr(denoiser(came), unseen) > psnr(came, unseen) + 3
    assert psnr(denoiser(unseen), unseen) > 40


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(-10 * (one - other).square().mean().log10())


WRONG: list[tuple[Any, type[Exception], str]] = [
    (np.zeros((10, 30)), ValueError, r"images are \(10, 30\): must be \(H, W\) or \(3, H, W\), at least 15 and 15"),
    (np.zeros((40, 50, 3)), ValueError, r"images are \(40, 50, 3\): must be \(H, W\) or \(3, H, W\)"),
    (np.zeros(7), ValueError, r"images are \(7,\): must be \(H, W\)"),
    ([np.zeros((2, 20, 20))], ValueError, r"images are \(2, 20, 20\): must be \(20, 20\) each in a list"),
    (Image.new("L", (3, 4)), ValueError, r"images are 3x4: must be"),
    (Image.new("RGBA", (30, 40)), TypeError, r"images are RGBA: must be L or RGB or I;16"),
    (np.zeros((20, 20), int), TypeError, r"must be uint8 \(0 to 255\) or uint16 \(0 to 65535\) or floating point"),
    (np.full((20, 20), np.nan), ValueError, r"images hold NaN or infinity"),
    (np.full((20, 20), 200.0), ValueError, r"images reach 200: divide by 255"),
    ("photo.jpg", TypeError, r"images are str"),
]


@pytest.mark.parametrize(("images", "error", "message"), WRONG)
def test_wrong_images_are_refused_in_one_line(images: Any, error: type[Exception], message: str) -> None:
    denoiser = Denoiser(make(), "cpu")
    for method in (denoiser, denoiser.corrupt):
        with pytest.raises(error, match=message) as caught:
            method(images)
        assert "\n" not in str(caught.value)


def test_wrong_settings_are_refused_in_one_line() -> None:
    denoiser, picture = Denoiser(make(), "cpu"), photograph()
    for stride in (0, 16, 1.5):
        with pytest.raises(ConfigError, match=rf"^stride={stride}: must be a whole number from 1 to 15, the side of"):
            denoiser(picture, stride=stride)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"must be one number for each of the 1 images"):
        denoiser(picture, sigma=[0.1, 0.2])
    ordinary = Denoiser(DenoisingAutoencoder((PATCH, PATCH), 4, NOISE), "cpu")
    with pytest.raises(ConfigError, match=r"^stride=3: the model takes whole images, not patches; leave it out$"):
        ordinary(torch.zeros(PATCH, PATCH), stride=3)
    with pytest.raises(ValueError, match=r"must be \(15, 15\) or \(N, 15, 15\)"):
        ordinary(picture)
    with pytest.raises(ConfigError, match=r"patches of photographs must be \(H, W\)$"):
        Denoiser(DenoisingAutoencoder((3, 5, 5), 4, NOISE, patches=True), "cpu")


def test_the_page_on_photographs_uses_them_as_it_is_written(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    (block,) = blocks("docs/photographs.md")
    exec(block.replace("outputs/...", str(save(make(), tmp_path / "model.ckpt"))), names)
    assert [one.shape for one in names["denoised"]] == [(3, 120, 160), (50, 160)]


# --- how noisy a photograph is --------------------------------------------------------------------------------------


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("sigma", [2, 5, 15, 25, 50, 75])
def test_sigma_of_a_photograph_is_found_whatever_texture_it_has(sigma: int, clipped: bool) -> None:
    pictures = [noisy(photograph(200, 200, seed=seed), sigma / 255, seed) for seed in range(3)]
    if clipped:
        pictures = [(picture.clamp(0, 1) * 255).round() / 255 for picture in pictures]
    found = np.mean([255 * photograph_sigma(picture) for picture in pictures])
    assert found == pytest.approx(sigma, rel=0.15, abs=0.5)


def test_clean_and_empty_pictures_have_no_noise() -> None:
    assert photograph_sigma(photograph(200, 200)) < 1 / 255
    for grey in (0.0, 0.5, 1.0):
        assert photograph_sigma(torch.full((20, 30), grey)) < 1e-5
    assert photograph_sigma(torch.full((3, 15, 15), 0.3)) < 1e-5


def test_black_and_white_areas_say_nothing_of_the_noise() -> None:
    picture = (noisy(photograph(200, 200), 0.1).clamp(0, 1) * 255).round() / 255
    picture[:90], picture[150:] = 1.0, 0.0
    assert photograph_sigma(picture) == pytest.approx(0.1, rel=0.1)


# --- files ----------------------------------------------------------------------------------------------------------

Denoise = Callable[..., tuple[str, str]]


def save(model: DenoisingAutoencoder, path: Path, **more: Any) -> Path:
    torch.save({"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()} | more, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Denoise:
    """Denoise tmp_path/in into tmp_path/out: what was printed, and the error at the end, if any."""

    def call(model: DenoisingAutoencoder | None = None, *overrides: str) -> tuple[str, str]:
        checkpoint = save(model or make(), tmp_path / "model.ckpt")
        places = [f"checkpoint={checkpoint}", f"images={tmp_path / 'in'}", f"output={tmp_path / 'out'}", "device=cpu"]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            settings = checked(compose("denoise", [*places, *overrides]), config.Denoise)
        try:
            denoise(settings, checkpoint, find_images(settings.images, settings.output))
        except DataError as problem:
            return capsys.readouterr().out, str(problem)
        return capsys.readouterr().out, ""

    return call


def samples(dtype: str, colours: int) -> Array:
    """(H, W) or (3, H, W), smooth enough for lossy formats."""
    picture = photograph(30, 44, colours).numpy()
    return (picture * np.iinfo(dtype).max).round().astype(dtype)


LOSSLESS = [("a.png", "uint8"), ("a.png", "uint16"), ("a.tif", "uint8"), ("a.tiff", "uint16"), ("a.bmp", "uint8")]
LOSSY = [("a.jpg", "uint8"), ("a.webp", "uint8")]


@pytest.mark.parametrize(("name", "dtype"), LOSSLESS + LOSSY)
@pytest.mark.parametrize("colours", [0, 3])
def test_a_file_keeps_its_name_format_size_and_depth(
    folder: Path, tmp_path: Path, called: Denoise, name: str, dtype: str, colours: int
) -> None:
    came = samples(dtype, colours)
    format = Image.registered_extensions()[Path(name).suffix]
    write_photograph(folder / name, came, format, b"")
    before = read_photograph(folder / name)
    printed, error = called()
    assert error == ""
    after = read_photograph(tmp_path / "out" / name)
    assert after.format == format
    assert (after.values.dtype, after.values.shape) == (before.values.dtype, before.values.shape)
    assert after.values.dtype == dtype
    tolerance = 12 if (name, dtype) in LOSSY else 0
    np.testing.assert_allclose(after.values.astype(int), before.values.astype(int), atol=tolerance)
    assert "converted" not in printed


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_the_lower_bytes_of_16_bit_colours_are_read_and_written(tmp_path: Path, name: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (3, 21, 34), dtype=np.uint16)
    write_photograph(tmp_path / name, values, "PNG" if name == "a.png" else "TIFF", b"")
    np.testing.assert_array_equal(read_photograph(tmp_path / name).values, values)
    with Image.open(tmp_path / name) as image:  # what Pillow itself makes of it: the upper bytes
        np.testing.assert_array_equal(np.array(image), values.transpose(1, 2, 0) >> 8)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_exif_data_stay_and_the_orientation_is_applied(
    folder: Path, tmp_path: Path, called: Denoise, name: str, dtype: str
) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0132], exif[0x0112] = "Maker", "2020:01:01 00:00:00", 6
    exif[0x8769] = {0x9003: "2019:01:01 00:00:00", 0x829A: 0.01}
    exif[0x8825] = {1: "N", 2: (52.0, 30.0, 0.0)}
    came = samples(dtype, 3)
    write_photograph(folder / name, came, Image.registered_extensions()[Path(name).suffix], exif.tobytes())
    assert called()[1] == ""
    with Image.open(tmp_path / "out" / name) as image:
        said = image.getexif()
        assert (said[0x010F], said[0x0132], said.get(0x0112, 1)) == ("Maker", "2020:01:01 00:00:00", 1)
        assert dict(said.get_ifd(0x8769)) == {0x9003: "2019:01:01 00:00:00", 0x829A: 0.01}
        assert said.get_ifd(0x8825)[2] == (52.0, 30.0, 0.0)
        assert image.size == (30, 44)
    upright = np.rot90(came, -1, (1, 2)) / np.iinfo(dtype).max
    values = read_photograph(tmp_path / "out" / name).values
    np.testing.assert_allclose(values / np.iinfo(values.dtype).max, upright, atol=0.06 if name[2] in "jw" else 0.001)


def test_16_bits_become_8_where_something_has_to_be_applied(folder: Path, tmp_path: Path, called: Denoise) -> None:
    grey = Image.fromarray(samples("uint16", 0))
    grey.save(folder / "transparent.png", transparency=int(np.array(grey)[0, 0]))
    write_photograph(folder / "named.jpg", samples("uint16", 3), "PNG", b"")
    printed, error = called()
    assert error == ""
    assert "note: 16-bit grey with alpha converted to 8-bit grey: " in printed
    assert "note: holds PNG, but is named and written as JPEG: " in printed
    assert read_photograph(tmp_path / "out" / "transparent.png").values.dtype == np.uint8
    assert read_photograph(tmp_path / "out" / "named.jpg").format == "JPEG"


def test_the_noise_is_estimated_and_said_and_other_noise_can_be_told(
    folder: Path, tmp_path: Path, called: Denoise
) -> None:
    came = (noisy(photograph(90, 80), 0.2).clamp(0, 1) * 255).round().byte().numpy()
    Image.fromarray(came).save(folder / "a.png")
    printed, _ = called(changed())
    assert "note: sigma of the noise is about 0.2: " in printed or "is about 0.19: " in printed
    estimated = read_photograph(tmp_path / "out" / "a.png").values
    np.testing.assert_array_equal(estimated, Denoiser(changed(), "cpu")(came))
    printed, _ = called(changed(), "sigma=0.1", "stride=5")
    assert "sigma of the noise" not in printed
    told = read_photograph(tmp_path / "out" / "a.png").values
    np.testing.assert_array_equal(told, Denoiser(changed(), "cpu")(came, sigma=0.1, stride=5))


def test_noise_is_added_on_request(folder: Path, tmp_path: Path, called: Denoise) -> None:
    for name, values in (("a.png", samples("uint8", 0)), ("b.png", samples("uint16", 3))):
        write_photograph(folder / name, values, "PNG", b"")
    assert called(None, "corrupt=true", "sigma=0.1")[1] == ""
    for name in ("a.png", "b.png"):
        before, after = (read_photograph(place / name).values for place in (folder, tmp_path / "out"))
        white = np.iinfo(before.dtype).max
        assert after.dtype == before.dtype
        assert np.std(after / white - before / white) == pytest.approx(0.1, rel=0.2)


def test_mnist_files_are_photographs_too(folder: Path, tmp_path: Path, called: Denoise) -> None:
    images = torch.randint(256, (3, 16, 20), dtype=torch.uint8)
    write_idx(folder / "images-idx3-ubyte", images)
    assert called()[1] == ""
    assert torch.equal(read_idx(tmp_path / "out" / "images-idx3-ubyte"), images)


def test_what_cannot_be_denoised_is_one_line(folder: Path, called: Denoise) -> None:
    Image.new("L", (14, 30)).save(folder / "small.png")
    Image.new("L", (16, 30)).save(folder / "fine.png")
    printed, error = called()
    assert f"skipped: {folder / 'small.png'} is 14x30 pixels; the model takes 15x15 and larger\n" in printed
    assert error == "1 of 2 files skipped, as listed above"
    with pytest.raises(ConfigError, match=r"^resize=true: the model takes photographs of any size; leave it out$"):
        called(None, "resize=true")
    with pytest.raises(ConfigError, match=r"^stride=20: must be a whole number from 1 to 15"):
        called(None, "stride=20")
    with pytest.raises(ConfigError, match=r"^stride=2: the model takes whole images, not patches; leave it out$"):
        called(make(patches=False), "stride=2")


# --- evaluation -----------------------------------------------------------------------------------------------------


@pytest.fixture
def evaluated(tmp_path: Path) -> Callable[..., Path]:
    """Evaluate models on three photographs, and on no others that are hidden or no pictures: the results' folder."""
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for number, name in enumerate(("b.png", "a.jpg", "sub/c.tif")):
        array = (photograph(60, 70 + number, 3, number) * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(array).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / ".hidden.png").touch()
    (tmp_path / "photos" / "notes.txt").touch()

    def call(*overrides: str, models: dict[str, DenoisingAutoencoder] | None = None, **more: Any) -> Path:
        paths = {
            name: save(model, tmp_path / f"{name}.ckpt", **more) for name, model in (models or {"m": make()}).items()
        }
        given = [f"images={tmp_path / 'photos'}", f"output={tmp_path / 'results'}", "methods=[noisy]", *overrides]
        given = [one for one in given if not one.endswith("=OMITTED")]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            settings = checked(compose("evaluate", ["checkpoint=m", *given]), config.Evaluate)
        evaluate(settings, paths, Path(settings.output))
        return Path(settings.output)

    return call


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "evaluation.csv").read_text().splitlines()))


def test_the_table_has_each_photograph_and_their_mean(
    evaluated: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = evaluated("sigmas=[0.1,0.2]")
    rows = table(folder)
    assert list(dict.fromkeys(row["picture"] for row in rows)) == ["a.jpg", "b.png", "sub/c.tif", "mean"]
    assert {row["method"] for row in rows} == {"model", "model_told", "noisy"}
    assert len(rows) == 4 * 3 * 2
    noisy_ones = [row for row in rows if row["method"] == "noisy"]
    for row in noisy_ones:  # not clipped
        assert float(row["psnr"]) == pytest.approx(-20 * np.log10(float(row["sigma"])), abs=0.2)
    mean = next(row for row in noisy_ones if row["picture"] == "mean")
    each = [float(row["psnr"]) for row in noisy_ones if row["sigma"] == mean["sigma"] and row is not mean]
    assert float(mean["psnr"]) == pytest.approx(np.mean(each[:3]), abs=1e-5)
    facts = json.loads((folder / "evaluation.json").read_text())
    assert (facts["images"], facts["stride"], len(facts["rows"])) == (3, 3, len(rows))
    assert (folder / "gallery.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "mean of 3 photographs, noise not clipped: PSNR in dB, SSIM; seconds for a photograph\n" in printed
    assert "model, told sigma " in printed


def test_its_files_and_columns_and_keys_are_described(evaluated: Callable[..., Path]) -> None:
    assert undescribed(evaluated("sigmas=[0.1]", "limit=1")) == []


def test_the_noise_depends_on_the_seed_and_on_nothing_else(evaluated: Callable[..., Path]) -> None:
    def scores(*overrides: str) -> list[str]:
        return [row["psnr"] for row in table(evaluated("sigmas=[0.1]", *overrides)) if row["method"] == "noisy"]

    first = scores()
    assert scores("stride=5") == first
    assert scores("limit=1")[0] == first[0]
    assert scores("eval_seed=1")[0] != first[0]


def test_several_models_of_which_one_saw_clipped_noise(evaluated: Callable[..., Path]) -> None:
    models = {"a": make(), "b": make(noise=NOISE | {"clip": True}, network={"kind": "dense"})}
    rows = table(evaluated("sigmas=[0.2]", models=models))
    means = {(row["method"], row["checkpoint"], row["clip"]) for row in rows if row["picture"] == "mean"}
    each = [("model", "a"), ("model_told", "a"), ("model", "b"), ("noisy", "")]
    assert means == {(*one, clip) for one in each for clip in ("True", "False")}
    scores = {row["clip"]: float(row["psnr"]) for row in rows if (row["method"], row["picture"]) == ("noisy", "mean")}
    assert scores["True"] > scores["False"]


def test_filters_have_the_usual_strength_or_that_which_is_best_on_the_training(
    evaluated: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("pywt")
    strengths = json.loads((evaluated("sigmas=[0.1]", "methods=null") / "evaluation.json").read_text())["strengths"]
    assert strengths == {"total_variation": {"0.1": 0.75}, "nl_means": {"0.1": 0.7}, "wavelet": {"0.1": 1.4}}
    assert "strengths of the filters: the usual ones\n" in capsys.readouterr().out
    (tmp_path / "train").mkdir()
    for number in range(2):
        array = (photograph(140, 150, seed=number) * 255).byte().numpy()
        Image.fromarray(array).save(tmp_path / "train" / f"{number}.png")
    data = {"kind": "patches", "root": str(tmp_path / "train")}
    strengths = json.loads(
        (evaluated("sigmas=[0.1]", "methods=[gaussian_blur]", data=data) / "evaluation.json").read_text()
    )["strengths"]
    assert strengths["gaussian_blur"]["0.1"] in (2**-0.5, 1.0, 2**0.5)
    assert "the best on 2 crops of the training's photographs\n" in capsys.readouterr().out


def test_bm3d_beats_the_noise_where_it_is_installed(evaluated: Callable[..., Path]) -> None:
    pytest.importorskip("bm3d")
    rows = table(evaluated("methods=[noisy,bm3d]", "limit=1", "sigmas=[0.1]"))
    scores = {row["method"]: float(row["psnr"]) for row in rows if row["picture"] == "mean"}
    assert scores["bm3d"] > scores["noisy"] + 5


def test_a_method_whose_package_is_missing_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bm3d", None)
    checkpoint = save(make(), tmp_path / "m.ckpt")
    monkeypatch.setattr(sys, "argv", ["dae-evaluate", f"checkpoint={checkpoint}", "images=.", "methods=[bm3d]"])
    with pytest.raises(SystemExit) as ended:
        commands.evaluate()
    remedy = "bm3d is not installed; pip install 'dae_lightning[bm3d]'"
    assert str(ended.value) == f"error: methods=[bm3d]: {remedy}"


def test_what_cannot_be_evaluated_is_one_line(evaluated: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"^checkpoint=m: is a model of patches; give photographs: images=FOLDER$"
    ):
        evaluated("images=null")
    with pytest.raises(ConfigError, match=r"^images=.*: only for models of patches, but m takes \(15, 15\); leave it"):
        evaluated(models={"m": make(patches=False)})
    with pytest.raises(ConfigError, match=r"^methods=\[bm3d\]: only for photographs, with images=FOLDER$"):
        evaluated("images=null", "methods=[bm3d]", models={"m": make(patches=False)})
    with pytest.raises(ConfigError, match=r"^methods=\[wiener\]: not for photographs, for which there are noisy, bm3d"):
        evaluated("methods=[wiener]")
    with pytest.raises(ConfigError, match=r"^probe=true: not for photographs; leave it out$"):
        evaluated("probe=true")
    with pytest.raises(DataError, match=r"^images=.*empty: holds no PNG, JPEG, WebP, BMP or TIFF images, or is not"):
        evaluated(f"images={tmp_path / 'empty'}")
    Image.new("L", (12, 40)).save(tmp_path / "small.png")
    with pytest.raises(DataError, match=r"small.png is 12x40 pixels; must be 15x15 or larger$"):
        evaluated(f"images={tmp_path / 'small.png'}")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken.png holds no PNG, JPEG, WebP, BMP or TIFF image$"):
        evaluated(f"images={tmp_path / 'broken.png'}")


def test_texture_is_not_taken_for_noise() -> None:
    random = torch.Generator().manual_seed(0)
    picture = torch.linspace(0.2, 0.8, 128).repeat(128, 1)
    picture[:, 64:] += 0.1 * torch.randn(128, 64, generator=random)  # as rough as noise, of a part only
    noisy = picture + 0.02 * torch.randn(128, 128, generator=random)
    assert photograph_sigma(noisy) == pytest.approx(0.02, rel=0.1)
