"""Image files from a stranger: a DataError in one line, or an image; fast, and no more memory than it promises."""

import gzip
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dae_lightning.data.idx import read_idx
from dae_lightning.data.image_folder import ImageFolder
from dae_lightning.data.photograph_files import read_photograph, write_photograph
from dae_lightning.data.pictures import read_picture
from dae_lightning.errors import DataError
from tests.faults.mutations import mutated_bytes

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 12, 10), dtype=np.uint8)
IDX = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in PIXELS.shape) + PIXELS.tobytes()


def picture(format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0]).resize((40, 30)).save(buffer, format)
    return buffer.getvalue()


@pytest.mark.parametrize("whole", [IDX, gzip.compress(IDX)], ids=["plain", "packed"])
def test_five_hundred_mutations_of_an_mnist_file_are_refused_or_of_the_declared_shape(
    tmp_path: Path, whole: bytes
) -> None:
    path, refused = tmp_path / ("images.gz" if whole != IDX else "images"), 0
    for mutated in mutated_bytes(whole, 500):
        path.write_bytes(mutated)
        try:
            images = read_idx(path)
        except DataError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
        else:  # bytes of the pixels are another's; in a gzip file only bytes of its header can be
            assert images.dtype == torch.uint8
            assert whole == IDX or images.numpy().tobytes() == PIXELS.tobytes()
    assert refused > 200


def read_folder(path: Path) -> None:
    images = ImageFolder(path.parent, 0.5, 0).load().train.images
    assert images.dtype == torch.uint8


def read_one(path: Path) -> None:
    image = read_picture(path, "L").image
    assert image.mode == "L"


@pytest.mark.parametrize("read", [read_folder, read_one])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_five_hundred_mutations_of_a_picture_are_refused_or_decoded(
    tmp_path: Path, read: Callable[[Path], None], format: str
) -> None:
    whole, refused = picture(format), 0
    path = tmp_path / f"b.{format.lower()}"
    (tmp_path / f"a.{format.lower()}").write_bytes(whole)
    for mutated in mutated_bytes(whole, 500):
        path.write_bytes(mutated)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                read(path)
            except DataError as error:
                assert "\n" not in str(error)  # noqa: PT017
                refused += 1
    assert refused > 100


@pytest.mark.parametrize(("name", "depth"), [("a.png", 16), ("a.tif", 16), ("a.webp", 8), ("a.jpg", 8)])
def test_two_hundred_mutations_of_a_photograph_are_refused_or_decoded(tmp_path: Path, name: str, depth: int) -> None:
    path, exif = tmp_path / name, Image.Exif()
    exif[0x010F], exif[0x8769], exif[0x8825] = "Maker", {0x9003: "2019:01:01 00:00:00"}, {2: (52.0, 30.0, 0.0)}
    values = np.random.default_rng(0).integers(0, 2**depth, (3, 20, 30)).astype(f"uint{depth}")
    write_photograph(path, values, Image.registered_extensions()[path.suffix], exif.tobytes())
    for mutated in mutated_bytes(path.read_bytes(), 200):
        path.write_bytes(mutated)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                photograph = read_photograph(path)
            except DataError as error:
                assert "\n" not in str(error)  # noqa: PT017
            else:
                assert photograph.values.dtype in (np.uint8, np.uint16)
                write_photograph(
                    tmp_path / f"written{path.suffix}", photograph.values, photograph.format, photograph.exif
                )
