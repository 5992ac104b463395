"""What the model's exchangeable parts, noise and network, have in common: a kind and plain parameters."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn
from typing_extensions import Self

from dae_lightning.errors import ConfigError
from dae_lightning.schema import KINDS, check, make


class Part(nn.Module):
    """A part of the model that a checkpoint can name: its `kind`, and parameters that are plain values.

    Each parameter becomes an attribute; those of a kind that the schema knows are checked.

    Raises:
        ConfigError: a parameter of the wrong type or out of range; the message names it.
    """

    group: ClassVar[str]
    kind: ClassVar[str]

    def __init__(self, **parameters: Any) -> None:
        super().__init__()
        if schema := KINDS[self.group].get(self.kind):
            parameters = check(schema, {"kind": self.kind} | parameters, "").model_dump(exclude={"kind"})
        self._parameter_names = tuple(parameters)
        for name, value in parameters.items():
            setattr(self, name, value)

    @classmethod
    def of(cls, part: "Self | Mapping[str, Any]", **given: Any) -> Self:
        """`part` itself, or what its settings describe, as in `{"kind": "gaussian", "mean": 0, "sigma": 2}`."""
        if isinstance(part, cls):
            return part
        if not isinstance(part, Mapping):
            raise ConfigError(f"{cls.group}={part!r:.80}: must be a {cls.__name__}, or its settings")
        made: Self = make(cls.group, part, **given)
        return made

    def settings(self) -> dict[str, Any]:
        """Plain values from which the part can be made again."""
        return {"kind": self.kind} | {name: getattr(self, name) for name in self._parameter_names}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.settings().items() if name != "kind")
