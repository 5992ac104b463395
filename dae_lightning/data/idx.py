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
MOST_BYTES = 8 * 2**30  # in one file; a header that declares more is taken for damage
STEP_BYTES = 2**20


def read_idx(path: str | Path) -> Tensor:
    """Read one file of unsigned bytes; a name that ends in `.gz` is decompressed.

    Returns:
        A uint8 tensor of the declared shape: 1 to 3 dimensions, none of them 0.

    Raises:
        DataError: the file is missing, is not IDX, has another type, or is shorter or longer than declared.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            shape = _read_shape(file)
            return torch.frombuffer(_read_content(file, shape), dtype=torch.uint8).view(shape)
    except ValueError as problem:
        raise DataError(f"{path}: {problem}") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as problem:
        raise DataError(f"{path}: not a whole gzip file ({problem}); fetch it anew") from None
    except OSError as problem:
        raise DataError(f"{path}: cannot be read ({problem.strerror})") from None


def _read_shape(file: BufferedIOBase) -> tuple[int, ...]:
    """Read the header: two zero bytes, type, number of dimensions, then each dimension as big-endian uint32."""
    magic = file.read(4)
    if not magic:
        raise ValueError("empty, where images or labels in the MNIST format belong")
    if len(magic) < 4 or magic[:3] != bytes([0, 0, UNSIGNED_BYTE]) or not 1 <= magic[3] <= 3:
        raise ValueError(f"starts with {magic.hex(' ')}, not 00 00 08 03 (images) or 00 00 08 01 (labels)")
    dimensions = file.read(4 * magic[3])
    if len(dimensions) < 4 * magic[3]:
        raise ValueError(f"truncated: ends within its header of {4 + 4 * magic[3]} bytes")
    shape = tuple(int.from_bytes(dimensions[i : i + 4], "big") for i in range(0, len(dimensions), 4))
    if not 1 <= prod(shape) <= MOST_BYTES:
        raise ValueError(f"declares {shape}, {prod(shape)} bytes; 1 to {MOST_BYTES} can be read")
    return shape


def _read_content(file: BufferedIOBase, shape: tuple[int, ...]) -> bytearray:
    """Read in steps, so that memory grows with the actual content and not with the declared size."""
    size = prod(shape)
    content = bytearray()
    # Asking for one byte too many shows whether the file ends here, and makes gzip check the CRC.
    while step := file.read(min(STEP_BYTES, size + 1 - len(content))):
        content += step
    if len(content) < size:
        raise ValueError(f"truncated: declares {shape}, {size} bytes, but holds {len(content)}")
    if len(content) > size:
        raise ValueError(f"too long: declares {shape}, {size} bytes, but holds more")
    return content


def write_idx(path: Path, images: Tensor) -> None:
    """Write a uint8 tensor of 1 to 3 dimensions atomically; a name that ends in `.gz` is compressed."""
    header = bytes([0, 0, UNSIGNED_BYTE, images.dim()])
    header += b"".join(size.to_bytes(4, "big") for size in images.shape)
    content: Any = images.contiguous().cpu().numpy()  # a buffer: no copy as bytes
    with replacing(path) as file:
        if path.suffix == ".gz":
            # Z_RLE is at least twice as fast as level 1, and grey pixels rarely repeat except in runs. wbits=31 writes
            # a gzip header without name and time, so that equal images give equal bytes.
            packer = zlib.compressobj(6, zlib.DEFLATED, 31, 9, zlib.Z_RLE)
            file.writelines((packer.compress(header), packer.compress(content), packer.flush()))
        else:
            file.writelines((header, content))


@dataclass(frozen=True)
class IdxFolder:
    """An `ImageSource`: a folder with the four files of MNIST, each plain or `.gz`; plain files take precedence.

    Each split holds at least one image; all images have the same size; labels are 0 to 255.
    """

    root: str | Path

    def prepare(self) -> None:
        """Check that the folder and its files exist; nothing is read or downloaded."""
        folder = Path(self.root).expanduser()
        if not folder.is_dir():
            raise DataError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
        files = [self._file(split, kind) for split in ("train", "t10k") for kind in ("images", "labels")]
        if missing := [file.stem for file in files if not file.is_file()]:
            raise DataError(f"{folder}: lacks {', '.join(missing)} (as they are, or with .gz at the end)")

    def load(self) -> Splits:
        """Read both splits: images `(N, H, W)` uint8, labels `(N,)` int64."""
        self.prepare()
        train, test = self._read("train"), self._read("t10k")
        train_size, test_size = tuple(train.images.shape[1:]), tuple(test.images.shape[1:])
        if train_size != test_size:
            test_file = self._file("t10k", "images")
            raise DataError(f"{test_file}: images of {test_size}, but the training images are of {train_size}")
        return Splits(train, test)

    def _read(self, split: str) -> ImageSet:
        images_file, labels_file = self._file(split, "images"), self._file(split, "labels")
        images, labels = read_idx(images_file), read_idx(labels_file)
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
        """The plain file if it exists, otherwise the path of the `.gz` file."""
        name = f"{split}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
        plain = Path(self.root).expanduser() / name
        return plain if plain.is_file() else plain.with_name(f"{name}.gz")
