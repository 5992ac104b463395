"""Paths on the command line. Hydra's grammar gives `=`, spaces and all but ASCII a meaning or none; in a path, each is
itself, and only what makes lists, sweeps and interpolations still does.
"""

import os
import re
import shlex
from pathlib import Path

PATHS = ("checkpoint", "images", "output", "resume", "data.root", "logger.root", "hydra.run.dir", "hydra.sweep.dir")
SPECIAL = set(",[]{}\\")


def with_paths_quoted(argument: str) -> str:
    """An argument of a command; a path gets Hydra's quotes unless it has them, or holds a special character."""
    key, _, value = argument.partition("=")
    if key.lstrip("+") in PATHS and value not in ("", "null") and value[0] not in "'\"" and not set(value) & SPECIAL:
        return f"{key}={quoted(os.path.expanduser(value))}"
    return argument


def pasteable(key: str, path: Path) -> str:
    """`key=path` as a shell, and then a command, reads it."""
    return shlex.quote(f"{key}={quoted(str(path)) if set(str(path)) & SPECIAL else path}")


def quoted(text: str) -> str:
    """A text as a value in Hydra's grammar, where a backslash only means something before a quote."""
    return "'" + re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text) + "'"
