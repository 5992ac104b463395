"""What each key means: the comment at its line in `conf/`, for `--help` and for docs/configuration.md."""

import re
from pathlib import Path
from textwrap import wrap

from dae_lightning.schema import KINDS

_LINE = re.compile(r"(?P<indent> *)(?:- |(?P<key>\w+):)?[^#]*(?:# ?(?P<comment>.*))?")
FOR_A_PROGRAM = ("@package ", "yaml-language-server:")  # comments that Hydra and editors read
_EXAMPLE = re.compile(r" +([\w.]+)=\S+")  # in a help template, a line that is to be explained


def comments(file: Path) -> tuple[str, dict[str, str]]:
    """The comment at the top of a file of `conf/`, and that of each key, by its dotted name.

    A comment goes on in the lines below it, where they hold no key and are indented.
    """
    top: list[str] = []
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []  # the keys that the line is within, and how far each is indented
    for line in file.read_text().partition("template:")[0].splitlines():
        match = _LINE.match(line)
        assert match is not None  # every part of it is optional
        indent, comment = len(match["indent"]), match["comment"]
        if match["key"]:
            above = [(column, key) for column, key in above if column < indent] + [(indent, match["key"])]
        if comment and not above:
            top.append(comment)
        elif comment and (match["key"] or indent):
            key = ".".join(name for _, name in above)
            found[key] = f"{found[key]} {comment}" if key in found else comment
    return " ".join(line for line in top if not line.startswith(FOR_A_PROGRAM)), found


def meanings(conf: Path, command: str) -> dict[str, str]:
    """Of each key of a command and of its groups; where only some choices have it, they are named."""
    _, found = comments(conf / f"{command}.yaml")
    for file in sorted(conf.glob("*/*.yaml")):
        for key, comment in comments(file)[1].items():
            found.setdefault(f"{file.parent.name}.{key}", comment + _only(file.parent.name, key))
    return found


def _only(group: str, key: str) -> str:
    kinds = KINDS.get(group, {})
    having = [kind for kind, settings in kinds.items() if key in settings.model_fields]
    return f" ({group}={', '.join(having)})" if len(having) < len(kinds) else ""


def explained(template: str, known: dict[str, str]) -> str:
    """A help template whose bare `key=example` lines are followed by what the key means."""
    lines = []
    for line in template.splitlines():
        example = _EXAMPLE.fullmatch(line)
        if example and example[1] in known:
            lines += wrap(f"{line:26}  {known[example[1]]}", 120, subsequent_indent=" " * 28, break_on_hyphens=False)
        else:
            lines.append(line)
    return "\n".join(lines)
