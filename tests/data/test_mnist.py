"""MNIST and its kin: damaged files are fetched again, a failed download is one line and leaves nothing incomplete.

The archives here hold black images, in all tests but one a hundredth of the official number; torchvision's
mirrors and MD5 sums are replaced by a local server and the sums of its archives.
"""

import gc
import gzip
import hashlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision.datasets import KMNIST, MNIST, FashionMNIST  # type: ignore[import-untyped]

from dae_lightning import kinds
from dae_lightning.data import mnist
from dae_lightning.data.mnist import SHAPES, FashionMnist, KMnist, Mnist
from dae_lightning.data.sources import make_source
from dae_lightning.errors import DataError
from dae_lightning.schema import check

TIMEOUT = 0.4  # seconds after which these tests give up on a silent server
LONG = 20 * TIMEOUT  # how long it stays silent
NAMES = tuple(SHAPES)
WHOLE = {f"{name}.gz" for name in NAMES}
SMALL = {name: (count // 100, *size) for name, (count, *size) in SHAPES.items()}
LARGEST, SMALLEST = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def unpacked(name: str, shape: tuple[int, ...] = ()) -> bytes:
    """Black images; labels 0, 1, ..., 9, 0, 1, ..."""
    shape = shape or SMALL[name]
    header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    return header + (bytes(shape[0] * 28 * 28) if len(shape) == 3 else bytes(range(10)) * (shape[0] // 10))


def pack(shapes: dict[str, tuple[int, ...]]) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(unpacked(name, shapes[name]), 1, mtime=0) for name in NAMES}


class Mirror(ThreadingHTTPServer):
    """A server of archives that can fail in every way a mirror can; `asked` lists the requested files in order."""

    daemon_threads = True

    def __init__(self, archives: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.archives = archives
        self.fault, self.faulty = "", f"{LARGEST}.gz"
        self.asked: list[str] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Answer(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        self.server.asked.append(name)
        self.answer(self.server.archives[name])

    def answer(self, content: bytes) -> None:
        fault = self.server.fault if self.path.endswith(self.server.faulty) else ""
        if fault == "silence":
            self.server.closing.wait(LONG)
            return
        if fault == "nonsense":
            self.wfile.write(b"220 this is not HTTP\r\n")
            return
        if fault == "wrong bytes":
            content = content[::-1]
        if fault == "HTML":
            content = b"<html>Log in to the network of this hotel</html>"
        self.send_response(404 if fault == "404" else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2 if fault in ("half a file", "stall") else len(content)
        self.wfile.write(content[:half])
        if fault == "stall":
            self.wfile.flush()
            self.server.closing.wait(LONG)

    def log_message(self, format: str, *values: object) -> None:
        pass


@pytest.fixture
def mirror(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    shapes = getattr(request, "param", SMALL)
    server = Mirror(pack(shapes))
    sums = [(name, hashlib.md5(content).hexdigest()) for name, content in server.archives.items()]
    for origin in FashionMNIST, KMNIST, MNIST:
        monkeypatch.setattr(origin, "resources", sums)
        monkeypatch.setattr(origin, "mirrors", [server.url])
    monkeypatch.setattr(mnist, "SHAPES", shapes)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


def raw(root: Path) -> Path:
    return root / "FashionMNIST" / "raw"


def place(root: Path, archives: dict[str, bytes]) -> None:
    """As by hand: the packed files, in their folder."""
    raw(root).mkdir(parents=True, exist_ok=True)
    for name, content in archives.items():
        (raw(root) / name).write_bytes(content)


def unpack(root: Path) -> None:
    """As torchvision leaves them, or a user who has removed the archives."""
    raw(root).mkdir(parents=True)
    for name in NAMES:
        (raw(root) / name).write_bytes(unpacked(name))


def contents(root: Path) -> set[str]:
    return {str(file.relative_to(raw(root))) for file in raw(root).rglob("*")}


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        FashionMnist(root, timeout=TIMEOUT).prepare()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_whole(root: Path, train_count: int = 600, test_count: int = 100) -> None:
    train, test, _ = FashionMnist(root).load()
    for split, count in (train, train_count), (test, test_count):
        assert split.images.dtype == torch.uint8
        assert split.images.shape == (count, 28, 28)
        assert not split.images.any()
        assert split.labels is not None
        assert split.labels.dtype == torch.int64
        assert torch.equal(split.labels, torch.arange(count) % 10)


@pytest.mark.parametrize("mirror", [SHAPES], ids=["of the official size"], indirect=True)
def test_an_empty_folder_is_filled_from_the_mirror_once(tmp_path: Path, mirror: Mirror) -> None:
    source = FashionMnist(str(tmp_path / "new"), timeout=5)
    source.prepare()
    assert set(mirror.asked) == {f"{name}.gz" for name in NAMES}
    assert contents(tmp_path / "new") == WHOLE
    assert_whole(tmp_path / "new", 60_000, 10_000)
    mirror.asked.clear()
    before = time.perf_counter()
    source.prepare()
    assert time.perf_counter() - before < 1
    assert mirror.asked == []


def keras(root: Path, archives: dict[str, bytes]) -> None:
    for name, content in archives.items():
        (root / name).write_bytes(content)


def unpacked_alone(root: Path, archives: dict[str, bytes]) -> None:
    unpack(root)


def unpacked_too(root: Path, archives: dict[str, bytes]) -> None:
    unpack(root)
    place(root, archives)


@pytest.mark.parametrize("layout", [place, keras, unpacked_alone, unpacked_too])
def test_a_complete_folder_needs_no_network_and_nothing_is_written(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, layout: Callable[[Path, dict[str, bytes]], None]
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("the network was used")

    layout(tmp_path, mirror.archives)
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    before = [(folder, folder.stat().st_mtime_ns, sorted(folder.iterdir())) for folder in folders]
    monkeypatch.setattr(socket, "create_connection", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    FashionMnist(tmp_path).prepare()
    assert_whole(tmp_path)
    assert before == [(folder, folder.stat().st_mtime_ns, sorted(folder.iterdir())) for folder in folders]


def test_a_missing_archive_of_keras_is_fetched_alone(tmp_path: Path, mirror: Mirror) -> None:
    keras(tmp_path, mirror.archives)
    (tmp_path / f"{SMALLEST}.gz").unlink()
    FashionMnist(tmp_path, timeout=5).prepare()
    assert mirror.asked == [f"{SMALLEST}.gz"]
    assert contents(tmp_path) == {f"{SMALLEST}.gz"}
    assert_whole(tmp_path)


@pytest.mark.parametrize(("kind", "folder"), [("mnist", "MNIST"), ("kmnist", "KMNIST")])
def test_the_other_data_sets_of_the_format_have_folders_of_their_own(
    tmp_path: Path, mirror: Mirror, kind: str, folder: str
) -> None:
    source = make_source(check(kinds.DataKind, {"kind": kind, "root": str(tmp_path)}, "data"))
    source.prepare()
    assert {path.name for path in (tmp_path / folder / "raw").iterdir()} == WHOLE
    assert source.load().train.images.shape == (600, 28, 28)


def test_archives_of_another_data_set_are_not_taken_for_its_own(tmp_path: Path) -> None:
    """They have the same names and the same shapes."""
    sums = {source: dict(source.origin.resources) for source in (Mnist, FashionMnist, KMnist)}
    assert len({md5 for names in sums.values() for md5 in names.values()}) == 12
    assert all({f"{name}.gz" for name in SHAPES} == names.keys() for names in sums.values())


def test_the_second_mirror_is_asked_where_the_first_fails(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    monkeypatch.setattr(MNIST, "mirrors", [gone, mirror.url])
    Mnist(tmp_path, timeout=5).prepare()
    assert mirror.asked == [f"{name}.gz" for name in NAMES]
    mirror.fault = "404"
    with pytest.raises(DataError) as caught:
        Mnist(tmp_path / "new", timeout=5).prepare()
    assert f"({gone}: <urlopen error [Errno 111] Connection refused>; {mirror.url}: HTTP Error 404" in str(caught.value)


# An HTTP error holds on to its socket until the garbage is collected.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("404", "HTTP Error 404"),
        ("silence", "timed out"),
        ("stall", "timed out"),
        ("half a file", "not the whole train-images-idx3-ubyte.gz, whose MD5 is "),
        ("wrong bytes", "not the whole train-images-idx3-ubyte.gz, whose MD5 is "),
        ("HTML", "not the whole train-images-idx3-ubyte.gz, whose MD5 is "),
        ("nonsense", "220 this is not HTTP"),
    ],
)
def test_a_failed_download_is_one_line_leaves_nothing_half_and_is_made_good_by_the_next(
    tmp_path: Path, mirror: Mirror, fault: str, reason: str
) -> None:
    mirror.fault = fault
    before = time.perf_counter()
    said = refusal(tmp_path)
    assert time.perf_counter() - before < 10 * TIMEOUT
    gc.collect()
    assert reason in said
    assert said.startswith(f"{raw(tmp_path) / LARGEST}: no such file; FashionMNIST could not be fetched (")
    assert said.endswith(
        "): put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
        f"t10k-labels-idx1-ubyte.gz into {raw(tmp_path)}, or choose data=glyphs, which needs no download"
    )
    assert contents(tmp_path) == set()
    assert socket.getdefaulttimeout() is None
    mirror.fault = ""
    FashionMnist(tmp_path, timeout=5).prepare()
    assert contents(tmp_path) == WHOLE
    assert_whole(tmp_path)


def test_a_refused_connection_is_one_line(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{port}/"])
    assert "Connection refused" in refusal(tmp_path / "a" / "typo")
    assert list(tmp_path.iterdir()) == []


def test_the_whole_archives_of_a_failed_download_are_kept(tmp_path: Path, mirror: Mirror) -> None:
    mirror.fault, mirror.faulty = "half a file", f"{SMALLEST}.gz"
    refusal(tmp_path)
    assert contents(tmp_path) == {f"{name}.gz" for name in NAMES if name != SMALLEST}
    mirror.fault = ""
    mirror.asked.clear()
    FashionMnist(tmp_path, timeout=5).prepare()
    assert set(mirror.asked) == {f"{SMALLEST}.gz"}
    assert_whole(tmp_path)


def test_a_truncated_unpacked_file_is_refused_and_its_archive_fetched(tmp_path: Path, mirror: Mirror) -> None:
    unpack(tmp_path)
    (raw(tmp_path) / LARGEST).write_bytes(unpacked(LARGEST)[:-1])
    with pytest.raises(DataError, match=f"{LARGEST}: truncated"):
        FashionMnist(tmp_path).load()
    FashionMnist(tmp_path, timeout=5).prepare()
    assert mirror.asked == [f"{LARGEST}.gz"]
    assert_whole(tmp_path)


def test_of_an_archive_and_an_unpacked_file_the_archive_is_read(tmp_path: Path, mirror: Mirror) -> None:
    place(tmp_path, mirror.archives)
    (raw(tmp_path) / LARGEST).write_bytes(unpacked(LARGEST)[:-1] + b"\1")
    FashionMnist(tmp_path).prepare()
    assert mirror.asked == []
    assert_whole(tmp_path)


def test_a_part_of_the_data_set_is_refused_and_fetched_anew(tmp_path: Path, mirror: Mirror) -> None:
    """torchvision takes 100 images with 40 labels as they are."""
    unpack(tmp_path)
    (raw(tmp_path) / SMALLEST).write_bytes(unpacked(SMALLEST, (40,)))
    with pytest.raises(DataError) as caught:
        FashionMnist(tmp_path).load()
    assert str(caught.value) == f"{raw(tmp_path) / SMALLEST}: holds (40,), but FashionMNIST (100,)"
    FashionMnist(tmp_path, timeout=5).prepare()
    assert_whole(tmp_path)


def test_another_archive_is_refused_and_replaced_only_by_the_official_one(tmp_path: Path, mirror: Mirror) -> None:
    name = f"{SMALLEST}.gz"
    other = gzip.compress(unpacked(SMALLEST)[::-1])
    place(tmp_path, {**mirror.archives, name: other})
    mirror.fault, mirror.faulty = "HTML", name
    md5 = hashlib.md5(mirror.archives[name]).hexdigest()
    fault = f"{raw(tmp_path) / name}: not the official archive, whose MD5 is {md5}"
    assert refusal(tmp_path).startswith(f"{fault}; FashionMNIST could not be fetched (")
    assert contents(tmp_path) == WHOLE
    assert (raw(tmp_path) / name).read_bytes() == other
    with pytest.raises(DataError) as caught:
        FashionMnist(tmp_path).load()
    assert str(caught.value) == fault
    mirror.fault = ""
    FashionMnist(tmp_path, timeout=5).prepare()
    assert (raw(tmp_path) / name).read_bytes() == mirror.archives[name]
    assert_whole(tmp_path)


def test_a_label_past_9_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    unpack(tmp_path)
    (raw(tmp_path) / SMALLEST).write_bytes(unpacked(SMALLEST)[:-1] + b"\x0a")
    with pytest.raises(DataError, match="holds the label 10; those of FashionMNIST are 0 to 9"):
        FashionMnist(tmp_path).load()


def test_old_processed_files_are_not_loaded(tmp_path: Path, mirror: Mirror) -> None:
    """torchvision prefers these files, left by its old releases, to all others, and does not verify them."""
    place(tmp_path, mirror.archives)
    processed = tmp_path / "FashionMNIST" / "processed"
    processed.mkdir()
    for name in "training.pt", "test.pt":
        torch.save((torch.ones(1, 28, 28, dtype=torch.uint8), torch.tensor([3])), processed / name)
    assert len(FashionMNIST(tmp_path)) == 1
    FashionMnist(tmp_path).prepare()
    assert_whole(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "FashionMNIST").write_text("a file where the folder belongs")
    assert "File exists" in refusal(tmp_path)
    assert mirror.asked == []


def test_an_archive_that_the_system_does_not_give_is_one_line(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, md5: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    place(tmp_path, mirror.archives)
    monkeypatch.setattr(mnist, "check_integrity", refuse)
    archive = raw(tmp_path) / f"{LARGEST}.gz"
    assert refusal(tmp_path).startswith(f"{archive}: cannot be read (Permission denied); FashionMNIST could")


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_bars_are_for_terminals_only(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stderr", stream)
    FashionMnist(tmp_path, timeout=5).prepare()
    assert ("100%" in stream.getvalue()) is terminal
