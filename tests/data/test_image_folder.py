"""Folders of images: what is read, how it is split and labelled, and what is refused by name."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from dae_lightning.data.datamodule import ImageDataModule
from dae_lightning.data.image_folder import ImageFolder
from dae_lightning.errors import DataError

Pixels = NDArray[np.uint8]


def pixels(number: int, *shape: int) -> Pixels:
    """Different for every number, so that the content identifies an image."""
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def save(file: Path, image: Pixels) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)
    return file


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *, before: bytes = b"") -> bytes:
    """A PNG file assembled by hand, for kinds that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + before + body


def load_error(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        ImageFolder(root, test_fraction=0.5, seed=0).load()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def twenty(tmp_path: Path) -> Path:
    for number in range(20):
        save(tmp_path / f"{number:02}.png", pixels(number, 5, 7))
    return tmp_path


def numbers(images: torch.Tensor) -> list[int]:
    """The numbers of these images among the twenty."""
    known = {pixels(number, 5, 7).tobytes(): number for number in range(20)}
    return [known[image.tobytes()] for image in images.numpy()]


def test_grey_images_come_back_bit_by_bit_as_n_h_w(twenty: Path) -> None:
    train, test, _ = ImageFolder(twenty, test_fraction=0.25, seed=0).load()
    assert train.images.shape == (15, 5, 7)
    assert test.images.shape == (5, 5, 7)
    assert train.images.dtype == torch.uint8
    assert sorted(numbers(train.images) + numbers(test.images)) == list(range(20))


def test_colour_images_come_back_bit_by_bit_as_n_3_h_w(tmp_path: Path) -> None:
    images = [pixels(number, 5, 7, 3) for number in range(2)]
    save(tmp_path / "train" / "0.png", images[0])
    save(tmp_path / "test" / "1.png", images[1])
    train, test, _ = ImageFolder(tmp_path, test_fraction=0.5, seed=0).load()
    assert torch.equal(train.images, torch.from_numpy(images[0].transpose(2, 0, 1).copy())[None])
    assert torch.equal(test.images, torch.from_numpy(images[1].transpose(2, 0, 1).copy())[None])


def test_jpeg_images_come_back_near_what_was_saved(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)[None].repeat(16, axis=0)
    save(tmp_path / "a.jpg", ramp)
    save(tmp_path / "b.JPEG", ramp)
    train, test, _ = ImageFolder(str(tmp_path), test_fraction=0.5, seed=0).load()
    for split in (train, test):
        assert split.images.shape == (1, 16, 64)
        assert (split.images[0].int() - torch.from_numpy(ramp).int()).abs().max() <= 8


def test_one_seed_splits_alike_and_another_otherwise(twenty: Path) -> None:
    tests = [numbers(ImageFolder(twenty, 0.5, seed).load().test.images) for seed in (0, 0, 1)]
    assert tests[0] == tests[1]
    assert set(tests[0]) != set(tests[2])


@pytest.mark.parametrize(("fraction", "size"), [(0.001, 1), (0.1, 2), (0.5, 10), (0.999, 19)])
def test_the_test_set_has_its_fraction_of_the_images_and_each_set_at_least_one(
    twenty: Path, fraction: float, size: int
) -> None:
    train, test, _ = ImageFolder(twenty, fraction, seed=0).load()
    assert (len(train.images), len(test.images)) == (20 - size, size)


def test_train_and_test_folders_are_the_splits_whatever_the_fraction(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "train" / f"{number}.png", pixels(number, 5, 7))
    save(tmp_path / "test" / "4.png", pixels(4, 5, 7))
    train, test, _ = ImageFolder(tmp_path, test_fraction=0.9, seed=0).load()
    assert sorted(numbers(train.images)) == [0, 1, 2, 3]
    assert numbers(test.images) == [4]


def test_images_outside_sub_folders_have_no_labels(twenty: Path) -> None:
    save(twenty / "more" / "19.png", pixels(19, 5, 7))  # one that is in a sub-folder makes no label
    train, test, _ = ImageFolder(twenty, test_fraction=0.5, seed=0).load()
    assert train.labels is None
    assert test.labels is None


def test_labels_are_the_places_of_the_sub_folders_in_sorted_order(tmp_path: Path) -> None:
    for number in range(20):
        save(
            tmp_path / ("dog", "cat", "emu", "ant")[number % 4] / "deep" / f"{number}.png",
            pixels(number, 5, 7),
        )
    for split in ImageFolder(tmp_path, test_fraction=0.25, seed=0).load()[:2]:
        assert split.labels is not None
        assert split.labels.dtype == torch.int64
        assert split.labels.tolist() == [(2, 1, 3, 0)[number % 4] for number in numbers(split.images)]


def test_a_sub_folder_has_one_label_in_both_splits_though_each_lacks_some_folders(tmp_path: Path) -> None:
    for number, folder in enumerate(["train/ant", "train/cat", "test/bee", "test/cat"]):
        save(tmp_path / folder / "x.png", pixels(number, 5, 7))
    train, test, _ = ImageFolder(tmp_path, test_fraction=0.5, seed=0).load()
    assert train.labels is not None
    assert test.labels is not None
    assert train.labels.tolist() == [0, 2]
    assert test.labels.tolist() == [1, 2]


def test_hidden_and_other_files_are_passed_over(twenty: Path) -> None:
    (twenty / "notes.txt").write_text("not an image")
    (twenty / ".hidden.png").write_text("not an image")
    (twenty / ".cache").mkdir()
    (twenty / ".cache" / "thumb.png").write_text("not an image")
    (twenty / "folder.png").mkdir()
    train, test, _ = ImageFolder(twenty, test_fraction=0.5, seed=0).load()
    assert len(train.images) + len(test.images) == 20


def test_a_hidden_folder_above_the_root_hides_nothing(tmp_path: Path) -> None:
    for number in range(2):
        save(tmp_path / ".data" / f"{number}.png", pixels(number, 5, 7))
    assert len(ImageFolder(tmp_path / ".data", test_fraction=0.5, seed=0).load().train.images) == 1


def test_a_root_that_is_absent_or_a_file_is_refused_by_name(tmp_path: Path) -> None:
    file = save(tmp_path / "a.png", pixels(0, 5, 7))
    for root in (tmp_path / "absent", file):
        source = ImageFolder(root, test_fraction=0.5, seed=0)
        for step in (source.prepare, source.load):
            with pytest.raises(DataError, match="is not a folder") as caught:
                step()
            assert str(root) in str(caught.value)


def test_prepare_only_looks_whether_the_folder_is_there(tmp_path: Path) -> None:
    ImageFolder(tmp_path, test_fraction=0.5, seed=0).prepare()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_images_is_refused_by_name(tmp_path: Path) -> None:
    assert load_error(tmp_path).startswith(f"{tmp_path} holds no images")
    save(tmp_path / "train" / "a.png", pixels(0, 5, 7))
    (tmp_path / "test").mkdir()
    assert load_error(tmp_path).startswith(f"{tmp_path / 'test'} holds no images")


def test_one_image_cannot_be_split(tmp_path: Path) -> None:
    save(tmp_path / "a.png", pixels(0, 5, 7))
    assert load_error(tmp_path).startswith(f"{tmp_path} holds one image")


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("training", "testing"), ("Train", "Test"), ("TRAINING", "test")]
)
@pytest.mark.parametrize("val", ["val", "Valid", "validation", None])
def test_the_usual_spellings_of_the_splits_are_understood(
    tmp_path: Path, train: str, test: str, val: str | None
) -> None:
    for number in range(20):
        split = train if number < 12 else test if number < 16 or val is None else val
        save(tmp_path / split / "abc"[number % 3] / f"{number}.png", pixels(number, 5, 7))
    splits = ImageFolder(tmp_path, test_fraction=0.5, seed=0).load()
    assert sorted(numbers(splits.train.images)) == list(range(12))
    assert sorted(numbers(splits.test.images)) == list(range(12, 20 if val is None else 16))
    if val is None:
        assert splits.val is None
    else:
        assert splits.val is not None
        assert sorted(numbers(splits.val.images)) == list(range(16, 20))
    for split in splits:
        if split is not None:
            assert split.labels is not None
            assert split.labels.tolist() == [number % 3 for number in numbers(split.images)]


