"""Fashion-MNIST: damaged files are fetched again, a failed download is one line and leaves nothing incomplete.

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
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision.datasets import FashionMNIST  # type: ignore[import-untyped]

from dae_lightning.data import fashion_mnist
from dae_lightning.data.fashion_mnist import SHAPES, FashionMnist
from dae_lightning.errors import DataError

TIMEOUT = 0.4  # seconds after which these tests give up on a silent server
LONG = 20 * TIMEOUT  # how long it stays silent
NAMES = tuple(SHAPES)
WHOLE = {*NAMES, *(f"{name}.gz" for name in NAMES)}
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
    monkeypatch.setattr(FashionMNIST, "resources", sums)
    monkeypatch.setattr(FashionMNIST, "mirrors", [server.url])
    monkeypatch.setattr(fashion_mnist, "SHAPES", shapes)
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
    raw(root).mkdir(parents=True)
    for name, content in archives.items():
        (raw(root) / name).write_bytes(content)


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


def test_archives_placed_by_hand_need_no_network(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("the network was used")

    place(tmp_path, mirror.archives)
    monkeypatch.setattr(socket, "create_connection", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    FashionMnist(tmp_path).prepare()
    assert mirror.asked == []
    assert contents(tmp_path) == WHOLE
    assert_whole(tmp_path)


def test_unpacked_files_alone_are_read(tmp_path: Path, mirror: Mirror) -> None:
    raw(tmp_path).mkdir(parents=True)
    for name in NAMES:
        (raw(tmp_path) / name).write_bytes(unpacked(name))
    FashionMnist(tmp_path).prepare()
    assert mirror.asked == []
    assert_whole(tmp_path)


# torchvision holds on to the HTTP error that it caught, and so to its socket, until the garbage is collected.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("404", "HTTP Error 404"),
        ("silence", "timed out"),
        ("stall", "timed out"),
        ("half a file", "File not found or corrupted"),
        ("wrong bytes", "File not found or corrupted"),
        ("HTML", "File not found or corrupted"),
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
    assert said.startswith(f"{raw(tmp_path) / LARGEST}: no such file; Fashion-MNIST could not be fetched (")
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


def test_a_truncated_unpacked_file_is_unpacked_anew(tmp_path: Path, mirror: Mirror) -> None:
    place(tmp_path, mirror.archives)
    file = raw(tmp_path) / LARGEST
    file.write_bytes(unpacked(LARGEST)[:-1])
    with pytest.raises(DataError, match=f"{LARGEST}: truncated"):
        FashionMnist(tmp_path).load()
    FashionMnist(tmp_path).prepare()
    assert mirror.asked == []
    assert_whole(tmp_path)


def test_one_wrong_pixel_in_an_unpacked_file_is_found_and_made_good(tmp_path: Path, mirror: Mirror) -> None:
    place(tmp_path, mirror.archives)
    FashionMnist(tmp_path).prepare()
    file = raw(tmp_path) / LARGEST
    file.write_bytes(unpacked(LARGEST)[:-1] + b"\1")
    with pytest.raises(DataError) as caught:
        FashionMnist(tmp_path).load()
    assert str(caught.value) == f"{file}: damaged, it is not what {LARGEST}.gz holds"
    FashionMnist(tmp_path).prepare()
    assert mirror.asked == []
    assert_whole(tmp_path)


def test_a_part_of_the_data_set_is_refused_and_fetched_anew(tmp_path: Path, mirror: Mirror) -> None:
    """torchvision takes 100 images with 40 labels as they are."""
    raw(tmp_path).mkdir(parents=True)
    for name in NAMES:
        (raw(tmp_path) / name).write_bytes(unpacked(name))
    (raw(tmp_path) / SMALLEST).write_bytes(unpacked(SMALLEST, (40,)))
    with pytest.raises(DataError) as caught:
        FashionMnist(tmp_path).load()
    assert str(caught.value) == f"{raw(tmp_path) / SMALLEST}: holds (40,), but Fashion-MNIST (100,)"
    FashionMnist(tmp_path, timeout=5).prepare()
    assert_whole(tmp_path)


def test_another_archive_is_refused_and_replaced_only_by_the_official_one(tmp_path: Path, mirror: Mirror) -> None:
    name = f"{SMALLEST}.gz"
    other = gzip.compress(unpacked(SMALLEST)[::-1])
    place(tmp_path, {**mirror.archives, name: other})
    mirror.fault, mirror.faulty = "HTML", name
    md5 = hashlib.md5(mirror.archives[name]).hexdigest()
    assert refusal(tmp_path).startswith(f"{raw(tmp_path) / LARGEST}: no such file; ")
    assert contents(tmp_path) == {f"{name}.gz" for name in NAMES}
    assert (raw(tmp_path) / name).read_bytes() == other
    for file in NAMES:
        (raw(tmp_path) / file).write_bytes(unpacked(file))
    with pytest.raises(DataError) as caught:
        FashionMnist(tmp_path).load()
    assert str(caught.value) == f"{raw(tmp_path) / name}: not the official archive, whose MD5 is {md5}"
    mirror.fault = ""
    FashionMnist(tmp_path, timeout=5).prepare()
    assert (raw(tmp_path) / name).read_bytes() == mirror.archives[name]
    assert_whole(tmp_path)


def test_a_label_past_9_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    raw(tmp_path).mkdir(parents=True)
    for name in NAMES:
        (raw(tmp_path) / name).write_bytes(unpacked(name))
    (raw(tmp_path) / SMALLEST).write_bytes(unpacked(SMALLEST)[:-1] + b"\x0a")
    with pytest.raises(DataError, match="holds the label 10; those of Fashion-MNIST are 0 to 9"):
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
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    place(tmp_path, mirror.archives)
    monkeypatch.setattr(fashion_mnist, "check_integrity", refuse)
    archive = raw(tmp_path) / f"{LARGEST}.gz"
    assert refusal(tmp_path).startswith(f"{archive}: cannot be read (Permission denied); Fashion-MNIST could")


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_bars_are_for_terminals_only(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stderr", stream)
    FashionMnist(tmp_path, timeout=5).prepare()
    assert ("100%" in stream.getvalue()) is terminal
