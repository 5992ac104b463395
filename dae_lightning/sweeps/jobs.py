"""A job of a multirun as its folder's job.json records it.

overrides   what the sweep sets in this job
config      its settings, whole; null where they were not valid
status      running, finished, pruned, failed or interrupted; a "running" one whose `.lock` nobody holds was killed
error       null or one line
value       what the sweeper gets from a finished one; of a pruned one its best score so far
trials      of a search: the numbers of the trials that it answers
diverged    whether it failed because its loss or its weights were not finite
started     Unix time
seconds     from there to its end; null while it runs
"""

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from dae_lightning.errors import CheckpointError
from dae_lightning.files import replace_text

RECORD = "job.json"  # marks a folder as a job's
STATUSES = ("finished", "pruned", "diverged", "failed", "interrupted", "running", "unreadable")
WITHOUT_EFFECT = (
    "resume",
    "checkpoint",
    "figures",
    "steps_per_execution",
    "cuda_graph",
    "trainer.enable_progress_bar",
)  # settings on which no result depends
# what came with a later version: what it was before
BEFORE = {"callbacks": {"kind": "none"}, "loss": "bce", "network.negative_slope": 0.3, "noise.clip": False}


@dataclass(frozen=True, eq=False)
class Job:
    """One job. `scores` come from a finished one's results.json; None where a number is not defined or not finite."""

    folder: Path
    overrides: list[str] | None  # None of an unreadable one
    config: dict[str, Any] | None
    status: str = "running"
    error: str | None = None
    value: float | None = None
    trials: list[int] = field(default_factory=list)
    diverged: bool = False
    started: float = field(default_factory=time.time)
    seconds: float | None = None
    scores: Mapping[str, float | None] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Job | None":
        """The job of a folder; None if there never was one. If it cannot be read, its status and `error` say so."""
        try:
            record = json.loads((folder / RECORD).read_bytes())
            if record["status"] not in STATUSES or not isinstance(record["overrides"], list):
                raise ValueError(f"status {record['status']}, overrides {record['overrides']}")
            known = {name: record[name] for name in ("overrides", "config", "status", "error", "seconds")}
            later = {name: record[name] for name in ("value", "trials", "diverged") if name in record}
            return cls(folder, **known, **later, started=float(record["started"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, LookupError) as error:
            return cls(folder, None, None, started=0.0).unreadable(RECORD, error)

    def write(self) -> None:
        record = asdict(self)
        del record["folder"], record["scores"]
        replace_text(self.folder / RECORD, json.dumps(record, indent=2) + "\n")

    def ended(self, status: str, error: str | None = None, value: float | None = None) -> "Job":
        """The job as it is now that it has ended; a value that is not finite is left out."""
        value = value if value is not None and math.isfinite(value) else None
        return replace(self, status=status, error=error, value=value, seconds=time.time() - self.started)

    def unreadable(self, name: str, error: Exception) -> "Job":
        """The job, with the file that cannot be read."""
        reason = error.strerror if isinstance(error, OSError) else " ".join(f"{type(error).__name__}: {error}".split())
        return replace(self, status="unreadable", error=f"{name}: {reason}", scores={})

    def written_since(self, began: float) -> bool:
        """Whether the sweep that began then has run it, skipped it as finished, or found its settings invalid."""
        return (self.folder / RECORD).stat().st_mtime >= began

    @cached_property
    def said(self) -> dict[str, str]:
        """Its overrides by key."""
        return by_key(self.overrides or [])

    def get(self, key: str) -> str:
        """Its value for a key, whether its overrides name it or not; "" where it has none."""
        if key in self.said:
            return self.said[key]
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        value = value.get("kind") if isinstance(value, dict) else value
        return "" if value is None else plain(value)


def folder_of(config: dict[str, Any], named: Path, sweep: Path) -> Path:
    """The folder of the job with these settings: the one so named, or where a grid with other names has it.

    Raises:
        CheckpointError: the one so named holds another job.
    """
    here = Job.read(named)
    for job in (here, *map(Job.read, sorted(path.parent for path in sweep.glob(f"*/{RECORD}")))):
        if job is not None and not differing(job.config, config):
            return job.folder
    if here is not None and here.status == "unreadable":
        raise CheckpointError(f"{named / RECORD}: cannot be read; delete the folder to run the job again")
    if here is not None and here.config is not None:
        keys = ", ".join(differing(here.config, config))
        raise CheckpointError(f"{named}: holds a job with another {keys}; another hydra.sweep.dir starts a new sweep")
    if (named / "checkpoints" / "last.ckpt").exists():
        raise CheckpointError(
            f"{named}: holds a run that is no job of a sweep; another hydra.sweep.dir starts a new sweep"
        )
    return named


def differing(recorded: Any, config: Any, key: str = "") -> list[str]:
    """The keys of settings that differ, except those on which no result depends."""
    if key in WITHOUT_EFFECT:
        return []
    if isinstance(recorded, dict) and isinstance(config, dict):
        within = f"{key}." if key else ""
        names = sorted(recorded.keys() | config.keys())
        return [one for name in names for one in differing(recorded.get(name), config.get(name), within + name)]
    return [] if recorded == config or (recorded is None and key in BEFORE and config == BEFORE[key]) else [key]


def by_key(overrides: Iterable[str]) -> dict[str, str]:
    """Hydra's `key=value`s as a mapping; a plus, which only says that the key is new, is left out."""
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    return {key: plain(value) for key, _, value in pairs if key.split(".")[0] != "hydra"}


def plain(value: object) -> str:
    """A value as one text, however it was written: the same of 2, 2.0 and 2e0, of 1e-3 and 0.001, and of a and 'a'."""
    if value is None or isinstance(value, bool):
        return str(value).replace("None", "null").lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(plain, value))}]"
    found = number(text := str(value).strip())
    if found is None:
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "'" else text
    return f"{found:.0f}" if found.is_integer() and abs(found) < 1e15 else repr(found)


def duration(seconds: float) -> str:
    """As in 8.1 s, 4:05 or 1:02:03."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    return str(timedelta(seconds=round(seconds))).removeprefix("0:").removeprefix("0")


def number(text: str) -> float | None:
    """The finite number that a value is."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