@pytest.mark.parametrize("val_size", [None, 0, 5])
def test_a_validation_folder_is_for_validation_unless_another_size_is_asked_for(
    tmp_path: Path, val_size: int | None
) -> None:
    for number in range(20):
        split = "train" if number < 12 else "test" if number < 16 else "val"
        save(tmp_path / split / f"{number}.png", pixels(number, 5, 7))
    data = ImageDataModule(ImageFolder(tmp_path, test_fraction=0.5, seed=0), batch_size=4, val_size=val_size)
    data.setup()
    trained, validated = numbers(data.train.images), numbers(data.val.images)
    assert sorted(trained + validated) == [*range(12), *range(16, 20)]
    if val_size is None:
        assert sorted(validated) == [16, 17, 18, 19]
    else:
        assert len(validated) == val_size


def test_two_spellings_of_one_split_are_refused(tmp_path: Path) -> None:
    for folder in ("test", "train", "training"):
        save(tmp_path / folder / "a.png", pixels(0, 5, 7))
    assert load_error(tmp_path) == f"{tmp_path} holds train/ and training/; give one of them"


@pytest.mark.parametrize("names", [("testA", "trainA"), ("test_images", "train_images", "val_images"), ("trainset",)])
def test_folders_that_look_like_splits_but_are_not_understood_are_not_mixed(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    for number, name in enumerate(names):
        for copy in range(2):
            save(tmp_path / name / "cat" / f"{copy}.png", pixels(number, 5, 7))
    found = ", ".join(f"{name}/" for name in names)
    message = f"{tmp_path} holds only {found}, which look like splits; name them train/ and test/"
    assert load_error(tmp_path) == message


@pytest.mark.parametrize("layout", ["mnist_png/{split}/{number}.png", "{number}/{split}/a.png"])
def test_splits_further_down_are_not_mixed(tmp_path: Path, layout: str) -> None:
    for number, split in enumerate(("training", "Testing")):
        save(tmp_path / layout.format(split=split, number=number), pixels(number, 5, 7))
    message = f"{tmp_path} holds train/ and test/ further down; they must lie directly below it"
    assert load_error(tmp_path) == message


def test_classes_may_be_called_like_splits_among_others(tmp_path: Path) -> None:
    for number, name in enumerate(("valley", "tractor", "trainer")):
        save(tmp_path / name / "a.png", pixels(number, 5, 7))
    labels = ImageFolder(tmp_path, test_fraction=0.3, seed=0).load().train.labels
    assert labels is not None
    assert len(labels) == 2


def test_a_validation_folder_without_test_images_is_refused(tmp_path: Path) -> None:
    for folder in ("train", "val"):
        save(tmp_path / folder / "a.png", pixels(0, 5, 7))
    assert load_error(tmp_path) == f"{tmp_path} holds train/ and val/ alone; give both train/ and test/, or neither"


@pytest.mark.parametrize("present", ["train", "test"])
def test_half_a_split_is_refused(tmp_path: Path, present: str) -> None:
    save(tmp_path / present / "a.png", pixels(0, 5, 7))
    assert load_error(tmp_path).startswith(f"{tmp_path} holds {present}/ alone")


def test_images_of_two_sizes_are_refused_with_both_files_and_sizes(tmp_path: Path) -> None:
    one = save(tmp_path / "a.png", pixels(0, 5, 7))
    two = save(tmp_path / "b.png", pixels(1, 7, 5))
    message = load_error(tmp_path)
    assert f"{two} is 5x7 pixels, grey; {one} is 7x5 pixels, grey" in message


def test_grey_among_colour_is_refused_with_a_file_of_each(tmp_path: Path) -> None:
    one = save(tmp_path / "test" / "a.png", pixels(0, 5, 7))
    two = save(tmp_path / "train" / "b.png", pixels(1, 5, 7, 3))
    message = load_error(tmp_path)
    assert f"{two} is 7x5 pixels, RGB; {one} is 7x5 pixels, grey" in message


TRANSPARENT = struct.pack(">I", 6) + b"tRNS" + bytes(6) + struct.pack(">I", zlib.crc32(b"tRNS" + bytes(6)))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        pytest.param(png(2, 2, 1, 0, bytes(2 * 2)), "1-bit", id="1-bit"),
        pytest.param(png(2, 2, 16, 0, bytes(2 * 5)), "16-bit grey", id="16-bit grey"),
        pytest.param(png(2, 2, 16, 2, bytes(2 * 13)), "16-bit colour", id="16-bit RGB"),
        pytest.param(png(2, 2, 8, 4, bytes(2 * 5)), "grey with alpha", id="grey with alpha"),
        pytest.param(png(2, 2, 8, 6, bytes(2 * 9)), "colour with alpha", id="RGB with alpha"),
        pytest.param(png(2, 2, 8, 2, bytes(2 * 7), before=TRANSPARENT), "colour with alpha", id="transparent colour"),
    ],
)
def test_images_that_are_not_8_bit_grey_or_rgb_are_refused_by_kind(tmp_path: Path, content: bytes, named: str) -> None:
    save(tmp_path / "a.png", pixels(0, 2, 2))
    odd = tmp_path / "b.png"
    odd.write_bytes(content)
    assert load_error(tmp_path).startswith(f"{odd} is {named}; give 8-bit grey or RGB without")


