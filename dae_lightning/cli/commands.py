"""The five commands. Each checks what it can before it imports torch, which takes seconds."""

import math
import os
import sys
import traceback
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dae_lightning import config, plugins
from dae_lightning.cli import checks, hydra_app
from dae_lightning.cli.arguments import pasteable
from dae_lightning.cli.hydra_app import checked, one_line, one_line_errors, settings_from_command_line
from dae_lightning.cli.run_folders import find_checkpoint, find_checkpoints, to_resume
from dae_lightning.errors import ConfigError, LostRankError, UserError, escape_on_stdout, printable
from dae_lightning.files import replace_text
from dae_lightning.locks import sole_use
from dae_lightning.signals import RELAY, STOP, Interrupted, stopping_at_once
from dae_lightning.sweeps import run_jobs, summary
from dae_lightning.sweeps.jobs import Job, folder_of
from dae_lightning.sweeps.sweep import read_sweep
from dae_lightning.training.ranks import Rank, launch


def train() -> None:
    """`dae-train`, `python train.py`."""
    with one_line_errors(config.Train):
        hydra_app.show_help_if_asked("train")
        if run := hydra_app.run_to_resume():
            _train(*run)
            return
        if hydra_app.multirun_asked_for():
            checks.check_sweep(sys.argv[1:], hydra_app.CONF)
        try:
            hydra.main(version_base="1.3", config_path=str(hydra_app.CONF), config_name="train")(_run_or_job)()
            RELAY.raise_if_received()
        finally:
            run_jobs.HELD.close()
        if RELAY.sweep and (failures := _failures(RELAY.sweep)):
            sys.exit("\n  ".join([f"error: {len(failures)} of the jobs failed", *failures]))


def _run_or_job(cfg: DictConfig) -> float:
    """What Hydra calls: a run, or one job of a multirun, where a failure stops no other job."""
    hydra_config = HydraConfig.get()
    folder, several = Path(hydra_config.runtime.output_dir), hydra_config.mode == RunMode.MULTIRUN
    try:
        return _job(cfg, folder) if several else _train(cfg, folder)
    except (Exception, SystemExit, Interrupted) as error:
        with suppress(OSError):  # a job's folder that holds nothing
            folder.rmdir()
        if not several and isinstance(error, (UserError, OSError)):  # or Hydra prints a line of its own
            sys.exit(f"error: {one_line(error, config.Train)}")
        # Ctrl-C ends the sweep, but no worker at once, while other jobs save; submitit exits to requeue a job
        if not several or isinstance(error, SystemExit if run_jobs.side_by_side() else Interrupted):
            raise
        if not (isinstance(error, Interrupted) and error.signum == STOP):  # which the sweep's own process reports
            if isinstance(error, Exception) and not isinstance(error, UserError):
                traceback.print_exception(error)
            reason = f"exited with status {error.code}" if isinstance(error, SystemExit) else None
            reason = reason or one_line(error, config.Train)
            print(f"error: {hydra_config.sweep.subdir}: {reason}", file=sys.stderr, flush=True)
        return math.nan  # raised, the error would keep Hydra from the callbacks at the end of the sweep


def _failures(folder: Path) -> list[str]:
    """A line for each planned job of a sweep that is not finished, or was refused the folder it is in."""
    sweep = read_sweep(folder)
    # only Hydra's own sweeper leaves a plan; of another's jobs, those count that this command has started
    planned = sweep.of_plan() or [job for job in sweep.jobs if job.written_since(sweep.began)]
    met = [job if job is not None and job.written_since(sweep.began) else None for job in planned]
    return [
        f"{job.folder.name}: {job.error or job.status}" if job else "one did not start, for the reason given above"
        for job in met
        if job is None or job.status != "finished"
    ]


def _train(cfg: DictConfig, folder: Path) -> float:
    """Train a single run in its folder, in this process or in ranks that it starts."""
    _make_absolute(cfg)
    settings = checked(cfg, config.Train)
    checks.check_start(settings.trainer)
    try:
        if settings.trainer.strategy is None or Rank.of_this_process() is not None:
            return _rank(cfg, settings, folder)
        with sole_use(folder):  # refuse at once what the first rank, which will hold the folder, would refuse
            to_resume(settings.resume, folder)
        return launch(settings.trainer.ranks, _rank, cfg, settings, folder)
    except (Interrupted, LostRankError) as stop:
        if not (folder / "checkpoints" / "last.ckpt").exists():
            raise
        if isinstance(stop, LostRankError):
            raise LostRankError(f"{stop}; continue with {pasteable('resume', folder)}") from None
        raise Interrupted(stop.signum, f"; everything is saved, continue with {pasteable('resume', folder)}") from None


def _rank(cfg: DictConfig, settings: config.Train, folder: Path) -> float:
    """Train in this process, alone or as one of several ranks, of which the first holds the folder."""
    if checks.check_start(settings.trainer) > 0:
        from dae_lightning.training import run as training

        return training.train(settings, folder)
    with sole_use(folder):
        return _fit(cfg, settings, folder, to_resume(settings.resume, folder))


