"""`hydra/sweeper=search`, in the one place where Hydra 1.3 looks for it; dae_lightning/sweeps/search.py does the work.

Every command that uses Hydra imports this file, so it imports next to nothing.
"""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from dae_lightning.config import Search as Settings


class Search(Sweeper):
    def __init__(self, **settings: Any) -> None:
        """They are in the `config` that follows."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.given = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> None:
        from dae_lightning.sweeps.search import search  # and with it Optuna

        search(arguments, *self.given)


TARGET = f"{Search.__module__}.{Search.__qualname__}"
ConfigStore.instance().store("search", {"_target_": TARGET, **Settings().model_dump()}, "hydra/sweeper")
