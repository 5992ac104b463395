"""MNIST and two data sets of its shape: torchvision knows their mirrors and MD5 sums, and the archives stay packed."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import ClassVar
from urllib.request import Request, urlopen

from torchvision import datasets
from torchvision.datasets.utils import USER_AGENT, check_integrity
from tqdm import tqdm

from dae_lightning.data.idx import read_idx
from dae_lightning.data.splits import ImageSet, Splits
from dae_lightning.errors import DataError
from dae_lightning.files import remove_partial, replacing
from dae_lightning.locks import sole_use

SHAPES = {
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}


@dataclass(frozen=True)
class Mnist:
    """Digits (LeCun, Cortes and Burges): 60,000 training and 10,000 test images, 28x28 grey.

    The four archives lie in `root`, as Keras leaves them, or in `root/MNIST/raw`, as torchvision does; of the latter
    the unpacked files suffice. Only a download writes anything: to `root/MNIST/raw`, and it fails once the server has
    been silent for `timeout` seconds.
    """

    root: str | Path
    timeout: float = 10.0

    origin: ClassVar[type[datasets.MNIST]] = datasets.MNIST

    @property
    def raw(self) -> Path:
        """torchvision's folder."""
        return Path(self.root).expanduser() / self.origin.__name__ / "raw"

    def prepare(self) -> None:
        """Download the archives that are missing or damaged. Verifying four good ones takes 0.1 s.

        Files are only ever replaced by verified ones and never removed, as they may be the only copy.
        """
        for name, md5 in self.origin.resources:
            self._prepare(name, md5)

    def load(self) -> Splits:
        """Read and verify both splits: images `(N, 28, 28)` uint8, labels `(N,)` int64 from 0 to 9."""
        images, labels, test_images, test_labels = (read_idx(self._file(*archive)) for archive in self.origin.resources)
        return Splits(ImageSet(images, labels.long()), ImageSet(test_images, test_labels.long()))

    def _prepare(self, name: str, md5: str) -> None:
        try:
            self._file(name, md5)
        except DataError as fault:
            try:
                self._download(name, md5)
            except OSError as problem:
                archives = ", ".join(archive for archive, _ in self.origin.resources)
                raise DataError(
                    f"{fault}; {self.origin.__name__} could not be fetched ({problem}): put {archives} "
                    f"into {self.raw}, or choose data=glyphs, which needs no download"
                ) from problem

    def _file(self, name: str, md5: str) -> Path:
        """The official archive, or, where there is none of that name, the file that torchvision has unpacked.

        Raises:
            DataError: there is neither, or only one that is damaged.
        """
        archives = [self.raw / name, self.raw.parents[1] / name]
        try:
            if whole := next((archive for archive in archives if check_integrity(archive, md5)), None):
                return whole
        except OSError as problem:
            raise DataError(f"{problem.filename}: cannot be read ({problem.strerror})") from None
        if wrong := next(filter(Path.exists, archives), None):
            raise DataError(f"{wrong}: not the official archive, whose MD5 is {md5}")
        unpacked = (self.raw / name).with_suffix("")
        content, shape, title = read_idx(unpacked), SHAPES[unpacked.name], self.origin.__name__
        if content.shape != shape:
            raise DataError(f"{unpacked}: holds {tuple(content.shape)}, but {title} {shape}")
        if "labels" in name and content.max() > 9:
            raise DataError(f"{unpacked}: holds the label {content.max()}; those of {title} are 0 to 9")
        return unpacked

    def _download(self, name: str, md5: str) -> None:
        """Fetch an archive from the first of torchvision's mirrors that has it, unless another process just has."""
        problems = []
        with sole_use(self.raw.parent, wait=True):
            remove_partial(self.raw)
            with suppress(DataError):
                self._file(name, md5)
                return
            for mirror in self.origin.mirrors:
                if not (problem := fetch(f"{mirror}{name}", self.raw / name, md5, self.timeout)):
                    return
                problems.append(f"{mirror}: {problem}")
        raise OSError("; ".join(problems))


def fetch(url: str, path: Path, md5: str, timeout: float) -> str:
    """Download a file, whole or not at all, with a progress bar on a terminal; returns what went wrong, or nothing."""
    try:
        with (
            urlopen(Request(url, headers={"User-Agent": USER_AGENT}), timeout=timeout) as answer,
            tqdm.wrapattr(answer, "read", total=answer.length, desc=path.name, disable=None) as content,
            replacing(path) as file,
        ):
            shutil.copyfileobj(content, file)
            file.flush()
            if not check_integrity(file.name, md5):
                raise OSError(f"not the whole {path.name}, whose MD5 is {md5}")
    except (OSError, HTTPException) as problem:
        return " ".join(str(problem).split()) or type(problem).__name__
    return ""


class FashionMnist(Mnist):
    """Clothing (Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747), in `root` or `root/FashionMNIST/raw`."""

    origin = datasets.FashionMNIST


class KMnist(Mnist):
    """Cursive Japanese characters (Clanuwat et al. 2018, arXiv:1812.01718), in `root` or `root/KMNIST/raw`."""

    origin = datasets.KMNIST
