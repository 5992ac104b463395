"""A damaged or foreign checkpoint: one clear error, no code run, nothing fetched."""

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from dae_lightning import DenoisingAutoencoder, GaussianNoise
from dae_lightning.errors import CheckpointError
from dae_lightning.model.autoencoder import load_model
from dae_lightning.model.checkpoint import MOST_BYTES, read_checkpoint
from dae_lightning.training.checkpoints import AtomicCheckpointIO
from tests.faults.mutations import mutated_bytes, rewritten


def content() -> dict[str, Any]:
    """Of a small good checkpoint."""
    model = DenoisingAutoencoder((5, 4), 3, GaussianNoise(0.0, 2.0))
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    data = {"kind": "idx", "root": "/data", "seed": 0, "val_size": None}
    return {"hyper_parameters": dict(model.hparams), "state_dict": weights, "data": data, "epoch": 3}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rewritten(content(), tmp_path_factory.mktemp("good") / "good.ckpt")


MODELS = (load_model, DenoisingAutoencoder.load_from_checkpoint)
WAYS = (*MODELS, AtomicCheckpointIO().load_checkpoint)


def refusal(path: Path, ways: tuple[Callable[[Any], Any], ...] = WAYS) -> str:
    """Why a file is refused; in one line, by each way into this project."""
    for load in ways:
        with pytest.raises(CheckpointError, match=str(path)) as error:
            load(path)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 1000
    return str(error.value)


def test_five_hundred_mutations_of_the_file_are_refused(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.ckpt"
    for mutated in mutated_bytes(good.read_bytes(), 500):
        path.write_bytes(mutated)
        with pytest.raises(CheckpointError, match="damaged") as error:
            load_model(path)
        assert "\n" not in str(error.value)


def test_a_flipped_byte_in_a_tensor_that_torch_would_take_is_refused(good: Path, tmp_path: Path) -> None:
    whole = good.read_bytes()
    weight = torch.load(good, weights_only=True)["state_dict"]["network.encoder.weight"].numpy().tobytes()
    path = tmp_path / "bad.ckpt"
    place = whole.index(weight) + 7
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    torch.load(path, weights_only=True)  # no word of it
    assert "the SHA-256 digest differs" in refusal(path)


def test_an_archive_that_lightning_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "lightning.ckpt"
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", default_root_dir=tmp_path)
    trainer.strategy.connect(model := DenoisingAutoencoder(6, 2, GaussianNoise(0.0, 1.0)))
    trainer.save_checkpoint(path, weights_only=True)
    assert torch.equal(load_model(path).network.encoder.weight, model.network.encoder.weight)


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
    assert "mkdir" in refusal(path)
    with pytest.raises(CheckpointError, match="mkdir"):
        DenoisingAutoencoder.load_from_checkpoint(path, weights_only=False)
    assert not witness.exists()
    torch.load(path, weights_only=False)
    assert witness.exists()  # the payload is one


@pytest.mark.parametrize("key", ["_instantiator", "_class_path", "noise", "optim"])
def test_no_class_is_looked_up_by_a_path_from_a_file(tmp_path: Path, key: str) -> None:
    tree = content()
    tree["hyper_parameters"][key] = {"kind": "os.system", "class_path": "os.system"}
    assert key in refusal(rewritten(tree, tmp_path / "bad.ckpt"), MODELS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("latent", 10**12),
        ("latent", True),
        ("seed", -1),
        ("input_shape", []),
        ("network", {"kind": "dense", "input_scale": 0.0}),
        ("noise", [[]]),
    ],
)
def test_hyperparameters_out_of_range_are_refused(tmp_path: Path, key: str, value: Any) -> None:
    tree = content()
    tree["hyper_parameters"][key] = value
    path = rewritten(tree, tmp_path / "bad.ckpt")
    assert "not a checkpoint of this model" in refusal(path, MODELS)


@pytest.mark.parametrize(
    ("key", "value"),
    [("hyper_parameters", [1]), ("hyper_parameters", None), ("state_dict", "x"), ("batches_seen", "many")],
)
def test_parts_of_another_type_are_refused_by_every_way(tmp_path: Path, key: str, value: Any) -> None:
    assert "not a checkpoint of" in refusal(rewritten(content() | {key: value}, tmp_path / "bad.ckpt"))


def test_weights_of_another_shape_or_name_are_refused(tmp_path: Path) -> None:
    tree = content()
    tree["state_dict"]["network.encoder.weight"] = torch.zeros(3, 19)
    assert "encoder.weight" in refusal(rewritten(tree, tmp_path / "bad.ckpt"), MODELS)
    tree = content()
    tree["state_dict"]["another.weight"] = tree["state_dict"].pop("network.encoder.weight")
    assert "another.weight" in refusal(rewritten(tree, tmp_path / "bad.ckpt"), MODELS)


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "enormous").touch()
    os.truncate(tmp_path / "enormous", MOST_BYTES + 1)  # a hole; it takes no room
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero"), Path("/dev/null")):
        assert "is not a regular file" in refusal(path)
    assert f"{MOST_BYTES + 1:,} bytes; at most {MOST_BYTES:,} can be read" in refusal(tmp_path / "enormous")
    assert "no such checkpoint" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.ckpt", "file:///etc/passwd", "s3://bucket/a.ckpt"])
def test_a_url_is_not_fetched(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it was"))
    with pytest.raises(CheckpointError, match="URLs are not fetched"):
        DenoisingAutoencoder.load_from_checkpoint(url)


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