def test_palette_and_cmyk_images_are_refused_by_kind(tmp_path: Path) -> None:
    save(tmp_path / "a.png", pixels(0, 5, 7))
    palette, cmyk = tmp_path / "b.png", tmp_path / "c.jpg"
    Image.new("P", (7, 5)).save(palette)
    assert load_error(tmp_path).startswith(f"{palette} is palette; give")
    palette.unlink()
    Image.new("CMYK", (7, 5)).save(cmyk)
    assert load_error(tmp_path).startswith(f"{cmyk} is CMYK; give")


@pytest.mark.parametrize("keep", [0, 4, 20, 40, 60, 400])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_image_is_refused_by_name(tmp_path: Path, suffix: str, keep: int) -> None:
    save(tmp_path / f"a{suffix}", pixels(0, 40, 40))
    cut = save(tmp_path / f"b{suffix}", pixels(1, 40, 40))
    whole = cut.read_bytes()
    assert len(whole) > 500
    cut.write_bytes(whole[:keep])
    reasons = ("is empty", "holds no PNG, JPEG, WebP, BMP or TIFF image", "cannot be read (")
    assert load_error(tmp_path).startswith(tuple(f"{cut} {reason}" for reason in reasons))


def test_text_in_an_image_s_name_and_a_link_to_nothing_are_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path / "a.png", pixels(0, 5, 7))
    wrong = tmp_path / "b.png"
    wrong.write_text("not an image")
    assert load_error(tmp_path) == f"{wrong} holds no PNG, JPEG, WebP, BMP or TIFF image"
    wrong.unlink()
    wrong.symlink_to(tmp_path / "nowhere.png")
    assert load_error(tmp_path).startswith(f"{wrong} cannot be read (")


