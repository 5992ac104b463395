"""A checkpoint from a stranger: one clear error, no code run, memory and time bounded."""

import multiprocessing
import os
import pickle
import resource
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dae_lightning import DenoisingAutoencoder, GaussianNoise
from dae_lightning.errors import CheckpointError
from dae_lightning.model.archive import MOST_BYTES
from dae_lightning.training.checkpoints import AtomicCheckpointIO, load_model, read_checkpoint
from tests.faults.mutations import mutated_bytes, mutated_members, mutated_values, rewritten, sealed

MEMORY, SECONDS = 300 * 2**20, 20  # that reading a bad file may take at most, on top of what is there already


def content() -> dict[str, Any]:
    """Of a small good checkpoint."""
    model = DenoisingAutoencoder((5, 4), 3, GaussianNoise(0.0, 2.0))
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    data = {"kind": "idx", "root": "/data", "seed": 0, "val_size": None}
    return {"hyper_parameters": dict(model.hparams), "state_dict": weights, "data": data, "epoch": 3}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rewritten(content(), tmp_path_factory.mktemp("good") / "good.ckpt")


WAYS = (load_model, DenoisingAutoencoder.load_from_checkpoint, AtomicCheckpointIO().load_checkpoint)


def refusal(path: Path, ways: tuple[Callable[[Any], Any], ...] = WAYS) -> str:
    """Why a file is refused; in one line, by each way into this project."""
    for load in ways:
        with pytest.raises(CheckpointError, match=str(path)) as error:
            load(path)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 1000
    return str(error.value)


def refusal_in_bounds(path: Path) -> str:
    """Likewise, in a process of its own that may not take much memory or time."""
    ours, theirs = multiprocessing.Pipe()

    def child() -> None:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        theirs.send(refusal(path, WAYS[:1]))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    return str(ours.recv())


# --- damage -------------------------------------------------------------------------------------------------


