"""Write docs/configuration.md from the schema and `conf/`, and docs/commands.md from `--help`.

python docs/reference.py
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dae_lightning import config, schema
from dae_lightning.cli.hydra_app import CONF
from dae_lightning.cli.meanings import comments

DOCS = Path(__file__).parent
SCHEMAS = {"train": config.Train, "evaluate": config.Evaluate, "denoise": config.Denoise, "export": config.Export}
GROUPS = {
    "data": "the images",
    "noise": "what is done to clean images",
    "network": "encoder and decoder",
    "optim": "the optimiser and its learning rate",
    "trainer": "where, and how long, to train",
    "logger": "where the scores of each epoch go besides `metrics.csv`",
    "callbacks": "whether the training may end early",
}
HYDRA = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")  # Hydra's own, with defaults of ours

WRITTEN = "<!-- Written by `python docs/reference.py`; do not edit. -->"
CONFIGURATION = f"""{WRITTEN}

# Configuration

Every key of every command: its type and range, its default, and what it means. On the command line a value is given as
`key=value`, a choice of a group as `group=choice`; what is wrong is refused in one line that says what would be right.
The defaults are the files in `conf/`; `--cfg job` prints the whole configuration that a command line makes.
"""
COMMANDS = f"""{WRITTEN}

# Commands

What each command prints for `--help`. [Configuration](configuration.md) explains every key.
"""


class Entry(NamedTuple):
    """What there is to say of a key, under one choice of its group or without one."""

    type: str
    default: str
    meaning: str


# --- docs/configuration.md ------------------------------------------------------------------------------------------


def configuration() -> str:
    parts = [CONFIGURATION]
    for command, settings in SCHEMAS.items():
        file = CONF / f"{command}.yaml"
        values, meanings = yaml.safe_load(file.read_text()), comments(file)[1]
        parts.append(f"## dae-{command}\n\nThe defaults are in `conf/{command}.yaml`.\n")
        known = described(settings) | dict.fromkeys(HYDRA, ("text", ""))
        parts += [
            section(key, {Entry(known[key][0], default(values, key), meaning): ()})
            for key, meaning in meanings.items()
            if key in known
        ]
        if command == "train":
            parts += [part for group in GROUPS for part in choices(group)]
            parts.append(recipes())
        elif "data" in settings.model_fields:
            parts.append(
                "### `data`\n\na choice of the [data](#group-data), with its keys; by default that of the training\n"
            )
    return "\n".join(parts)


def choices(group: str) -> Iterator[str]:
    """A group: a table of its choices, then each of its keys."""
    files = {file.stem: file for file in sorted((CONF / group).glob("*.yaml"))}
    yield f"## Group {group}\n\n`{group}=...` chooses {GROUPS[group]}:\n\n| choice | |\n| --- | --- |"
    yield "".join(f"| `{group}={choice}` | {comments(file)[0]} |\n" for choice, file in files.items())
    meanings: dict[str, str] = {}  # of the first choice that tells
    for file in files.values():
        meanings = comments(file)[1] | meanings
    keys: dict[str, dict[Entry, list[str]]] = {}
    for choice, file in files.items():
        for key, (kind, meaning) in described(schema.KINDS.get(group, {}).get(choice, config.Trainer)).items():
            said = comments(file)[1].get(key) or meanings.get(key) or meaning
            if key != "kind":
                entries = keys.setdefault(key, {})
                entries.setdefault(Entry(kind, default(with_base(file), key), said), []).append(f"{group}={choice}")
    for key, entries in keys.items():
        everywhere = len(entries) == 1 and len(next(iter(entries.values()))) == len(files)
        yield section(f"{group}.{key}", dict.fromkeys(entries, ()) if everywhere else entries)


def recipes() -> str:
    """The experiments and what each sets."""
    rows = []
    for file in sorted((CONF / "experiment").glob("*.yaml")):
        values = yaml.safe_load(file.read_text())
        chosen = {key.removeprefix("override /"): name for each in values.pop("defaults") for key, name in each.items()}
        sets = " ".join(f"`{key}={value}`" for key, value in [*chosen.items(), *flat(values)])
        rows.append(f"| `{file.stem}` | {comments(file)[0]} | {sets} |")
    head = "## Group experiment\n\n`experiment=...` is a recipe, which sets several keys:\n"
    return "\n".join([head, "| choice | | sets |", "| --- | --- | --- |", *rows]) + "\n"


def section(key: str, entries: dict[Entry, Any]) -> str:
    lines = [f"### `{key}`\n"]
    for entry, having in entries.items():
        where = ", ".join(f"`{choice}`" for choice in having) + ": " if having else ""
        lines.append(f"{where}{entry.meaning}\\\n*{entry.type}; {entry.default}*\n")
    return "\n".join(lines)


def described(settings: type[schema.Settings]) -> dict[str, tuple[str, str]]:
    """The type of each key, in words, and what the schema says of it."""
    whole = settings.model_json_schema()
    found = {}
    for key, value in whole["properties"].items():
        inner = whole["$defs"][value["$ref"].split("/")[-1]] if "$ref" in value else {}
        parts = {f"{key}.{name}": part for name, part in inner.get("properties", {}).items()} or {key: value}
        found |= {name: (in_words(part), part.get("description", "")) for name, part in parts.items()}
    return found


def in_words(kind: dict[str, Any]) -> str:
    """The JSON schema of a plain value as a person says it."""
    if "anyOf" in kind:
        return ", or ".join(map(in_words, kind["anyOf"]))
    if choices := kind.get("enum") or ([kind["const"]] if "const" in kind else None):
        return " or ".join(f"`{choice}`" for choice in choices)
    if kind.get("type") == "array":
        items = kind.get("prefixItems") or [kind["items"]]
        count = f"{kind['maxItems']}, " if "maxItems" in kind else ""
        return f"list ({count}each {in_words(items[0])})"
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true` or `false`"}
    limits = {"at least": ("minimum", "ge"), "above": ("exclusiveMinimum", "gt")}
    limits |= {"at most": ("maximum", "le"), "below": ("exclusiveMaximum", "lt")}
    ranges = [f"{word} {kind[name]:,}" for word, both in limits.items() for name in both if name in kind]
    right = " and ".join(ranges).replace(f"{2**63:,}", "2^63")
    return f"{names.get(kind.get('type', ''), '`null`')} {right}".strip()


def with_base(file: Path) -> dict[str, Any]:
    """The values in a file of a group, and in the one that it begins with."""
    values: dict[str, Any] = yaml.safe_load(file.read_text())
    for base in values.pop("defaults", []):
        values = with_base(file.with_name(f"{base}.yaml")) | values
    return values


def default(values: dict[str, Any], key: str) -> str:
    found = dict(flat(values)).get(key, "+")
    if found in ("+", "???"):
        return "to be given" if found == "???" else "not set: add it with a plus"
    return f"default `{found if isinstance(found, str) else json.dumps(found)}`"


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


# --- docs/commands.md -----------------------------------------------------------------------------------------------


def commands() -> str:
    parts = [COMMANDS]
    for command in re.findall(r'^dae-(\w+) = "', (DOCS.parent / "pyproject.toml").read_text(), re.MULTILINE):
        program = f"from dae_lightning.cli.main import {command}; {command}()"
        shown = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=True)
        parts.append(f"## dae-{command}\n\n```text\n{shown.stdout.strip()}\n```\n")
    return "\n".join(parts)


PAGES = {"configuration.md": configuration, "commands.md": commands}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