@pytest.mark.parametrize("side", [8_193, 10_000, 50_000])
@pytest.mark.parametrize("name", ["a.png", "z.png"])
def test_a_header_of_enormous_size_is_refused_before_anything_is_decoded(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, side: int, name: str
) -> None:
    save(tmp_path / "b.png", pixels(0, 5, 7))
    huge = tmp_path / name
    huge.write_bytes(png(side, side, 8, 0, b""))  # decoding would fail otherwise: there are no pixels
    message = load_error(tmp_path)
    assert message.startswith(str(huge))
    assert "at most 67,108,864 pixels" in message
    assert len(recwarn) == 0


def test_a_very_wide_image_is_read(tmp_path: Path) -> None:
    wide = np.arange(10_000, dtype=np.uint32).astype(np.uint8)[None]
    for name in ("a.png", "b.png"):
        save(tmp_path / name, wide)
    train, *_ = ImageFolder(tmp_path, test_fraction=0.5, seed=0).load()
    assert torch.equal(train.images, torch.from_numpy(wide)[None])


def test_images_that_exif_rotates_come_out_upright(tmp_path: Path) -> None:
    upright = np.linspace(0, 255, 32 * 16).astype(np.uint8).reshape(32, 16)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90 degrees clockwise for display
    sideways = Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90)
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        Image.fromarray(upright).save(tmp_path / split / "a.jpg", quality=95)
        sideways.save(tmp_path / split / "b.jpg", quality=95, exif=exif)
    for split in ImageFolder(tmp_path, test_fraction=0.5, seed=0).load()[:2]:
        assert split.images.shape == (2, 32, 16)
        assert (split.images.int() - torch.from_numpy(upright).int()).abs().max() <= 8


def test_images_of_four_bits_are_scaled_to_the_full_range(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png(2, 1, 4, 0, b"\x00\x0f"))  # pixels 0 and 15 of 15
    train, *_ = ImageFolder(tmp_path, test_fraction=0.5, seed=0).load()
    assert train.images.tolist() == [[[0, 255]]]
