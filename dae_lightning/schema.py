"""Types with ranges, kinds by name, and a check of plain values that answers in one line (pydantic)."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from inspect import signature
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)
from typing_extensions import Self

from dae_lightning.errors import ConfigError


def _whole(value: Any) -> Any:
    """1e3, as YAML writes it, is a whole number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]
NonNegative = Annotated[Finite, Field(ge=0)]
Positive = Annotated[Finite, Field(gt=0)]
Probability = Annotated[Finite, Field(ge=0, le=1)]
WHOLE = BeforeValidator(_whole)  # behind the bounds, or the JSON Schema would not have them
Count = Annotated[int, Field(strict=True, ge=1), WHOLE]
Size = Annotated[int, Field(strict=True, ge=0), WHOLE]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63), WHOLE]
List = Field(strict=False)  # of a tuple: YAML and checkpoints write lists


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

    @model_validator(mode="wrap")
    @classmethod
    def _chosen(cls, value: Any, handler: Callable[[Any], Self]) -> Self:
        """Where any kind of a group will do, a mapping becomes the one that it names."""
        if cls is not GROUPS[cls.group] or isinstance(value, cls):
            return handler(value)
        group, known = cls.group, ", ".join(KINDS[cls.group])
        if not isinstance(value, Mapping):
            raise ConfigError(f"{group}={value!s:.80}: must be a mapping whose kind is one of {known}")
        if (kind := str(value.get("kind"))) not in KINDS[group]:
            remedy = "plugins=[MODULE] registers one of your own"
            raise ConfigError(f"{group}.kind={kind:.80}: must be one of {known}; {remedy}")
        chosen: Self = check(KINDS[group][kind], dict(value), group)
        return chosen


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
            fields: dict[str, Any] = {"kind": (Literal[kind], ...)}
            for name, parameter in signature(implementation, eval_str=True).parameters.items():
                if name not in (*GIVEN, *GROUPS[group].model_fields):
                    annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
                    fields[name] = (annotation, ... if parameter.default is parameter.empty else parameter.default)
            create_model(implementation.__name__, __base__=GROUPS[group], **fields)
        return implementation

    return add


def make(group: str, settings: Kind | Mapping[str, Any], **given: Any) -> Any:
    """What the settings of a kind describe; it gets those of them, and of what is `given`, that it has parameters for.

    Raises:
        ConfigError: there is no such kind, or a setting is wrong.
    """
    values = check(GROUPS[group], settings, group).model_dump() | given
    implementation = IMPLEMENTATIONS[group][values["kind"]]
    return implementation(**{name: values[name] for name in signature(implementation).parameters if name in values})


def check(kind: Any, value: Any, key: str) -> Any:
    """`value` as a `kind`, which may be any type that pydantic knows: a mapping becomes an instance of a class.

    Raises:
        ConfigError: one line that names the key, the value and what would be right.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ConfigError(_one_line(error.errors(include_url=False), kind, value, key)) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that looks most like this one, as a question; or, where none does, all that are known.

    Of keys the part after the last dot may suffice: `lr` means `optim.lr`, and `epochs` `trainer.max_epochs`.
    """
    known = sorted(known)
    by_last = {one.split(".")[-1]: one for one in known}
    last = get_close_matches(name.split(".")[-1], by_last)
    close = get_close_matches(name, known) or [by_last[part] for part in last]
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def nearest_key(key: str, known: Iterable[str]) -> str:
    """The same of a command's keys, which are too many for one line."""
    found = nearest(key, known)
    return f"{found} (--help explains the keys)" if found.endswith("?") else "--help explains the keys"


def keys(schema: type[Settings], prefix: str = "") -> set[str]:
    """All dotted keys that a schema knows, those of every kind of a group included."""
    found: set[str] = set()
    for name, field in schema.model_fields.items():
        types = (field.annotation, *get_args(field.annotation))
        inner = [each for each in types if isinstance(each, type) and issubclass(each, Settings)]
        kinds = [kind for each in inner if issubclass(each, Kind) for kind in KINDS[each.group].values()]
        found |= {key for each in kinds or inner for key in keys(each, f"{prefix}{name}.")} or {prefix + name}
    return found


RIGHT = {  # what would be right, by pydantic's name of an error
    "int_type": "a whole number",
    "float_type": "a finite number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "none_required": "null",
    "literal_error": "one of {expected}",
    "greater_than_equal": "at least {ge:.10g}",
    "greater_than": "above {gt:.10g}",
    "less_than_equal": "at most {le:.10g}",
    "less_than": "below {lt:.10g}",
    "tuple_type": "a list",
    "too_short": "a list of {min_length} or more",
}


def _one_line(errors: list[Any], kind: Any, value: Any, key: str) -> str:
    """The gravest of pydantic's errors: an unknown key, then one that is missing, then a wrong value."""
    order = {"extra_forbidden": 0, "missing": 1}
    first = min(errors, key=lambda error: order.get(error["type"], 2))
    where = _dotted(first, value, key)
    if first["type"] == "missing":
        return f"{where}: missing"
    if first["type"] == "extra_forbidden":
        chosen = f" with {key}.kind={value['kind']!s:.80}" if key and "kind" in value else ""
        remedy = nearest(where, keys(kind, f"{key}.")) if key else nearest_key(where, keys(kind))
        return f"{where}={first['input']!s:.80}: no such key{chosen}; {remedy}"
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):  # ours: of a kind within, which is complete, or of several fields together
        return str(cause) if not where or str(cause).startswith(where) else f"{where}.{cause}"
    # every member of a union has an error of its own
    members = [error for error in errors if _dotted(error, value, key) == where]
    ways = dict.fromkeys(RIGHT.get(one["type"], "a list of values").format(**one.get("ctx", {})) for one in members)
    right = " or ".join(ways).replace("' or '", ", ").replace("'", "")
    return f"{where}={first['input']!s:.80}: must be {right}"


def _dotted(error: Any, value: Any, key: str) -> str:
    """The key of an error; pydantic's place names members of unions too."""
    for part in error["loc"]:
        if isinstance(value, Mapping) and (part in value or error["type"] == "missing"):
            key, value = f"{key}.{part}" if key else str(part), value.get(part)
        elif isinstance(value, (list, tuple)) and isinstance(part, int):
            key, value = f"{key}[{part}]", value[part] if part < len(value) else None
    return key
