"""JSON Schemas of `conf/*.yaml`, by which editors complete and check them: python -m dae_lightning.cli.schema [DIR]

It writes one for each command, and one for each config group's folder: beside the package's own files, or in DIR, which
holds a user's own choices (`--config-dir DIR`). A line at the top of each YAML file refers to its schema.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

from pydantic import TypeAdapter

from dae_lightning import config, schema
from dae_lightning.cli.hydra_app import CONF
from dae_lightning.files import replace_text

COMMANDS = {"train": config.Train, "denoise": config.Denoise, "evaluate": config.Evaluate, "export": config.Export}
ELSEWHERE = {"type": "string", "pattern": r"^(\?\?\?|.*\$\{.*\}.*)$"}  # a value that Hydra finds elsewhere


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each schema lies below `conf/`, and the schema. That of an experiment is train's."""
    for command, kind in COMMANDS.items():
        yield f"{command}.schema.json", of(kind)
    yield "trainer/schema.json", of(config.Trainer)
    for group, kinds in schema.KINDS.items():
        yield f"{group}/schema.json", of(Union[tuple(kinds.values())])  # noqa: UP007 - of a list


def of(kind: Any) -> dict[str, Any]:
    """What a YAML file with values of a `kind` may hold. It need not hold all: `defaults` bring the others."""
    found = TypeAdapter(kind).json_schema()
    definitions = found.setdefault("$defs", {})
    for group, common in schema.GROUPS.items():
        if common.__name__ in definitions:  # where a group stands, any of its kinds may
            definitions[common.__name__] = {"anyOf": [of(one) for one in schema.KINDS[group].values()]}
    for each in (found, *definitions.values()):
        each.pop("required", None)
        each.pop("description", None)  # a docstring, for programmers
        for name, value in each.get("properties", {}).items():
            each["properties"][name] = {"anyOf": [value, {"$ref": "#/$defs/Elsewhere"}]}
        if "properties" in each:
            each["properties"]["defaults"] = {"type": "array"}
    if kind in COMMANDS.values():
        found["properties"]["hydra"] = {"type": "object"}
    definitions["Elsewhere"] = ELSEWHERE
    return found


def main(folder: Path) -> None:
    for place, document in documents():
        if (folder / place).parent.is_dir():
            replace_text(folder / place, json.dumps(document, indent=1) + "\n")
            print(folder / place)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else CONF)
