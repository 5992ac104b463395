"""Types with ranges, kinds by name, and a check of plain values that answers in one line (pydantic)."""

import difflib
import reprlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from inspect import Parameter, isclass, signature
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from dae_lightning.errors import ConfigError


def _whole(value: Any) -> Any:
    """1e3, as YAML writes it, is a whole number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Finite = Annotated[float, Field(allow_inf_nan=False)]
NonNegative = Annotated[Finite, Field(ge=0)]
Positive = Annotated[Finite, Field(gt=0)]
Probability = Annotated[Finite, Field(ge=0, le=1)]
Count = Annotated[int, BeforeValidator(_whole), Field(ge=1)]
Size = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Seed = Annotated[int, BeforeValidator(_whole), Field(ge=0, lt=2**63)]
List = BeforeValidator(_tuple)  # of a tuple: YAML and checkpoints write lists


class Settings(BaseModel):
    """Settings by name: no other names, no conversion between text, numbers and truth values."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Kind(Settings):
    """One choice of a config group: its `kind`, and the parameters that it takes.

    A class that derives from this names a `group`; the ones that derive from that, with one `kind` or several, are its
    choices.
    """

    kind: str
    group: ClassVar[str]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        if names := get_args(cls.model_fields["kind"].annotation):
            KINDS[cls.group] |= dict.fromkeys(names, cls)
        else:
            GROUPS[cls.group], KINDS[cls.group] = cls, {}


GROUPS: dict[str, type[Kind]] = {}  # group -> what its kinds have in common
KINDS: dict[str, dict[str, type[Kind]]] = {}  # group -> kind -> its parameters and their types, declared once
IMPLEMENTATIONS: dict[str, dict[str, Callable[..., Any]]] = {}  # group -> kind -> what is made of it
GIVEN = ("input_shape", "latent", "seed")  # parameters that are not a kind's own: the model gives them

Implementation = TypeVar("Implementation", bound=Callable[..., Any])


def register(group: str, kind: str) -> Callable[[Implementation], Implementation]:
    """A decorator: the class or function is what `kind` names in `group`.

    Where the schema does not know the kind, as with one of a user's own, its parameters, their types and defaults are
    those of the signature.
    """

    def add(implementation: Implementation) -> Implementation:
        IMPLEMENTATIONS.setdefault(group, {})[kind] = implementation
        if kind not in KINDS[group]:
            types = get_type_hints(_constructor(implementation), include_extras=True)
            fields: dict[str, Any] = {"kind": (Literal[kind], ...)}
            for name, parameter in signature(implementation).parameters.items():
                if name not in (*GIVEN, *GROUPS[group].model_fields):
                    default = ... if parameter.default is Parameter.empty else parameter.default
                    fields[name] = (types.get(name, Any), default)
            create_model(implementation.__name__, __base__=GROUPS[group], **fields)
        return implementation

    return add


def _constructor(implementation: Any) -> Any:
    return implementation.__init__ if isclass(implementation) else implementation


def make(group: str, settings: Kind | Mapping[str, Any], **given: Any) -> Any:
    """What the settings of a kind describe; it gets those of them, and of what is `given`, that it has parameters for.

    Raises:
        ConfigError: there is no such kind, or a setting is wrong.
    """
    values = check(Annotated[GROUPS[group], kind_of(group)], settings, group).model_dump() | given
    implementation = IMPLEMENTATIONS[group][values["kind"]]
    return implementation(**{name: values[name] for name in signature(implementation).parameters if name in values})


def kind_of(group: str) -> BeforeValidator:
    """Turns a mapping into the settings of the kind that it names."""

    def choose(value: Any) -> Any:
        if isinstance(value, Kind) or value is None:
            return value
        known = ", ".join(KINDS[group])
        if not isinstance(value, Mapping):
            raise ConfigError(f"{group}={_brief(value)}: must be a mapping whose kind is one of {known}")
        kind = value.get("kind")
        if not isinstance(kind, str) or kind not in KINDS[group]:
            raise ConfigError(
                f"{group}.kind={_brief(kind)}: must be one of {known}; plugins=[MODULE] registers one of your own"
            )
        return check(KINDS[group][kind], dict(value), group)

    return BeforeValidator(choose)


