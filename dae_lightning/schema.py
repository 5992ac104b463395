"""Types with ranges, and a check of plain values against them that answers in one line.

A schema is a frozen dataclass whose fields carry `Annotated[type, Range]`, `Literal`, other schemas, or unions of
these. `check` is what stands between a user's values (YAML, command line, checkpoint) and everything else.
"""

import dataclasses
import difflib
import math
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from dae_lightning.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """Finite numbers from `low` to `high`; `ends` says whether these belong: "[]" both, "(]" only `high`, ..."""

    low: float = -math.inf
    high: float = math.inf
    ends: str = "[]"

    def __contains__(self, value: float) -> bool:
        inside = self.low <= value <= self.high and abs(value) != math.inf
        excluded = (value == self.low and self.ends[0] == "(") or (value == self.high and self.ends[1] == ")")
        return inside and not excluded

    def __str__(self) -> str:
        if math.isinf(self.low):
            return ""
        if math.isinf(self.high):
            return f" {'at least' if self.ends[0] == '[' else 'above'} {self.low:g}"
        return f" in {self.ends[0]}{self.low:.10g}, {self.high:.10g}{self.ends[1]}"


Finite = Annotated[float, Range()]
NonNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, ends="(]")]
Probability = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(1)]
Size = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0, 2**63 - 1)]


def check(kind: Any, value: Any, key: str) -> Any:
    """`value` as a `kind`: a dataclass becomes an instance, a whole float an int, a list a tuple.

    Raises:
        ConfigError: one line that names the key, the value and what would be right.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        number, allowed = _as_number(arguments[0], value), arguments[1]
        if number is None or number not in allowed:
            raise ConfigError(f"{key}={_brief(value)}: must be {_name(arguments[0])}{allowed}")
        return number
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{key}={_brief(value)}: must be one of {', '.join(map(str, arguments))}")
        return value
    if origin in (Union, types.UnionType):
        return _check_union(arguments, value, key)
    if origin is tuple and arguments[-1] is Ellipsis:
        if not isinstance(value, (list, tuple)) or not value:
            raise ConfigError(f"{key}={_brief(value)}: must be a list of one or more")
        return tuple(check(arguments[0], v, f"{key}[{i}]") for i, v in enumerate(value))
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or len(value) != len(arguments):
            raise ConfigError(f"{key}={_brief(value)}: must be a list of {len(arguments)} values")
        return tuple(check(k, v, f"{key}[{i}]") for i, (k, v) in enumerate(zip(arguments, value, strict=True)))
    if dataclasses.is_dataclass(kind):
        return _check_fields(typing.cast(type, kind), value, key)
    if kind is types.NoneType and value is None:
        return None
    if type(value) is kind:
        return value
    raise ConfigError(f"{key}={_brief(value)}: must be {_name(kind)}")


def nearest(key: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown key: the known one that looks most like it, or all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(key, known, 1, 0.6)
    # a key given without its group (`sigma`) means the one that ends so (`noise.sigma`)
    close = close or [name for name in known if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]][:1]
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def keys(kind: Any, prefix: str = "") -> set[str]:
    """All dotted keys that a schema knows, those of every alternative of a union included."""
    if typing.get_origin(kind) in (Union, types.UnionType):
        return {name for option in typing.get_args(kind) for name in keys(option, prefix)}
    if not dataclasses.is_dataclass(kind):
        return {prefix} if prefix else set()
    names = typing.get_type_hints(kind, include_extras=True)
    return {key for name, k in names.items() for key in keys(k, f"{prefix}.{name}" if prefix else name)}


def _as_number(kind: type, value: Any) -> Any:
    """`value` as an int or float; None where it is no such number (true and false are none)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if kind is int:
        return int(value) if isinstance(value, int) or value.is_integer() else None
    try:
        return float(value)
    except OverflowError:
        return None


def _check_union(options: tuple[Any, ...], value: Any, key: str) -> Any:
    """A union of schemas is told apart by `kind`; one of plain types takes the first that fits."""
    schemas = {typing.get_type_hints(o)["kind"].__args__[0]: o for o in options if dataclasses.is_dataclass(o)}
    if schemas:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key}={_brief(value)}: must be a mapping whose kind is one of {', '.join(schemas)}")
        if not isinstance(chosen := value.get("kind"), str) or chosen not in schemas:
            raise ConfigError(f"{key}.kind={_brief(chosen)}: must be one of {', '.join(schemas)}")
        return check(schemas[chosen], value, key)
    messages = []
    for option in options:
        try:
            return check(option, value, key)
        except ConfigError as error:  # noqa: PERF203 - a handful of alternatives
            messages.append(str(error).removeprefix(f"{key}={_brief(value)}: must be "))
    raise ConfigError(f"{key}={_brief(value)}: must be {' or '.join(messages)}")


def _check_fields(schema: type, value: Any, key: str) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}={_brief(value)}: must be a mapping of {', '.join(sorted(keys(schema)))}")
    hints = typing.get_type_hints(schema, include_extras=True)
    where = f"{key}." if key else ""
    for name in value:
        if name not in hints:
            known, shown = {where + hint for hint in hints} if where else keys(schema), f"{where}{_brief(name)}"
            chosen = f" with {where}kind={_brief(value['kind'])}" if where and "kind" in value else ""
            raise ConfigError(f"{shown}={_brief(value[name])}: no such key{chosen}; {nearest(shown, known)}")
    for field in dataclasses.fields(schema):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in value:
            raise ConfigError(f"{where}{field.name}: missing")
    checked = {name: check(hints[name], value[name], where + name) for name in value}
    try:
        return schema(**checked)
    except ConfigError as error:  # of `__post_init__`, for what no single field can tell
        raise ConfigError(f"{where}{error}") from None


def _brief(value: Any) -> str:
    """`value` as a part of one line: a checkpoint's may be of any length."""
    return str(value)[:80] if isinstance(value, (str, int, float)) else reprlib.repr(value)


def _name(kind: Any) -> str:
    names = {
        int: "a whole number",
        float: "a finite number",
        str: "text",
        bool: "true or false",
        types.NoneType: "null",
    }
    return names.get(kind, getattr(kind, "__name__", str(kind)))
