"""Kinds of noise, network and data of a user's own: modules that the command line names with `plugins=[...]`."""

import importlib
import os
import sys
from collections.abc import Iterable

from hydra.core.config_store import ConfigStore

import dae_lightning.kinds  # noqa: F401  # declares the kinds that are shipped
from dae_lightning.errors import ConfigError
from dae_lightning.schema import KINDS

SHIPPED = {group: set(kinds) for group, kinds in KINDS.items()}


def named_in(arguments: Iterable[str]) -> list[str]:
    """The modules in `plugins=a` or `plugins=[a,b]` on a command line, before Hydra reads it."""
    said = [argument.partition("=")[2] for argument in arguments if argument.startswith("plugins=")]
    return [name for name in (said[-1] if said else "").strip("[]").split(",") if name]


def load(modules: Iterable[str]) -> None:
    """Import modules, the current directory on the path, and offer Hydra the kinds that they register.

    Raises:
        ConfigError: a module cannot be imported.
    """
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: PERF203 - whatever is wrong in a user's module
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(f"plugins={name}: cannot be imported ({reason})") from error
    for group, kinds in KINDS.items():
        for kind in kinds.keys() - SHIPPED.get(group, set()):
            fields = kinds[kind].model_fields.items()
            defaults = {name: "???" if field.is_required() else field.default for name, field in fields}
            ConfigStore.instance().store(group=group, name=kind, node=defaults | {"kind": kind})