def test_five_hundred_mutations_of_the_file_are_refused(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.ckpt"
    for mutated in mutated_bytes(good.read_bytes(), 500):
        path.write_bytes(mutated)
        with pytest.raises(CheckpointError, match="damaged, or no checkpoint") as error:
            load_model(path)
        assert "\n" not in str(error.value)


def test_a_flipped_byte_in_a_tensor_that_torch_would_take_is_refused(good: Path, tmp_path: Path) -> None:
    whole = good.read_bytes()
    weight = torch.load(good, weights_only=True)["state_dict"]["encoder.weight"].numpy().tobytes()
    path = tmp_path / "bad.ckpt"
    place = whole.index(weight) + 7
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    torch.load(path, weights_only=True)  # no word of it
    assert "the digest differs" in refusal(path)


@pytest.mark.parametrize("seed", range(3))
def test_mutations_with_a_right_digest_are_refused_or_harmless(good: Path, tmp_path: Path, seed: int) -> None:
    path, refused = tmp_path / "bad.ckpt", 0
    for mutated in mutated_members(good, 170, 1000 * seed):
        path.write_bytes(mutated)
        try:
            model = load_model(path)
        except CheckpointError as error:
            assert "\n" not in str(error)  # noqa: PT017 - others may be raised, or none
            refused += 1
        else:
            assert all(weight.isfinite().all() for weight in model.parameters())
    assert refused > 85


def test_changed_values_with_a_right_digest_are_refused_or_of_the_same_shapes(good: Path, tmp_path: Path) -> None:
    path, tree = tmp_path / "bad.ckpt", content()
    shapes = {name: weight.shape for name, weight in tree["state_dict"].items()}
    for _, changed in mutated_values({name: tree[name] for name in ("hyper_parameters", "state_dict")}, 300):
        rewritten(changed, path)
        try:
            model = load_model(path)
        except CheckpointError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert {name: weight.shape for name, weight in model.state_dict().items()} == shapes


def test_an_archive_that_lightning_wrote_is_read_and_its_checksums_hold(tmp_path: Path) -> None:
    path = tmp_path / "lightning.ckpt"
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", default_root_dir=tmp_path)
    trainer.strategy.connect(model := DenoisingAutoencoder(6, 2, GaussianNoise(0.0, 1.0)))
    trainer.save_checkpoint(path, weights_only=True)
    assert torch.equal(load_model(path).encoder.weight, model.encoder.weight)
    whole = path.read_bytes()
    place = whole.index(model.encoder.weight.detach().numpy().tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert "Bad CRC-32" in refusal(path)


# --- code ---------------------------------------------------------------------------------------------------


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("environment", [False, True])
def test_no_code_in_a_checkpoint_is_run_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: bool
) -> None:
    if environment:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    witness = tmp_path / "witness"
    path = rewritten(content() | {"callbacks": Payload(witness)}, tmp_path / "bad.ckpt")
    assert "names posix.mkdir" in refusal(path)
    with pytest.raises(CheckpointError, match="names posix.mkdir"):
        DenoisingAutoencoder.load_from_checkpoint(path, weights_only=False)
    assert not witness.exists()
    torch.load(path, weights_only=False)
    assert witness.exists()  # the payload is one


@pytest.mark.parametrize("key", ["_instantiator", "_class_path", "noise", "optim"])
def test_no_class_is_looked_up_by_a_path_from_a_file(tmp_path: Path, key: str) -> None:
    tree = content()
    tree["hyper_parameters"][key] = {"kind": "os.system", "class_path": "os.system"}
    assert f"hyper_parameters.{key}" in refusal(rewritten(tree, tmp_path / "bad.ckpt"))


# --- bombs --------------------------------------------------------------------------------------------------


def stored(pickled: bytes, **members: bytes) -> bytes:
    """A checkpoint of this pickle."""
    return sealed({"archive/data.pkl": pickled} | {f"archive/data/{name}": value for name, value in members.items()})


def tensor(shape: str, strides: str, size: int = 1) -> bytes:
    """The pickle of a tensor of `size` numbers, in the pickle's own language, protocol 0 where it reads better."""
    storage = pickle.dumps(("storage", torch.FloatStorage, "0", "cpu", size), 2)[2:-1]
    ends = [pickle.dumps(eval(text), 2)[2:-1] for text in (shape, strides)]
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"QK\0" + ends[0] + ends[1] + b"\x89)tR."
    return b"\x80\x02" + call


def nested(level: bytes, count: int) -> bytes:
    return b"\x80\x02)" + level * count + b"."


BOMBS: dict[str, Callable[[], bytes]] = {
    "bytearray of 10**12": lambda: stored(b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\0\0\0\0\0\x10\x85R."),
    "a string of 4 GB that is not there": lambda: stored(b"\x80\x02X\xff\xff\xff\xffabc."),
    "a memo of 2**31": lambda: stored(b"\x80\x02]r\xff\xff\xff\x7f."),
    "lists in lists": lambda: stored(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    "tuples in tuples": lambda: stored(nested(b"\x85", 100_000)),
    "tuples in tuples as a key": lambda: stored(b"\x80\x02})" + b"\x85" * 100_000 + b"Ns."),
    "ten lists of ten of ten": lambda: stored(
        b"\x80\x02]" + b"".join(b"q%c](" % n + b"h%c" % n * 10 + b"e" for n in range(15)) + b"."
    ),
    "a list in itself": lambda: stored(b"\x80\x02]q\0h\0a."),
    "keys that collide": lambda: stored(
        b"\x80\x02}("
        + b"".join(b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + b"N" for n in range(50_000))
        + b"u."
    ),
    "a million instructions thrice": lambda: stored(b"\x80\x02" + b"N" * 3_000_000 + b"."),
    "strides that make much of little": lambda: stored(tensor("(1_000_000, 1_000_000)", "(0, 0)"), **{"0": bytes(4)}),
    "numbers in another order": lambda: stored(tensor("(2, 2)", "(1, 2)", 4), **{"0": bytes(16)}),
    "a shape beyond its numbers": lambda: stored(tensor("(1_000_000,)", "(1,)"), **{"0": bytes(4)}),
    "numbers that are not there": lambda: stored(tensor("(100,)", "(1,)", 100), **{"0": bytes(4)}),
    "a negative shape": lambda: stored(tensor("(-1, -1)", "(-1, 1)"), **{"0": bytes(4)}),
    "numbers used a thousand times": lambda: stored(
        b"\x80\x02(" + tensor("(1000,)", "(1,)", 1000)[2:-1] * 1000 + b"l.", **{"0": bytes(4000)}
    ),
    "a packed archive": lambda: sealed({"archive/data.pkl": bytes(2**28)}, zipfile.ZIP_DEFLATED),
    "a hundred thousand members": lambda: sealed({f"archive/{n}": b"" for n in range(100_000)}),
    "no pickle": lambda: sealed({"archive/data/0": b""}),
    "two pickles": lambda: sealed({"a/data.pkl": b"\x80\x02N.", "b/data.pkl": b"\x80\x02N."}),
}


REASONS = {
    "bytearray of 10**12": "names builtins.bytearray",
    "tuples in tuples": "nested more than 20 deep",
    "ten lists of ten of ten": "values in too many places",
    "keys that collide": "the pickle instruction LONG1",
    "a million instructions thrice": "more than 2,097,152 pickle instructions",
    "strides that make much of little": "not dense",
    "numbers in another order": "not dense",
    "numbers that are not there": "whose numbers are not there",
    "a packed archive": "packed, which torch does not do",
    "a hundred thousand members": "more than 1,000 members",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_memory_and_time(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bomb.ckpt"
    path.write_bytes(BOMBS[name]())
    assert REASONS.get(name, "no checkpoint") in refusal_in_bounds(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("latent", 10**12), ("input_shape", [10**6, 10**6]), ("input_shape", [2] * 100_000), ("latent", 3.5)),
        *(("latent", 2**62), ("latent", True), ("seed", -1), ("input_shape", []), ("noise", [[[]]] * 100_000)),
        *(("input_scale", 0.0), ("input_scale", float("inf")), ("input_scale", True), ("input_scale", -1.0)),
    ],
)
def test_hyperparameters_are_checked_before_anything_is_built(tmp_path: Path, key: str, value: Any) -> None:
    tree = content()
    tree["hyper_parameters"][key] = value
    assert "no checkpoint of this model" in refusal_in_bounds(rewritten(tree, tmp_path / "bad.ckpt"))


weight = torch.zeros(3, 20)


@pytest.mark.parametrize(
    "tensor",
    [
        *(weight.double(), weight.long(), weight.T, weight[:, :19], weight + float("nan"), weight - float("inf")),
        *(weight.to_sparse(), torch.zeros(()).expand(3, 20), torch.zeros(20, 3).T, weight.to("meta"), weight.half()),
        *(torch.nn.Parameter(weight), [[0.0] * 20] * 3, None),
    ],
    ids=str(list(range(14))).strip("[]").split(", "),
)
def test_weights_are_dense_finite_float32_and_of_the_models_shape(tmp_path: Path, tensor: Any) -> None:
    tree = content()
    tree["state_dict"]["encoder.weight"] = tensor
    refusal(rewritten(tree, tmp_path / "bad.ckpt"))


# --- files --------------------------------------------------------------------------------------------------


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "enormous").touch()
    os.truncate(tmp_path / "enormous", MOST_BYTES + 1)  # a hole; it takes no room
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero"), Path("/dev/null")):
        assert "is no regular file" in refusal_in_bounds(path)
    assert f"{MOST_BYTES + 1:,} bytes, but {MOST_BYTES:,} can be read" in refusal_in_bounds(tmp_path / "enormous")
    assert "no such checkpoint" in refusal_in_bounds(tmp_path / "nowhere")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.ckpt", "file:///etc/passwd", "s3://bucket/a.ckpt"])
def test_a_url_is_not_fetched(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it was"))
    with pytest.raises(CheckpointError, match="URLs are not fetched"):
        DenoisingAutoencoder.load_from_checkpoint(url)


# --- and the good ones --------------------------------------------------------------------------------------

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(-(2**31), 2**31), inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
    ),
    max_leaves=30,
)


@given(plain)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_plain_values_come_back_as_they_were_and_as_torch_reads_them(tmp_path: Path, values: Any) -> None:
    path = rewritten(content() | {"values": values}, tmp_path / "good.ckpt")
    assert read_checkpoint(path)["values"] == values
    assert torch.load(path, weights_only=True)["values"] == values


def test_a_good_checkpoint_is_the_same_model_by_every_way(good: Path) -> None:
    theirs = torch.load(good, weights_only=True)["state_dict"]
    ours = read_checkpoint(good)["state_dict"]
    lightnings = DenoisingAutoencoder.load_from_checkpoint(str(good), noise=GaussianNoise(0.0, 9.0))
    assert lightnings.hparams["noise"]["sigma"] == 9
    for name, weight in theirs.items():
        assert torch.equal(weight, ours[name])
        assert torch.equal(weight, lightnings.state_dict()[name])
        assert torch.equal(weight, load_model(good).state_dict()[name])


def test_an_ordered_dict_is_a_dict(tmp_path: Path) -> None:
    tree = content()
    path = rewritten(tree | {"state_dict": OrderedDict(tree["state_dict"])}, tmp_path / "good.ckpt")
    assert list(read_checkpoint(path)["state_dict"]) == list(tree["state_dict"])