def check(kind: Any, value: Any, key: str) -> Any:
    """`value` as a `kind`, which may be any type that pydantic knows: a mapping becomes an instance of a class.

    Raises:
        ConfigError: one line that names the key, the value and what would be right.
    """
    try:
        return _adapter(kind).validate_python(value, strict=None if _is_schema(kind) else True)
    except ValidationError as error:
        raise ConfigError(_one_line(error.errors(include_url=False), kind, value, key)) from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that looks most like this one, as a question; or, where none does, all that are known.

    Of keys the part after the last dot may suffice: `sigma` means `noise.sigma`, and `epochs` `trainer.max_epochs`.
    """
    known = sorted(known)
    likeness = {one: max(_likeness(name, one), _likeness(_last(name), _last(one))) for one in known}
    best = max(known, key=lambda one: (likeness[one], _likeness(name, one)))
    return f"did you mean {best}?" if likeness[best] >= 0.6 else f"known: {', '.join(known)}"


def nearest_key(key: str, known: Iterable[str]) -> str:
    """The same of a command's keys, which are too many for one line."""
    found = nearest(key, known)
    return f"{found} (--help explains the keys)" if found.endswith("?") else "--help explains the keys"


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _last(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def keys(schema: type[Settings], prefix: str = "") -> set[str]:
    """All dotted keys that a schema knows, those of every kind of a group included."""
    found: set[str] = set()
    for name, field in schema.model_fields.items():
        inner = [*KINDS.get(name, {}).values()] if not prefix else []
        inner += [t for t in (field.annotation, *get_args(field.annotation)) if _is_schema(t) and t is not Kind]
        found |= {key for each in inner for key in keys(each, f"{prefix}{name}.")} or {prefix + name}
    return found


def _is_schema(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "int_type": lambda ctx: "a whole number",
    "float_type": lambda ctx: "a finite number",
    "finite_number": lambda ctx: "a finite number",
    "string_type": lambda ctx: "text",
    "bool_type": lambda ctx: "true or false",
    "none_required": lambda ctx: "null",
    "literal_error": lambda ctx: f"one of {str(ctx['expected']).replace(' or ', ', ').replace(chr(39), '')}",
    "greater_than_equal": lambda ctx: f"at least {ctx['ge']:.10g}",
    "greater_than": lambda ctx: f"above {ctx['gt']:.10g}",
    "less_than_equal": lambda ctx: f"at most {ctx['le']:.10g}",
    "less_than": lambda ctx: f"below {ctx['lt']:.10g}",
    "tuple_type": lambda ctx: "a list",
    "too_short": lambda ctx: f"a list of {ctx['min_length']} or more",
}


def _one_line(errors: list[Any], kind: Any, value: Any, key: str) -> str:
    """The gravest of pydantic's errors: an unknown key, then one that is missing, then a wrong value."""
    order = {"extra_forbidden": 0, "missing": 1}
    first = min(errors, key=lambda error: order.get(error["type"], 2))
    where = _dotted(first, value, key)
    if first["type"] == "missing":
        return f"{where}: missing"
    if first["type"] == "extra_forbidden":
        if not key:
            return f"{where}={_brief(first['input'])}: no such key; {nearest_key(where, keys(kind))}"
        chosen = f" with {key}.kind={_brief(value['kind'])}" if "kind" in value else ""
        known = nearest(where, (f"{key}.{name}" for name in kind.model_fields))
        return f"{where}={_brief(first['input'])}: no such key{chosen}; {known}"
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):  # ours: of a kind within, which is complete, or of several fields together
        return str(cause) if not where or str(cause).startswith(where) else f"{where}.{cause}"
    # every member of a union has an error of its own
    ways = [error for error in errors if _dotted(error, value, key) == where]
    right = dict.fromkeys(WORDS.get(e["type"], lambda ctx: "a list of values")(e.get("ctx", {})) for e in ways)
    return f"{where}={_brief(first['input'])}: must be {' or '.join(right)}"


def _dotted(error: Any, value: Any, key: str) -> str:
    """The key of an error; pydantic's place names members of unions too."""
    for part in error["loc"]:
        if isinstance(value, Mapping) and (part in value or error["type"] == "missing"):
            key, value = f"{key}.{part}" if key else str(part), value.get(part)
        elif isinstance(value, (list, tuple)) and isinstance(part, int):
            key, value = f"{key}[{part}]", value[part] if part < len(value) else None
    return key


def _brief(value: Any) -> str:
    """`value` as a part of one line: a checkpoint's may be of any length."""
    return str(value)[:80] if isinstance(value, (str, int, float)) else reprlib.repr(value)
