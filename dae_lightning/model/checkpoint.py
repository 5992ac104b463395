"""The file of a checkpoint: torch's zip archive with a SHA-256 digest of itself in the archive's comment.

`torch.load` reads it as it reads any other checkpoint, but would take a flipped byte in a tensor for the tensor's own.
The digest covers every byte before it.
"""

import hashlib
import io
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from typing_extensions import Self

from dae_lightning.errors import CheckpointError
from dae_lightning.files import replacing

MOST_BYTES = 2**31  # 170 million weights with Adam's two moments
_MARK = b"sha256:"
_SIZE = len(_MARK) + 64


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write plain values and tensors, whole or not at all.

    Raises:
        OSError: it could not be written; what was there before still is.
    """
    buffer = io.BytesIO()  # torch turns a full disk into an error of its own; a copy in memory is cheap
    torch.save(content, buffer)
    archive = buffer.getbuffer()
    with replacing(path) as file:
        file.writelines((archive, seal(archive)))


def seal(archive: memoryview) -> bytes:
    """The comment that belongs at the end of a zip archive, whose last two bytes are made to announce it."""
    archive[-2:] = _SIZE.to_bytes(2, "little")
    return _digest(archive)


def _digest(archive: memoryview) -> bytes:
    return _MARK + hashlib.sha256(archive).hexdigest().encode()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The values and tensors in a checkpoint, on the CPU, with `hyper_parameters` and `state_dict` among them.

    A file without a digest is read too: Lightning's own Trainer writes those.

    Raises:
        CheckpointError: there is no such file, or it is too large, damaged, or not a checkpoint of this project.
    """
    if not path.is_file():  # a pipe would be waited for
        reason = "is not a regular file" if path.exists() else "no such checkpoint (URLs are not fetched)"
        raise CheckpointError(f"{path}: {reason}")
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise CheckpointError(f"{path}: has {size:,} bytes; at most {MOST_BYTES:,} can be read")
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    digest = content[-_SIZE:]
    if digest.startswith(_MARK):
        if digest != _digest(memoryview(content)[:-_SIZE]):
            raise CheckpointError(f"{path}: damaged: the SHA-256 digest differs")
    elif content[-22:-18] != b"PK\5\6" or content[-2:] != b"\0\0":  # of an archive without a comment, the end
        raise CheckpointError(f"{path}: damaged, or not a checkpoint (not a whole zip archive)")
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of many types: torch's, zipfile's, pickle's
        # torch explains in paragraphs; the line that counts names what may not be called
        lines = str(error).splitlines() or [type(error).__name__]
        reason = next((line for line in lines if "GLOBAL" in line), lines[0]).strip()[:200]
        raise CheckpointError(f"{path}: cannot be loaded with weights_only=True ({reason})") from error
    parts = ("hyper_parameters", "state_dict")
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(part), dict) for part in parts):
        raise CheckpointError(f"{path}: not a checkpoint of a denoising autoencoder")
    checkpoint = _in_todays_words(checkpoint)
    if not isinstance(checkpoint["batches_seen"], int):
        raise CheckpointError(f"{path}: not a checkpoint of this model (batches_seen must be a whole number)")
    return checkpoint


def _in_todays_words(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Maps the names of version 0.1, which knew one network and counted steps in Lightning's place."""
    hyper_parameters, weights = checkpoint["hyper_parameters"], checkpoint["state_dict"]
    if "encoder.weight" in weights:
        hyper_parameters["network"] = {"kind": "dense", "input_scale": hyper_parameters.pop("input_scale", 1.0)}
        checkpoint["state_dict"] = {f"network.{name}": value for name, value in weights.items()}
    checkpoint.setdefault("batches_seen", checkpoint.get("global_step", 0))
    return checkpoint


class LoadedFromPlainValues(LightningModule):
    """A LightningModule whose checkpoints are files of plain values, read as such whatever `weights_only` says.

    (Lightning's own `load_from_checkpoint` would fetch URLs, and can call what a checkpoint names.)
    """

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # files only, to one device
        cls,
        checkpoint_path: str | PathLike[str],
        map_location: str | torch.device | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """The model of a checkpoint, on the CPU or on `map_location`; `kwargs` take the place of its arguments.

        Raises:
            CheckpointError: there is no such file, or it is damaged, or not a checkpoint of this project.
        """
        checkpoint = read_checkpoint(Path(checkpoint_path))
        try:
            model = cls(**checkpoint["hyper_parameters"] | kwargs)
            model.load_state_dict(checkpoint["state_dict"], strict=strict is not False)
        except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, MemoryError) as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{checkpoint_path}: not a checkpoint of this model ({reason})") from error
        return model.to(map_location or "cpu")
