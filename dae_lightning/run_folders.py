"""Where a checkpoint lies. Free of torch, so that a wrong path is answered at once."""

from pathlib import Path

from dae_lightning.errors import CheckpointError


def find_checkpoint(place: str | Path) -> Path:
    """The checkpoint that a user means: a file itself; of a run folder its best.ckpt, else its last.ckpt.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(place)
    if not path.is_dir():
        if not path.is_file():
            raise CheckpointError(f"checkpoint={place}: no such file or run folder")
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    raise CheckpointError(f"checkpoint={place}: no checkpoints/best.ckpt or last.ckpt in it")
