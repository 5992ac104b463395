"""Exported models: they compute what the checkpoint's model computes, or there is no file."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dae_lightning import DenoisingAutoencoder, config
from dae_lightning.errors import CheckpointError, ExportError
from dae_lightning.inference import export

USING = Path(__file__).parent.parent / "docs" / "using.md"
NOISE = {"kind": "gaussian", "mean": 0.25, "sigma": 6.0}


@pytest.fixture(params=["onnx", "torch"])
def format(request: pytest.FixtureRequest) -> str:
    if request.param == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    return str(request.param)


def make_model(shape: tuple[int, ...], input_scale: float = 1.0) -> DenoisingAutoencoder:
    model = DenoisingAutoencoder(shape, 5, NOISE, {"kind": "dense", "input_scale": input_scale})
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(2).add_(0.1)
    return model


def exported(model: DenoisingAutoencoder, path: Path, format: str, **more: Any) -> export.Function:
    """The network that `dae-export` leaves of a model at `path`."""
    checkpoint = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict(), **more}
    torch.save(checkpoint, path.with_suffix(".ckpt"))
    settings = config.Export(checkpoint=str(path.with_suffix(".ckpt")), format=format, output=str(path))  # type: ignore[arg-type]
    export.export_checkpoint(settings, Path(settings.checkpoint))
    return (export.from_onnx if format == "onnx" else export.from_program)(path.read_bytes())


@pytest.mark.parametrize("shape", [(6, 4), (3, 6, 4), (24,)])
def test_an_exported_model_computes_the_same_on_any_number_of_images(
    tmp_path: Path, format: str, shape: tuple[int, ...]
) -> None:
    model = make_model(shape, input_scale=0.1).train()  # the exported one is silent all the same
    network = exported(model, tmp_path / "model", format)
    model.eval()
    for count in (1, 2, 3, 100):
        images = torch.randn(count, *shape) * 6
        with torch.no_grad():
            torch.testing.assert_close(network(images), model(images), atol=1e-5, rtol=0)


def test_an_exported_model_says_what_it_is_and_not_where_it_was_made(tmp_path: Path, format: str) -> None:
    exported(make_model((6, 4)), tmp_path / "model", format)
    content = (tmp_path / "model").read_bytes()
    if format == "onnx":
        import onnx

        proto = onnx.load_from_string(content)
        known = {entry.key: entry.value for entry in proto.metadata_props}
        (axis, *sizes) = proto.graph.input[0].type.tensor_type.shape.dim
        assert axis.dim_param == "N"
        assert [size.dim_value for size in sizes] == [6, 4]
    else:
        extra = {"metadata.json": ""}
        torch.export.load(io.BytesIO(content), extra_files=extra)
        known = json.loads(extra["metadata.json"])
    assert json.loads(known["input_shape"]) == [6, 4]
    assert json.loads(known["noise"]) == NOISE
    assert json.loads(known["latent"]) == 5
    assert re.match(r"\d+\.\d+", known["dae_lightning"])
    for place in (str(Path(torch.__file__).parent), str(Path(export.__file__).parent), str(tmp_path)):
        assert place.encode() not in content


def test_a_model_that_disagrees_leaves_no_file_and_keeps_the_old_one(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model((6, 4))
    name = "from_onnx" if format == "onnx" else "from_program"
    load = getattr(export, name)
    monkeypatch.setattr(export, name, lambda content: lambda images: load(content)(images).clamp(0, 0.5))
    with pytest.raises(ExportError, match=r"^the exported model differs from the checkpoint's by .*; not written$"):
        exported(model, tmp_path / "model", format)
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]
    (tmp_path / "model").write_text("older")
    with pytest.raises(ExportError):
        exported(model, tmp_path / "model", format)
    assert (tmp_path / "model").read_text() == "older"


def test_a_difference_that_is_no_number_is_one() -> None:
    model = make_model((6, 4)).eval()
    with pytest.raises(ExportError, match="differs from the checkpoint's by nan"):
        export.largest_error(lambda images: model(images) * torch.nan, model)
    assert export.largest_error(lambda images: model(images) + 5e-6, model) < 1e-5


@pytest.mark.parametrize(("name", "suffix"), [("onnx", ".onnx"), ("torch", ".pt2")])
def test_the_file_lies_beside_the_checkpoint_unless_told_otherwise(
    tmp_path: Path,
    name: Any,
    suffix: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = make_model((6, 4))
    monkeypatch.setattr(export, "to_onnx", export.to_program)
    monkeypatch.setattr(export, "from_onnx", export.from_program)
    torch.save({"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}, tmp_path / "best.ckpt")
    export.export_checkpoint(config.Export(checkpoint="", format=name, output=None), tmp_path / "best.ckpt")
    assert (tmp_path / f"best{suffix}").is_file()
    assert re.match(r".*best\.\w+: agrees with the model to 0.0e\+00 on random images", capsys.readouterr().out)


def test_a_checkpoint_that_is_none_leaves_no_file(tmp_path: Path, format: Any) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"PK\3\4 no checkpoint")
    with pytest.raises(CheckpointError, match=r"a.ckpt: damaged, or not a checkpoint"):
        export.export_checkpoint(config.Export(checkpoint="", format=format, output=None), tmp_path / "a.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_weights_beyond_what_an_onnx_file_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(export, "ONNX_BYTES", 1000)
    with pytest.raises(ExportError, match=r"^format=onnx: weights of 1,076 bytes do not fit one file"):
        export.to_onnx(make_model((6, 4)))


def test_the_documented_lines_denoise_with_onnxruntime_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    model = make_model((6, 4))
    exported(model, tmp_path / "model.onnx", "onnx")
    noisy = np.random.default_rng(0).integers(0, 256, (6, 4), dtype=np.uint8)
    Image.fromarray(noisy).save(tmp_path / "noisy.png")
    blocks = re.findall(r"```python\n(.*?)```", USING.read_text(), re.DOTALL)
    (lines,) = (block for block in blocks if "onnxruntime" in block)
    assert "torch" not in lines
    assert "dae_lightning" not in lines
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(noisy)[None].float() / 255)[0] * 255
    with Image.open("denoised.png") as image:
        np.testing.assert_allclose(np.array(image), expected.numpy(), atol=0.51, rtol=0)
