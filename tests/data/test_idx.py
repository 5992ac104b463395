"""The MNIST file format: every shape is read as written, every damaged file gives one line that names it."""

import gzip
import math
import os
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dae_lightning.data.idx import IdxFolder, read_idx
from dae_lightning.errors import DataError

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def header(*shape: int, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)


def idx(*shape: int) -> bytes:
    """A file whose bytes count up from 1, which reveals any misplaced byte."""
    return header(*shape) + bytes((i + 1) % 256 for i in range(math.prod(shape)))


def write(file: Path, content: bytes) -> Path:
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def write_folder(folder: Path, train: int = 5, test: int = 2, size: tuple[int, int] = (4, 3), ending: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    write(folder / f"{TRAIN_IMAGES}{ending}", idx(train, *size))
    write(folder / f"{TRAIN_LABELS}{ending}", idx(train))
    write(folder / f"{TEST_IMAGES}{ending}", idx(test, *size))
    write(folder / f"{TEST_LABELS}{ending}", idx(test))
    return folder


def refusal(folder_or_file: Path) -> str:
    """The error message for a folder or file that must be refused: always one line."""
    with pytest.raises(DataError) as caught:
        IdxFolder(folder_or_file).load() if folder_or_file.is_dir() else read_idx(folder_or_file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder shared by the examples of a property test."""
    return tmp_path_factory.mktemp("idx")


shapes = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(shape=shapes, data=st.data(), ending=st.sampled_from(["", ".gz"]))
@settings(deadline=None)
def test_any_shape_is_read_as_written(scratch: Path, shape: list[int], data: st.DataObject, ending: str) -> None:
    content = data.draw(st.binary(min_size=math.prod(shape), max_size=math.prod(shape)))
    read = read_idx(write(scratch / f"any{ending}", header(*shape) + content))
    assert read.dtype == torch.uint8
    assert read.tolist() == torch.tensor(list(content), dtype=torch.uint8).view(shape).tolist()


@given(shape=shapes, data=st.data(), ending=st.sampled_from(["", ".gz"]))
@settings(deadline=None)
def test_any_truncation_is_refused(scratch: Path, shape: list[int], data: st.DataObject, ending: str) -> None:
    file = write(scratch / f"cut{ending}", idx(*shape))
    whole = file.read_bytes()
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert refusal(file).startswith(f"{file}: ")


@given(data=st.data(), mask=st.integers(1, 255))
@settings(deadline=None, max_examples=300)
def test_a_damaged_byte_in_a_gzip_file_changes_no_pixel_unnoticed(
    scratch: Path, data: st.DataObject, mask: int
) -> None:
    file = write(scratch / "flipped.gz", idx(4, 7, 5))
    whole = bytearray(file.read_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= mask
    file.write_bytes(whole)
    with suppress(DataError):  # and no other: a flipped name or date in the gzip header changes nothing
        assert read_idx(file).flatten().tolist() == list(idx(4, 7, 5)[16:])


@given(
    content=st.binary(max_size=40).filter(lambda content: not content.startswith(b"\0\0\x08")),
    ending=st.sampled_from(["", ".gz"]),
)
@settings(deadline=None)
def test_bytes_of_any_other_kind_are_refused(scratch: Path, content: bytes, ending: str) -> None:
    file = scratch / f"noise{ending}"
    file.write_bytes(content)
    assert refusal(file).startswith(f"{file}: ")


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty; must hold images or labels in the MNIST format"),
        (b"<html>404", "starts with 3c 68 74 6d, not 00 00 08 03 (images) or 00 00 08 01 (labels)"),
        (
            header(2, 3, 4, kind=13),
            "starts with 00 00 0d 03, not 00 00 08 03 (images) or 00 00 08 01 (labels)",
        ),
        (header(2, 2, 2, 2, 2), "starts with 00 00 08 05, not 00 00 08 03 (images) or 00 00 08 01 (labels)"),
        (header(2, 3, 4)[:-1], "truncated: ends within its header of 16 bytes"),
        (header(0, 28, 28), "declares (0, 28, 28): holds nothing"),
        (header(2**20, 2**20), f"truncated: declares (1048576, 1048576), {2**40} bytes, but holds 0"),
        (idx(2, 3, 4)[:-3], "truncated: declares (2, 3, 4), 24 bytes, but holds 21"),
        (idx(2, 3, 4) + b"x", "too long: declares (2, 3, 4), 24 bytes, but holds 25"),
    ],
)
def test_a_file_that_is_not_as_declared_is_refused_with_what_it_holds(
    tmp_path: Path, content: bytes, said: str, ending: str
) -> None:
    file = write(tmp_path / f"file{ending}", content)
    assert refusal(file) == f"{file}: {said}"


def test_a_gzip_file_of_another_checksum_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "images.gz", idx(2, 3, 4))
    whole = bytearray(file.read_bytes())
    whole[-8] ^= 1  # the CRC-32 of the content
    file.write_bytes(whole)
    assert refusal(file).startswith(f"{file}: not a whole gzip file (CRC check failed")


def test_a_cut_off_gzip_file_is_refused_though_all_its_pixels_are_there(tmp_path: Path) -> None:
    file = write(tmp_path / "images.gz", idx(2, 3, 4))
    file.write_bytes(file.read_bytes()[:-8])
    assert refusal(file).startswith(f"{file}: not a whole gzip file (Compressed file ended before")


def test_memory_is_bounded_by_the_actual_size(tmp_path: Path) -> None:
    """2 GiB declared, of which 100 bytes follow."""
    file = write(tmp_path / "images.gz", header(2, 2**15, 2**15) + bytes(100))
    tracemalloc.start()
    try:
        refusal(file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20


@given(
    train=st.integers(1, 6),
    test=st.integers(1, 6),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    ending=st.sampled_from(["", ".gz"]),
)
@settings(deadline=None, max_examples=30)
def test_any_counts_and_any_one_size_make_a_data_set(
    tmp_path_factory: pytest.TempPathFactory, train: int, test: int, size: tuple[int, int], ending: str
) -> None:
    source = IdxFolder(write_folder(tmp_path_factory.mktemp("folder"), train, test, size, ending))
    source.prepare()
    for split, count in zip(source.load()[:2], (train, test), strict=True):
        assert split.images.dtype == torch.uint8
        assert split.images.shape == (count, *size)
        assert split.images.flatten().tolist() == [i % 256 for i in range(1, count * size[0] * size[1] + 1)]
        assert split.labels is not None
        assert split.labels.dtype == torch.int64
        assert split.labels.tolist() == list(range(1, count + 1))


def test_of_a_plain_and_a_packed_file_the_plain_one_is_read(tmp_path: Path) -> None:
    write_folder(tmp_path, ending=".gz")
    write(tmp_path / TRAIN_LABELS, header(5) + bytes([9, 9, 9, 9, 9]))
    labels = IdxFolder(tmp_path).load().train.labels
    assert labels is not None
    assert labels.tolist() == [9, 9, 9, 9, 9]


def dotted(name: str) -> str:
    return name.replace("-idx", ".idx")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", ["", ".gz", ".GZ"])
@pytest.mark.parametrize("spelled", [str, dotted])
def test_files_are_found_by_their_usual_names_and_read_by_their_content(
    tmp_path: Path, spelled: Callable[[str], str], ending: str, packed: bool
) -> None:
    for name in write_folder(tmp_path / "expected").iterdir():
        content = name.read_bytes()
        (tmp_path / f"{spelled(name.name)}{ending}").write_bytes(gzip.compress(content) if packed else content)
    source = IdxFolder(tmp_path)
    source.prepare()
    for split, expected in zip(source.load()[:2], IdxFolder(tmp_path / "expected").load()[:2], strict=True):
        assert torch.equal(split.images, expected.images)
        assert split.labels is not None
        assert expected.labels is not None
        assert torch.equal(split.labels, expected.labels)


@pytest.mark.parametrize("shape", [(5, 1, 4, 3), (5, 4, 3, 1)])
def test_a_dimension_of_one_channel_is_grey(tmp_path: Path, shape: tuple[int, ...]) -> None:
    expected = IdxFolder(write_folder(tmp_path)).load().train.images
    write(tmp_path / TRAIN_IMAGES, idx(*shape))
    assert torch.equal(IdxFolder(tmp_path).load().train.images, expected)


@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (5, 4, 4, 3)])
def test_colour_is_not_taken_for_grey(tmp_path: Path, shape: tuple[int, ...]) -> None:
    write(write_folder(tmp_path) / TRAIN_IMAGES, idx(*shape))
    assert refusal(tmp_path).startswith(f"{tmp_path / TRAIN_IMAGES}: holds {shape}, but images are (N, H, W)")


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / TRAIN_LABELS).unlink()
    (tmp_path / TEST_IMAGES).rename(tmp_path / "t10k_images")
    with pytest.raises(DataError) as caught:
        IdxFolder(tmp_path).prepare()
    assert str(caught.value) == (f"{tmp_path}: lacks {TRAIN_LABELS}, {TEST_IMAGES}, plain or .gz")


def test_a_root_that_is_absent_or_a_file_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "file", b"")
    for root in tmp_path / "absent", file:
        with pytest.raises(DataError) as caught:
            IdxFolder(str(root)).prepare()
        assert str(caught.value) == f"{root}: no such folder"


def test_an_absent_file_and_a_folder_are_not_read(tmp_path: Path) -> None:
    for path in tmp_path / "absent.gz", tmp_path:
        with pytest.raises(DataError) as caught:
            read_idx(path)
        assert str(caught.value) == f"{path}: no such file"


def test_a_file_that_the_system_does_not_give_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    file = write(tmp_path / "images", idx(2, 3, 4))
    monkeypatch.setattr(Path, "open", refuse)
    assert refusal(file) == f"{file}: cannot be read (Permission denied)"


def test_swapped_image_and_label_files_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write(tmp_path / TRAIN_IMAGES, idx(5))
    said = refusal(tmp_path)
    assert said == f"{tmp_path / TRAIN_IMAGES}: holds (5,), but images are (N, H, W); swapped with the labels?"
    write_folder(tmp_path)
    write(tmp_path / TEST_LABELS, idx(2, 4, 3))
    said = refusal(tmp_path)
    assert said == f"{tmp_path / TEST_LABELS}: holds (2, 4, 3), but labels are (N,); swapped with the images?"


def test_images_and_labels_of_different_counts_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write(tmp_path / TRAIN_LABELS, idx(4))
    assert refusal(tmp_path) == f"{tmp_path / TRAIN_IMAGES}: holds 5 images, but {TRAIN_LABELS} 4 labels"


def test_test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write(tmp_path / TEST_IMAGES, idx(2, 3, 4))
    said = refusal(tmp_path)
    assert said == f"{tmp_path / TEST_IMAGES}: images of (3, 4), but the training images are of (4, 3)"


@pytest.mark.skipif(not os.environ.get("DAE_TEST_DATA"), reason="DAE_TEST_DATA names no folder of real files")
def test_real_files_hold_balanced_classes_and_black_corners() -> None:
    train, test, _ = IdxFolder(os.environ["DAE_TEST_DATA"]).load()
    for split in train, test:
        assert split.images.shape[1:] == (28, 28)
        assert split.images[:, 0, 0].float().mean() < 1
        assert (int(split.images.amin()), int(split.images.amax())) == (0, 255)
        assert split.labels is not None
        shares = split.labels.bincount(minlength=10) / len(split.labels)
        assert len(shares) == 10
        assert ((shares - 0.1).abs() < 0.02).all()