def _job(cfg: DictConfig, folder: Path) -> float:
    """One job of a multirun."""
    _make_absolute(cfg)
    overrides, told = list(HydraConfig.get().overrides.task), partial(one_line, kind=config.Train)
    try:
        settings = checked(cfg, config.Train)
        checks.check_start(settings.trainer)
    except (ConfigError, OmegaConfBaseException) as error:
        if (job := Job.read(folder)) is None or job.config is None:  # else the folder holds a job with valid settings
            Job(folder, overrides, None).ended("failed", told(error)).write()
        raise
    place = folder_of(_plain(cfg), folder, Path(HydraConfig.get().sweep.dir))
    if place != folder:
        with suppress(OSError):  # Hydra has made it
            folder.rmdir()
    job = Job(place, overrides, _plain(cfg))
    return run_jobs.run(job, partial(_prepare, settings), partial(_fit, cfg, settings), told)


def _make_absolute(cfg: DictConfig) -> None:
    """Let the run be resumed from any directory."""
    if cfg.data.get("root"):
        cfg.data.root = os.path.abspath(os.path.expanduser(cfg.data.root))


def _prepare(settings: config.Train) -> None:
    """What takes time and is the same for every job."""
    from dae_lightning.data.sources import load_ahead
    from dae_lightning.training import run as training  # noqa: F401

    load_ahead(settings.data)


def _fit(cfg: DictConfig, settings: config.Train, folder: Path, checkpoint: Path | None) -> float:
    """Train in a folder that this process holds, from a checkpoint if there is one."""
    from dae_lightning.training import resume as resuming
    from dae_lightning.training import run as training

    files: dict[str, Any] = {"config": _plain(cfg)}
    if checkpoint is None:
        files |= {"hydra": HydraConfig.instance().cfg, "overrides": list(HydraConfig.get().overrides.task)}
    elif not Path(settings.resume or "").is_file():  # a named file is resumed, or none
        checkpoint = resuming.newest_intact(checkpoint)
    return training.train(settings, folder, checkpoint, cache(lambda: _record(folder, files)))  # once


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """A run's settings as they are recorded."""
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()} | {"resume": None}


def _record(folder: Path, files: dict[str, Any]) -> None:
    """Write files in `.hydra/`, from which a run is resumed, with the first checkpoint: before it there is none.

    (Hydra would write them before the settings are checked and the folder is known to be free, and unresolved.)
    """
    for name, values in files.items():
        replace_text(folder / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(values))


def denoise() -> None:
    """`dae-denoise`."""
    with one_line_errors(config.Denoise):
        settings = settings_from_command_line("denoise", config.Denoise)
        if settings.sigma is not None and not settings.corrupt:
            raise ConfigError(f"sigma={settings.sigma:g}: is of the noise that corrupt=true adds; give both")
        checkpoint = find_checkpoint(settings.checkpoint)

        from dae_lightning.inference import files

        files.denoise(settings, checkpoint, files.find_images(settings.images, settings.output))


def export() -> None:
    """`dae-export`."""
    with one_line_errors(config.Export):
        settings = settings_from_command_line("export", config.Export)
        if settings.format == "onnx":
            checks.require("export", "format=onnx", "onnx", "onnxscript", "onnxruntime")
        checkpoints = find_checkpoints(settings.checkpoint)

        from dae_lightning.inference.export import export_checkpoints

        export_checkpoints(settings, checkpoints)


def evaluate() -> None:
    """`dae-evaluate`."""
    with one_line_errors(config.Evaluate):
        settings = settings_from_command_line("evaluate", config.Evaluate)
        if filters := [name for name in settings.methods if name in get_args(config.Filter)]:
            checks.require("baselines", f"methods=[{','.join(filters)}]", "skimage", "pywt")
        if settings.probe:
            checks.require("baselines", "probe=true", "sklearn")
        checkpoints = find_checkpoints(settings.checkpoint)

        from dae_lightning.evaluation import evaluate as evaluation

        evaluation.evaluate(settings, checkpoints, Path(settings.output))


SUMMARIZE = """\
dae-summarize SWEEP_DIR [plugins=[MODULE]]

Print a multirun's table and how far it is, and leave summary.csv, summary.json, gallery.png, and heatmap.png (where two
or three keys vary) or curves.png (where one does) in its folder. It may still run.
"""


def summarize() -> None:
    """`dae-summarize`. It has no settings, and so no need of Hydra."""
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(SUMMARIZE, end="")
        return
    modules = plugins.named_in(arguments)
    arguments = [argument for argument in arguments if not argument.startswith("plugins=")]
    if len(arguments) != 1:
        sys.exit("error: give one sweep's folder: dae-summarize SWEEP_DIR")
    escape_on_stdout()
    try:
        with stopping_at_once():
            plugins.load(modules)
            summary.summarize(Path(arguments[0]).expanduser())
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.status)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:  # a closed pipe has no name
        sys.exit(f"error: {f'{printable(error.filename)}: {error.strerror}' if error.filename else error}")
