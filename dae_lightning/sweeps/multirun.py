"""What Hydra calls around a run and a sweep: the folder is held, and a sweep tells how far it is and how it ended."""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from dae_lightning import threads
from dae_lightning.cli.hydra_app import HELD
from dae_lightning.errors import UserError
from dae_lightning.files import making
from dae_lightning.locks import sole_use
from dae_lightning.signals import RELAY, SIGNALS, STOPPING
from dae_lightning.sweeps.run_jobs import tell
from dae_lightning.sweeps.summary import progress, summarize
from dae_lightning.sweeps.sweep import read_sweep


class Multirun(Callback):
    """`hydra.callbacks.multirun`. A launcher's processes, where jobs end, have a copy of it."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with suppress(OSError):  # Hydra meets it too, and reports it
            HELD.enter_context(making(Path(config.hydra.run.dir)))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hold the sweep's folder, and prepare for signals and for the launcher."""
        folder = Path(config.hydra.sweep.dir)
        try:
            HELD.enter_context(sole_use(folder))
        except UserError as error:
            sys.exit(f"error: {error}")  # Hydra would make a warning of it
        except OSError:
            return  # the sweeper meets it too, and reports it
        RELAY.sweep = folder
        (folder / STOPPING).unlink(missing_ok=True)
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        if not any(override.key_or_group == "data.root" and override.is_sweep_override() for override in overrides):
            # a long path that is the same for all tells nothing in the name of a job's folder
            config.hydra.overrides.hydra.insert(0, "hydra.job.config.override_dirname.exclude_keys=[data.root]")
        launcher = config.hydra.launcher
        if "submitit" not in launcher._target_:  # its jobs are not children of this process
            RELAY.listen(*SIGNALS)
        if not launcher._target_.endswith(".BasicLauncher"):
            threads.leave_the_number()
        if (number := os.environ.get("OMP_NUM_THREADS")) and "joblib" in launcher._target_:
            os.environ.setdefault("MKL_NUM_THREADS", number)  # joblib sets it, and torch prefers it to the other
        if launcher.get("batch_size") == "auto":  # after skipped jobs joblib would hand out long ones by the dozen
            launcher.batch_size = "1"

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Tell how far the sweep is, unless its end will."""
        if config.hydra.mode == RunMode.MULTIRUN:
            try:
                sweep = read_sweep(Path(config.hydra.sweep.dir).absolute())
                if sweep.of_plan and not sweep.to_run and all(job.status != "running" for job in sweep.jobs):
                    return
                line = progress(sweep, True, time.time())
            except Exception as error:
                line = f"[sweep] how far is not known: {error}"
            tell(line, sys.stderr)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            told = "submitit" not in config.hydra.launcher._target_  # of its jobs nothing is seen here
            summarize(Path(config.hydra.sweep.dir).absolute(), ended=True, told=told)
        except Exception as error:
            print(f"warning: no summary: {error}", file=sys.stderr, flush=True)
