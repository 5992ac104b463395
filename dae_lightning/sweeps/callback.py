"""What Hydra is told to call in a multirun: a line after each job, the summary at the end."""

import sys
import time
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dae_lightning.sweeps.jobs import tell
from dae_lightning.sweeps.summary import progress, summarize
from dae_lightning.sweeps.sweep import read_sweep


class Summary(Callback):
    """Silent in a single run; it travels to the launcher's processes, where jobs end. Nothing here fails a sweep."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._folder = Path(config.hydra.sweep.dir).absolute()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if self._folder is not None:
            try:
                line = progress(read_sweep(self._folder), True, time.time())
            except Exception as error:
                line = f"[sweep] how far is not known: {error}"
            tell(line, sys.stderr)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if self._folder is not None:
            try:
                summarize(self._folder, ended=True)
            except Exception as error:
                print(f"warning: no summary: {error}", file=sys.stderr, flush=True)
