"""What the model's exchangeable parts, noise and network, have in common: a kind and plain parameters."""

from typing import Any, ClassVar

from torch import nn

from dae_lightning.schema import KINDS, check


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

    def settings(self) -> dict[str, Any]:
        """Plain values from which the part can be made again."""
        return {"kind": self.kind} | {name: getattr(self, name) for name in self._parameter_names}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self._parameter_names)
