"""Image files through `dae-denoise`: every kind as a person would expect, none overwritten, each accounted for."""

import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dae_lightning import Denoiser, DenoisingAutoencoder, config
from dae_lightning.data import pictures as images
from dae_lightning.data.idx import read_idx, write_idx
from dae_lightning.errors import CheckpointError, ConfigError, DataError
from dae_lightning.inference.files import denoise, find_images
from dae_lightning.randomness import derive

HEIGHT, WIDTH = 6, 4
Denoise = Callable[..., tuple[str, str]]
CLIPPED = "gaussian noise, mean 0, sigma 2; 8-bit pictures hold clipped noise, which it never saw"
TRAINED = f"the model was trained on {CLIPPED}"


def grey(number: int = 0, height: int = HEIGHT, width: int = WIDTH) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    return np.random.default_rng(number).integers(0, 256, (height, width), dtype=np.uint8)


def save_model(path: Path, shape: tuple[int, ...], kind: str = "gaussian") -> Denoiser:
    noise = {"gaussian": {"mean": 0.0, "sigma": 2.0}, "masking": {"probability": 0.5}}[kind]
    model = DenoisingAutoencoder(shape, 8, {"kind": kind} | noise)
    with torch.no_grad():
        model.network.decoder.weight.mul_(3)  # so that outputs are not all about the same
    torch.save({"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}, path)
    return Denoiser(model, "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def model(tmp_path: Path) -> Denoiser:
    return save_model(tmp_path / "grey.ckpt", (HEIGHT, WIDTH))


@pytest.fixture
def called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Denoise:
    """Denoise tmp_path/in (or `images`) into tmp_path/out: what was printed, and the error at the end, if any."""

    def call(checkpoint: str = "grey.ckpt", **changes: Any) -> tuple[str, str]:
        settings = config.Denoise(
            **{
                "checkpoint": str(tmp_path / checkpoint),
                "images": str(tmp_path / "in"),
                "output": str(tmp_path / "out"),
                "resize": False,
                "corrupt": False,
                "sigma": None,
                "seed": 0,
                "device": "cpu",
            }
            | changes
        )
        files, error = find_images(settings.images, settings.output), ""
        try:
            denoise(settings, Path(settings.checkpoint), files)
        except DataError as problem:
            error = str(problem)
        return capsys.readouterr().out, error

    return call


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def same(path: Path, expected: "np.ndarray[Any, Any]", tolerance: int = 1) -> None:
    np.testing.assert_allclose(np.array(opened(path)).astype(int), expected.astype(int), atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "a.tif", "a.tiff", "sub/deeper/a.png"])
def test_a_picture_comes_back_denoised_under_its_name_in_its_format(
    folder: Path, tmp_path: Path, model: Denoiser, called: Denoise, name: str
) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey()).save(folder / name)
    before = (folder / name).read_bytes()
    assert called() == (f"1 images in 1 files denoised, in {tmp_path / 'out'}\n{TRAINED}\n", "")
    same(tmp_path / "out" / name, model(grey()))
    assert opened(tmp_path / "out" / name).format == Image.registered_extensions()[Path(name).suffix.lower()]
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == [Path(name).name]
    assert (folder / name).read_bytes() == before


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg"])
def test_jpeg_comes_back_as_jpeg_of_high_quality(
    folder: Path, tmp_path: Path, model: Denoiser, called: Denoise, name: str
) -> None:
    Image.fromarray(grey()).save(folder / name, quality=100)
    called()
    assert opened(tmp_path / "out" / name).format == "JPEG"
    same(tmp_path / "out" / name, model(np.array(opened(folder / name))), tolerance=12)


def test_one_stem_with_two_suffixes_is_two_results(
    folder: Path, tmp_path: Path, called: Denoise, model: Denoiser
) -> None:
    for number, suffix in enumerate(("png", "bmp", "tif")):
        Image.fromarray(grey(number)).save(folder / f"a.{suffix}")
    assert called()[1] == ""
    for number, suffix in enumerate(("png", "bmp", "tif")):
        same(tmp_path / "out" / f"a.{suffix}", model(grey(number)))


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz", "renamed.dat"])
def test_mnist_files_come_back_as_such_and_labels_are_passed_over(
    folder: Path, tmp_path: Path, called: Denoise, model: Denoiser, name: str
) -> None:
    pictures = torch.from_numpy(np.stack([grey(number) for number in range(50)]))
    write_idx(folder / name, pictures)
    write_idx(folder / "t10k-labels-idx1-ubyte", torch.zeros(50, dtype=torch.uint8))
    printed, error = called()
    assert (printed, error) == (
        f"50 images in 1 files denoised, in {tmp_path / 'out'}\n{TRAINED}\npassed over: 1 files that are not images\n",
        "",
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    difference = read_idx(tmp_path / "out" / name).int() - model(pictures).int()
    assert difference.abs().max() <= 1
    assert ((tmp_path / "out" / name).read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


@pytest.mark.parametrize("shape", [(3, 1, HEIGHT, WIDTH), (3, HEIGHT, WIDTH, 1)])
@pytest.mark.parametrize("name", ["train-images.idx3-ubyte", "renamed.dat"])
def test_mnist_files_with_a_channel_keep_their_shape(
    folder: Path, tmp_path: Path, called: Denoise, model: Denoiser, name: str, shape: tuple[int, ...]
) -> None:
    pictures = torch.from_numpy(np.stack([grey(number) for number in range(3)]))
    write_idx(folder / name, pictures.view(shape))
    assert called()[1] == ""
    result = read_idx(tmp_path / "out" / name)
    assert result.shape == shape
    assert (result.view(pictures.shape).int() - model(pictures).int()).abs().max() <= 1


def test_the_same_packed_images_are_the_same_bytes(tmp_path: Path) -> None:
    values = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    for name in ("a.gz", "b.gz", "plain"):
        write_idx(tmp_path / name, values)
        assert torch.equal(read_idx(tmp_path / name), values)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == (tmp_path / "plain").read_bytes()


def read(path: Path, mode: str = "L") -> images.Picture:
    return images.read_picture(path, mode)


CONVERTED: list[tuple[Image.Image, str, int]] = [
    (Image.new("RGB", (4, 6), (255, 0, 0)), "colour converted to 8-bit grey", 76),
    (Image.new("1", (4, 6), 1), "1-bit converted to 8-bit grey", 255),
    (Image.new("RGB", (4, 6), (0, 255, 0)).quantize(), "palette converted to 8-bit grey", 150),
    (Image.new("LA", (4, 6), (90, 255)), "grey with alpha converted to 8-bit grey", 90),
    (Image.new("RGBA", (4, 6), (80, 80, 80, 255)), "colour with alpha converted to 8-bit grey", 80),
    (Image.fromarray(np.full((6, 4), 30_000, np.uint16)), "16-bit grey converted to 8-bit grey", 117),
    (Image.fromarray(np.full((6, 4), 65_535, np.uint16)), "16-bit grey converted to 8-bit grey", 255),
]


@pytest.mark.parametrize(("image", "note", "level"), CONVERTED)
def test_other_kinds_of_pixels_are_converted_with_a_note(
    tmp_path: Path, image: Image.Image, note: str, level: int
) -> None:
    image.save(tmp_path / "a.png")
    converted = read(tmp_path / "a.png")
    assert (converted.image.mode, converted.image.size, converted.notes) == ("L", (4, 6), [note])
    assert set(np.array(converted.image).ravel().tolist()) == {level}
    assert set(np.array(read(tmp_path / "a.png", "RGB").image.convert("L")).ravel().tolist()) == {level}


def test_what_is_transparent_is_laid_on_white(tmp_path: Path) -> None:
    see_through = Image.new("RGBA", (4, 6), (0, 0, 0, 0))
    see_through.putpixel((1, 2), (10, 10, 10, 255))
    palette = see_through.convert("RGB").quantize()
    see_through.save(tmp_path / "rgba.png")
    palette.save(tmp_path / "palette.png", transparency=palette.getpixel((0, 0)))
    for name in ("rgba.png", "palette.png"):
        converted = read(tmp_path / name)
        assert converted.notes[0] == "transparency laid on white"
        pixels = np.array(converted.image)
        assert (pixels[2, 1], pixels[0, 0]) == (10, 255)


def test_cmyk_looks_as_it_would_print(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 0, 0, 0)).save(tmp_path / "white.jpg")
    Image.new("CMYK", (16, 16), (0, 0, 0, 255)).save(tmp_path / "black.tif")
    assert np.array(read(tmp_path / "white.jpg").image).min() > 250
    assert np.array(read(tmp_path / "black.tif").image).max() < 5
    assert read(tmp_path / "white.jpg").notes == ["CMYK converted to 8-bit grey"]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_a_picture_on_its_side_is_turned_upright(
    folder: Path, tmp_path: Path, called: Denoise, model: Denoiser, name: str
) -> None:
    on_its_side = Image.fromarray(grey()).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    on_its_side.save(folder / name, exif=exif, **({"quality": 100} if name == "a.jpg" else {}))
    np.testing.assert_allclose(np.array(read(folder / name).image).astype(int), grey().astype(int), atol=6)
    assert called()[1] == ""
    same(tmp_path / "out" / name, model(grey()), tolerance=12 if name == "a.jpg" else 1)
    assert opened(tmp_path / "out" / name).getexif().get(0x0112, 1) == 1


def test_a_colour_model_takes_and_gives_colour(folder: Path, tmp_path: Path, called: Denoise) -> None:
    model = save_model(tmp_path / "colour.ckpt", (3, HEIGHT, WIDTH))
    pixels = np.stack([grey(number) for number in range(3)], axis=2)
    Image.fromarray(pixels).save(folder / "colour.png")
    Image.fromarray(grey()).save(folder / "grey.png")
    printed, error = called("colour.ckpt")
    assert f"note: grey converted to 8-bit colour: {folder / 'grey.png'}\n" in printed
    assert error == ""
    same(tmp_path / "out" / "colour.png", model(pixels.transpose(2, 0, 1)).transpose(1, 2, 0))
    write_idx(folder / "images-idx3-ubyte", torch.zeros(2, HEIGHT, WIDTH, dtype=torch.uint8))
    assert "holds grey images, the model takes colour ones" in called("colour.ckpt")[0]


def test_another_size_is_refused_or_resized_there_and_back(
    folder: Path, tmp_path: Path, called: Denoise, model: Denoiser
) -> None:
    Image.fromarray(np.kron(grey(), np.ones((5, 5), np.uint8))).save(folder / "big.png")
    write_idx(folder / "idx3-ubyte", torch.from_numpy(grey(1, 9, 7))[None])
    printed, error = called()
    remedy = "the model takes 4x6; resize=true resizes it there and back"
    assert f"skipped: {folder / 'big.png'} is 20x30 pixels, {remedy}\n" in printed
    assert f"skipped: {folder / 'idx3-ubyte'} is 7x9 pixels, {remedy}\n" in printed
    assert error == "2 of 2 files skipped, as listed above"
    assert not (tmp_path / "out").exists()

    printed, error = called(resize=True)
    assert error == ""
    assert "note: resized to 4x6 and back: " in printed
    assert read_idx(tmp_path / "out" / "idx3-ubyte").shape == (1, 9, 7)
    back = opened(tmp_path / "out" / "big.png")
    assert back.size == (20, 30)
    small = Image.open(folder / "big.png").resize((4, 6), Image.Resampling.LANCZOS)
    expected = model(small).resize((20, 30), Image.Resampling.LANCZOS)
    np.testing.assert_allclose(np.array(back).astype(int), np.array(expected).astype(int), atol=2)


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size, and holds nothing."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunks + struct.pack(">I", 9**9) + b"IDAT"


def write_broken(folder: Path) -> dict[str, str]:
    """Files that cannot be denoised, by name, and why."""
    image = Image.fromarray(grey(0, 64, 64))
    image.save(folder / "whole.png")
    whole = (folder / "whole.png").read_bytes()
    (folder / "whole.png").unlink()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no image")
    (folder / "empty-idx3-ubyte").touch()
    (folder / "cut-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + struct.pack(">III", 5, HEIGHT, WIDTH) + bytes(7))
    (folder / "cut-idx3-ubyte.gz").write_bytes(
        gzip.compress((folder / "cut-idx3-ubyte").read_bytes() + bytes(113))[:-9]
    )
    (folder / "enormous.png").write_bytes(png_header(50_000, 20_000))
    (folder / "large.png").write_bytes(png_header(10_000, 9_000))
    image.save(folder / "photo.gif")
    image.save(folder / "raw.nef", "TIFF", tiffinfo={254: 1, 330: 8})
    (folder / "raw.CR3").write_bytes(b"no image")
    image.save(folder / "gif.png", format="GIF")
    image.save(folder / "animated.png", save_all=True, append_images=[image.rotate(90)])
    image.save(folder / "pages.tif", save_all=True, append_images=[image, image])
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32)).save(folder / "float.tif")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    return {
        "truncated.png": "cannot be read (",
        "empty.png": "is empty",
        "text.jpg": "holds no PNG, JPEG, WebP, BMP or TIFF image",
        "empty-idx3-ubyte": "empty; must hold images",
        "cut-idx3-ubyte": "truncated: declares (5, 6, 4), 120 bytes, but holds 7",
        "cut-idx3-ubyte.gz": "not a whole gzip file",
        "enormous.png": "is enormous",
        "large.png": "is enormous, 10000x9000; at most 67,108,864 pixels can be read",
        "raw.nef": "is a camera's raw file, or begins with a preview of its picture; export it as PNG or JPEG",
        "raw.CR3": "holds no PNG, JPEG, WebP, BMP or TIFF image",
        "photo.gif": "holds no PNG, JPEG, WebP, BMP or TIFF image",
        "gif.png": "holds no PNG, JPEG, WebP, BMP or TIFF image",
        "animated.png": "holds 2 frames; give them as single images",
        "pages.tif": "holds 3 frames; give them as single images",
        "float.tif": "is a TIFF whose pixels cannot be read (BitsPerSample 32, SampleFormat 3, "
        "PhotometricInterpretation 1, PlanarConfiguration 1, Compression 1); save it as PNG",
        "gone.png": "cannot be read (No such file or directory)",
    }


def test_what_cannot_be_denoised_is_named_with_its_reason_and_stops_nothing_else(
    folder: Path, tmp_path: Path, called: Denoise, model: Denoiser
) -> None:
    broken = write_broken(folder)
    Image.fromarray(grey()).save(folder / "a.png")
    Image.fromarray(grey()).save(folder / "z.png")
    printed, error = called(resize=True)
    lines = printed.splitlines()
    assert lines[0] == f"2 images in 2 files denoised, in {tmp_path / 'out'}"
    assert error == f"{len(broken)} of {len(broken) + 2} files skipped, as listed above"
    reasons = dict(line.removeprefix(f"skipped: {folder}/").split(" ", 1) for line in lines[2:])
    assert reasons.keys() == broken.keys()
    for name, reason in broken.items():
        assert reasons[name].startswith(reason), name
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "z.png"]
    same(tmp_path / "out" / "z.png", model(grey()))


