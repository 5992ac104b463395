"""IDX, the file format of MNIST (LeCun, Cortes and Burges, "The MNIST database")."""

import gzip
import zlib
from dataclasses import dataclass
from io import BufferedIOBase
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dae_lightning.data.splits import ImageSet, Splits
from dae_lightning.errors import DataError
from dae_lightning.files import replacing

UNSIGNED_BYTE = 8
GZIP = b"\x1f\x8b"  # how packed files begin


def read_idx(path: str | Path) -> Tensor:
    """Read one file of unsigned bytes, packed by gzip or not, whatever its name.

    Returns:
        A uint8 tensor of the declared shape: 1 to 4 dimensions, none of them 0.

    Raises:
        DataError: the file is missing, is not IDX, has another type, or is shorter or longer than declared.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with path.open("rb") as plain, gzip.open(plain) if plain.peek(2).startswith(GZIP) else plain as file:
            shape = _read_shape(file)
            content = bytearray(file.read())  # all of it, so that gzip verifies the CRC
        if len(content) != prod(shape):
            fault = "truncated" if len(content) < prod(shape) else "too long"
            raise ValueError(f"{fault}: declares {shape}, {prod(shape)} bytes, but holds {len(content)}")
        return torch.frombuffer(content, dtype=torch.uint8).view(shape)
    except ValueError as problem:
        raise DataError(f"{path}: {problem}") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as problem:
        raise DataError(f"{path}: not a whole gzip file ({problem}); download it again") from None
    except MemoryError:
        raise DataError(f"{path}: needs more memory than there is") from None
    except OSError as problem:
        raise DataError(f"{path}: cannot be read ({problem.strerror})") from None


def _read_shape(file: BufferedIOBase) -> tuple[int, ...]:
    """Read the header: two zero bytes, type, number of dimensions, then each dimension as big-endian uint32."""
    magic = file.read(4)
    if not magic:
        raise ValueError("empty; must hold images or labels in the MNIST format")
    if len(magic) < 4 or magic[:3] != bytes([0, 0, UNSIGNED_BYTE]) or not 1 <= magic[3] <= 4:
        raise ValueError(f"starts with {magic.hex(' ')}, not 00 00 08 03 (images) or 00 00 08 01 (labels)")
    dimensions = file.read(4 * magic[3])
    if len(dimensions) < 4 * magic[3]:
        raise ValueError(f"truncated: ends within its header of {4 + 4 * magic[3]} bytes")
    shape = tuple(int.from_bytes(dimensions[i : i + 4], "big") for i in range(0, len(dimensions), 4))
    if 0 in shape:
        raise ValueError(f"declares {shape}: holds nothing")
    return shape


def write_idx(path: Path, images: Tensor) -> None:
    """Write a uint8 tensor of 1 to 4 dimensions atomically; a name that ends in `.gz` is compressed."""
    header = bytes([0, 0, UNSIGNED_BYTE, images.dim()])
    header += b"".join(size.to_bytes(4, "big") for size in images.shape)
    content: Any = images.contiguous().cpu().numpy()  # a buffer: no copy as bytes
    with replacing(path) as file:
        if path.suffix == ".gz":
            # Z_RLE is at least twice as fast as level 1, and grey pixels rarely repeat except in runs; wbits=31 is
            # gzip, with a header that holds neither name nor time, so that equal images give equal bytes.
            packer = zlib.compressobj(6, zlib.DEFLATED, 31, 9, zlib.Z_RLE)
            file.writelines((packer.compress(header), packer.compress(content), packer.flush()))
        else:
            file.writelines((header, content))


@dataclass(frozen=True)
class IdxFolder:
    """An `ImageSource`: a folder with the four files of MNIST, each plain or packed by gzip.

    A file may also be called `train-images.idx3-ubyte` and the like, with or without `.gz`; the first of these names
    that exists is read, plain ones first.
    """

    root: str | Path

    def prepare(self) -> None:
        """Check that the folder and its files exist."""
        folder = Path(self.root).expanduser()
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
        files = [self._file(split, kind) for split in ("train", "t10k") for kind in ("images", "labels")]
        if missing := [file.name for file in files if not file.is_file()]:
            raise DataError(f"{folder}: lacks {', '.join(missing)}, plain or .gz")

    def load(self) -> Splits:
        """Read both splits: images `(N, H, W)` uint8, labels `(N,)` int64."""
        self.prepare()
        splits = Splits(self._read("train"), self._read("t10k"))
        train, test = (tuple(split.images.shape[1:]) for split in (splits.train, splits.test))
        if train != test:
            raise DataError(f"{self._file('t10k', 'images')}: images of {test}, but the training images are of {train}")
        return splits

    def _read(self, split: str) -> ImageSet:
        images_file, labels_file = self._file(split, "images"), self._file(split, "labels")
        images, labels = grey(read_idx(images_file)), read_idx(labels_file)
        if images.dim() != 3:
            shape = tuple(images.shape)
            raise DataError(f"{images_file}: holds {shape}, but images are (N, H, W); swapped with the labels?")
        if labels.dim() != 1:
            shape = tuple(labels.shape)
            raise DataError(f"{labels_file}: holds {shape}, but labels are (N,); swapped with the images?")
        if len(images) != len(labels):
            raise DataError(f"{images_file}: holds {len(images)} images, but {labels_file.name} {len(labels)} labels")
        return ImageSet(images, labels.long())

    def _file(self, split: str, kind: str) -> Path:
        """The file under the first of its names that exists, otherwise under its official one."""
        folder, dimensions = Path(self.root).expanduser(), 3 if kind == "images" else 1
        stems = [f"{split}-{kind}{mark}idx{dimensions}-ubyte" for mark in "-."]  # 7-Zip and Kaggle write the dot
        names = [f"{stem}{ending}" for ending in ("", ".gz", ".GZ") for stem in stems]
        return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])


def grey(images: Tensor) -> Tensor:
    """(N, H, W) of images with one channel, (N, 1, H, W) or (N, H, W, 1); others unchanged."""
    if images.dim() != 4:
        return images
    return images[:, 0] if images.shape[1] == 1 else images.squeeze(3)
