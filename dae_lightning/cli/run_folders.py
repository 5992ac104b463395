"""Where a checkpoint lies. Free of torch, so that a wrong path is answered at once."""

import sys
from pathlib import Path

from dae_lightning.errors import CheckpointError
from dae_lightning.locks import is_held

LATEST = "latest"  # `checkpoint=latest`; a file or folder of that name is ./latest
OUTPUTS = Path("outputs")  # where conf/train.yaml puts runs and sweeps


def latest_run() -> str:
    """The run below `outputs/`, jobs of sweeps included, that wrote its best.ckpt or last.ckpt last; it may go on.

    Raises:
        CheckpointError: no run there has a checkpoint.
    """
    saved = [path for path in OUTPUTS.rglob("checkpoints/*.ckpt") if path.stem in ("best", "last")]
    if not saved:
        place = OUTPUTS.absolute()
        raise CheckpointError(f"checkpoint={LATEST}: no run with a checkpoint in {place}; dae-train starts one")
    folder = max(saved, key=lambda path: (path.stat().st_mtime_ns, path)).parent.parent
    print(f"checkpoint={LATEST}: {folder}{' (still training)' if is_held(folder) else ''}", file=sys.stderr)
    return str(folder)


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


def find_checkpoints(places: str | tuple[str, ...]) -> dict[str, Path]:
    """The same of one place or several, by what the user calls them."""
    return {place: find_checkpoint(place) for place in ((places,) if isinstance(places, str) else places)}


def find_run(place: str) -> tuple[Path, Path]:
    """The run folder and the checkpoint that a user means by a run folder (its last.ckpt) or a checkpoint in one.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(place).expanduser().absolute()
    checkpoint = path / "checkpoints" / "last.ckpt" if path.is_dir() else path
    if path.is_dir() and not _saved(path):
        raise CheckpointError(f"resume={place}: no checkpoints/last.ckpt in it")
    if not path.is_dir() and not path.is_file():
        raise CheckpointError(f"resume={place}: no such file")
    folder = checkpoint.parent.parent
    if not (folder / ".hydra" / "config.yaml").is_file():
        raise CheckpointError(f"resume={place}: not in a run folder (there is no .hydra/config.yaml in {folder})")
    return folder, checkpoint


def to_resume(resume: str | None, folder: Path) -> Path | None:
    """The checkpoint from which to resume the run in `folder`; None to start.

    Raises:
        CheckpointError: there is none where there has to be one.
    """
    if resume is None:
        if (folder / "checkpoints" / "last.ckpt").exists():
            raise CheckpointError(
                f"hydra.run.dir={folder}: holds a run; resume=auto resumes it, another folder starts a new one"
            )
        return None
    if resume not in ("last", "auto"):
        return find_run(resume)[1]
    if _saved(folder):
        return folder / "checkpoints" / "last.ckpt"
    if resume == "last":
        raise CheckpointError(
            f"resume=last: no checkpoint in {folder / 'checkpoints'}; name the run: resume=RUN_FOLDER"
        )
    return None


def _saved(folder: Path) -> bool:
    """Whether there is a checkpoint to resume from: where last.ckpt is lost, another (resume.newest_intact)."""
    return any((folder / "checkpoints").glob("*.ckpt"))