def test_what_may_not_be_read_or_written_is_skipped(
    folder: Path, tmp_path: Path, called: Denoise, model: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """(Permissions do not bind the user root, as whom tests may run.)"""
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(grey()).save(folder / name)
    (tmp_path / "out" / "c.png").mkdir(parents=True)
    path_open = Path.open

    def refusing(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "b.png":
            raise PermissionError(13, "Permission denied", str(path))
        return path_open(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refusing)
    printed, error = called()
    assert f"skipped: {folder / 'b.png'} cannot be read (Permission denied)\n" in printed
    assert f"skipped: {folder / 'c.png'} cannot be written (Is a directory)\n" in printed
    assert error == "2 of 3 files skipped, as listed above"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]


def test_other_files_are_passed_over_and_a_picture_of_another_format_than_its_suffix_is_noted(
    folder: Path, tmp_path: Path, called: Denoise, model: Denoiser
) -> None:
    for name in ("notes.txt", "packed.gz", ".hidden.png", "Makefile"):
        (folder / name).write_text("words")
    (folder / ".git").mkdir()
    Image.fromarray(grey()).save(folder / ".git" / "x.png")
    os.mkfifo(folder / "pipe.png")
    Image.fromarray(grey(2)).save(folder / "tiff.png", format="TIFF")
    printed, error = called()
    assert error == ""
    assert "passed over: 4 files that are not images\n" in printed
    assert f"note: holds TIFF, but is named and written as PNG: {folder / 'tiff.png'}\n" in printed
    same(tmp_path / "out" / "tiff.png", model(grey(2)))
    assert opened(tmp_path / "out" / "tiff.png").format == "PNG"


def test_a_single_file_is_denoised_or_skipped(folder: Path, tmp_path: Path, called: Denoise, model: Denoiser) -> None:
    Image.fromarray(grey()).save(folder / "a.png")
    (folder / "notes.txt").write_text("words")
    assert called(images=str(folder / "a.png"))[1] == ""
    same(tmp_path / "out" / "a.png", model(grey()))
    printed, error = called(images=str(folder / "notes.txt"))
    assert "notes.txt holds no PNG" in printed
    assert error == "1 of 1 files skipped, as listed above"


def test_images_are_never_overwritten(folder: Path, tmp_path: Path, called: Denoise, model: Denoiser) -> None:
    (folder / "in").mkdir()
    (tmp_path / "link").symlink_to(folder)
    for name in ("a.png", "in/a.png"):
        Image.fromarray(grey()).save(folder / name)
    contents = {path: path.read_bytes() for path in folder.rglob("*.png")}
    # the last two: in/a.png would become in/in/a.png, and in/in/a.png in/a.png
    for output in (folder, tmp_path / "link", folder / ".." / "in", folder / "in", tmp_path):
        if output != tmp_path:  # whose in/a.png is one of the images
            with pytest.raises(ConfigError, match=r"^output=.*: would overwrite .*a.png, one of the images; give.*"):
                called(output=str(output))
    with pytest.raises(ConfigError, match="one of the images"):
        called(output=str(tmp_path), images=str(folder))
    with pytest.raises(ConfigError, match="one of the images"):
        called(output=str(folder), images=str(folder / "a.png"))
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == contents

    within = str(folder / "new")
    assert called(output=within)[1] == ""
    with pytest.raises(ConfigError, match="one of the images"):  # the results of before are images by now
        called(output=within)


def test_images_that_are_not_there_are_one_line(folder: Path, called: Denoise) -> None:
    with pytest.raises(DataError, match=r"^images=nowhere: no such file or folder$"):
        called(images="nowhere")
    with pytest.raises(DataError, match=r"holds no PNG, JPEG, WebP, BMP or TIFF images, and no MNIST files$"):
        called()
    (folder / "a.png").touch()
    with pytest.raises(ConfigError, match=r"is a file; give a folder$"):
        called(output=str(folder / "a.png"))


def test_corrupting_spoils_each_image_by_its_name_and_the_seed_alone(
    folder: Path, tmp_path: Path, called: Denoise, model: Denoiser
) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(grey()).save(folder / name)

    def denoised(name: str, **changes: Any) -> bytes:
        assert called(**{"corrupt": True} | changes)[1] == ""
        return np.array(opened(tmp_path / "out" / name)).tobytes()

    first = denoised("b.png")
    assert first != denoised("a.png")
    assert first != denoised("b.png", seed=1)
    assert denoised("b.png", sigma=0.0) == denoised("a.png", sigma=0.0)
    same(tmp_path / "out" / "a.png", model(grey()))
    (folder / "a.png").unlink()
    assert denoised("b.png") == first


def test_noise_is_not_clipped_on_its_way_into_the_model(
    folder: Path, tmp_path: Path, called: Denoise, model: Denoiser
) -> None:
    pictures = torch.from_numpy(np.stack([grey(number) for number in range(20)]))
    write_idx(folder / "idx3-ubyte", pictures)
    called(corrupt=True, sigma=3.0)
    result = read_idx(tmp_path / "out" / "idx3-ubyte").float() / 255
    noisy = model.corrupt(pictures, 3.0, derive(0, "files", "idx3-ubyte"))
    torch.testing.assert_close(result, model(noisy), atol=0.003, rtol=0)
    assert (result - model(noisy.clamp(0, 1))).abs().max() > 0.05


def test_settings_that_do_not_fit_the_checkpoint_are_one_line(folder: Path, tmp_path: Path, called: Denoise) -> None:
    Image.fromarray(grey()).save(folder / "a.png")
    save_model(tmp_path / "masking.ckpt", (HEIGHT, WIDTH), "masking")
    save_model(tmp_path / "vectors.ckpt", (24,))
    with pytest.raises(ConfigError, match=r"sigma=2.0: the model's noise, MaskingNoise"):
        called("masking.ckpt", corrupt=True, sigma=2.0)
    with pytest.raises(CheckpointError, match=r"vectors.ckpt: takes \(24,\), which are not pictures"):
        called("vectors.ckpt")
    assert not (tmp_path / "out").exists()


def test_a_result_is_whole_or_not_there(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out" / "a.png"
    images.write_picture(target, Image.fromarray(grey(0)), "PNG")
    before = target.read_bytes()

    def half(self: Image.Image, file: Any, **_: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OSError, match="No space left"):
        images.write_picture(target, Image.fromarray(grey(1)), "PNG")
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("kind", "corrupt", "said"),
    [
        ("gaussian", False, CLIPPED),
        ("gaussian", True, "gaussian noise, mean 0, sigma 2"),  # it is added to floats
        ("masking", False, "masking noise, probability 0.5"),  # bytes hold it as it is
    ],
)
def test_a_line_says_which_noise_the_model_knows_and_whether_bytes_hold_it(
    folder: Path, tmp_path: Path, called: Denoise, kind: str, corrupt: bool, said: str
) -> None:
    save_model(tmp_path / "model.ckpt", (HEIGHT, WIDTH), kind)
    Image.fromarray(grey()).save(folder / "a.png")
    assert f"\nthe model was trained on {said}\n" in called("model.ckpt", corrupt=corrupt)[0]
