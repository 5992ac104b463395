"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747): torchvision downloads, we verify."""

import os
import shutil
import socket
import sys
import tempfile
import zlib
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass
from http.client import HTTPException
from io import StringIO
from pathlib import Path

from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from dae_lightning.data.idx import IdxFolder, read_idx
from dae_lightning.data.splits import Splits
from dae_lightning.errors import DataError
from dae_lightning.files import making
from dae_lightning.locks import sole_use

SHAPES = {
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}


@dataclass(frozen=True)
class FashionMnist:
    """60,000 training and 10,000 test images of clothing, 28x28 grey, in `root/FashionMNIST/raw`.

    A download fails once the server has been silent for `timeout` seconds.
    """

    root: str | Path
    timeout: float = 10.0

    @property
    def raw(self) -> Path:
        """The folder in which torchvision keeps the archives and the unpacked files."""
        return Path(self.root).expanduser() / "FashionMNIST" / "raw"

    def prepare(self) -> None:
        """Download and unpack files that are missing or damaged. Verifying a complete folder takes 0.2 s.

        Files are only ever replaced by verified ones and never removed, as they may be the only copy.
        """
        if (fault := self._fault()) is None:
            return
        try:
            with sole_use(self.raw.parent, wait=True), making(self.raw):
                if self._fault():  # else another process has just downloaded it
                    self._fetch()
        except (OSError, RuntimeError, HTTPException) as problem:
            reason = " ".join(str(problem).split()) or type(problem).__name__
            raise DataError(
                f"{fault}; Fashion-MNIST could not be fetched ({reason}): put {', '.join(_archives())} "
                f"into {self.raw}, or choose data=glyphs, which needs no download"
            ) from problem

    def load(self) -> Splits:
        """Read and verify both splits: images `(N, 28, 28)` uint8, labels `(N,)` int64 from 0 to 9."""
        if fault := self._fault():
            raise fault
        highest = max(int(read_idx(self.raw / name).max()) for name in SHAPES if "labels" in name)
        if highest > 9:
            raise DataError(f"{self.raw}: holds the label {highest}; those of Fashion-MNIST are 0 to 9")
        return IdxFolder(self.raw).load()

    def _fault(self) -> DataError | None:
        """What is wrong unless every file is complete, and matches its archive if there is one."""
        for name, shape in SHAPES.items():
            file, archive = self.raw / name, self.raw / f"{name}.gz"
            md5 = _archives()[archive.name]
            try:
                if archive.exists() and not check_integrity(archive, md5):
                    return DataError(f"{archive}: not the official archive, whose MD5 is {md5}")
                if (found := tuple(read_idx(file).shape)) != shape:
                    return DataError(f"{file}: holds {found}, but Fashion-MNIST {shape}")
                # a gzip file ends with the CRC-32 and the length of its content (RFC 1952, 2.3.1)
                crc = int.from_bytes(archive.read_bytes()[-8:-4], "little") if archive.exists() else None
                if crc is not None and crc != zlib.crc32(file.read_bytes()):
                    return DataError(f"{file}: damaged, it is not what {archive.name} holds")
            except OSError as problem:
                return DataError(f"{archive}: cannot be read ({problem.strerror})")
            except DataError as fault:
                return fault
        return None

    def _fetch(self) -> None:
        """Let torchvision download and unpack into a temporary folder, then move the files into place."""
        for leftover in self.raw.glob(".fetching-*"):  # by a process that was killed
            shutil.rmtree(leftover)
        missing = {name: md5 for name, md5 in _archives().items() if not check_integrity(self.raw / name, md5)}
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=self.raw) as folder:
            for name in _archives().keys() - missing.keys():
                shutil.copyfile(self.raw / name, Path(folder, name))
            try:
                _download(folder, self.timeout)
            finally:  # keep intact archives even if another one failed: the next attempt fetches only the rest
                for name, md5 in missing.items():
                    if check_integrity(Path(folder, name), md5):
                        os.replace(Path(folder, name), self.raw / name)
            for name in SHAPES:
                os.replace(Path(folder, name), self.raw / name)


class _RawFolder(datasets.FashionMNIST):  # type: ignore[misc]
    """torchvision's data set with `root` itself as its raw folder.

    This hides `root/FashionMNIST/processed/*.pt`, which old releases wrote and torchvision would load
    unverified. torchvision takes any unpacked file for a good one: hence `_verify`.
    """

    @property
    def raw_folder(self) -> str:
        return str(self.root)


def _archives() -> dict[str, str]:
    """The official archives' names and MD5 sums."""
    return dict(_RawFolder.resources)


def _download(folder: str, timeout: float) -> None:
    """Run torchvision's download, which sets no time-out of its own and could wait forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout)
    try:
        # Progress bars only on a terminal: in a log they are control characters.
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(StringIO()):
            _RawFolder(folder, train=False, download=True)
    finally:
        socket.setdefaulttimeout(before)
