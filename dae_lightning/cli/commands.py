"""The commands but dae-demo. Each checks what it can before it imports torch, which takes seconds."""

import shlex
import sys
from functools import cache
from pathlib import Path
from typing import Any, get_args

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dae_lightning import config
from dae_lightning.cli import checks, hydra_app
from dae_lightning.cli.arguments import pasteable
from dae_lightning.cli.hydra_app import one_line, one_line_errors, settings_from_command_line
from dae_lightning.cli.run_folders import find_checkpoint, find_checkpoints, to_resume
from dae_lightning.errors import LostRankError, SweepError, UserError
from dae_lightning.files import replace_text
from dae_lightning.locks import sole_use
from dae_lightning.signals import RELAY, Interrupted
from dae_lightning.sweeps import run_jobs, summary
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
            checks.check_sweep(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(hydra_app.CONF), config_name="train")(_run_or_job)()
        RELAY.raise_if_received()
        if RELAY.sweep and (failures := read_sweep(RELAY.sweep).failures):
            sys.exit(f"error: {failures} of the jobs failed")


def _run_or_job(cfg: DictConfig) -> float:
    """What Hydra calls: a run, or one job of a multirun."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    if hydra_config.mode == RunMode.MULTIRUN:
        return run_jobs.run(cfg, folder, _prepare, _fit)
    try:
        return _train(cfg, folder)
    except (UserError, OSError) as error:  # or Hydra prints a line of its own
        sys.exit(f"error: {one_line(error, config.Train)}")


def _train(cfg: DictConfig, folder: Path) -> float:
    """Train a single run in its folder, in this process or in ranks that it starts."""
    settings = hydra_app.settings_of(cfg)
    try:
        if settings.trainer.strategy is None or Rank.of_this_process() is not None:
            value = _rank(cfg, settings, folder)
        else:
            with sole_use(folder):  # refuse at once what the first rank, which will hold the folder, would refuse
                to_resume(settings.resume, folder)
            value = launch(settings.trainer.ranks, _rank, cfg, settings, folder)
    except (Interrupted, LostRankError) as stop:
        if not (folder / "checkpoints" / "last.ckpt").exists():
            raise
        again = f"continue with {pasteable('resume', folder)}"
        if isinstance(stop, LostRankError):
            raise LostRankError(f"{stop}; {again}") from None
        raise Interrupted(stop.signum, f"; everything is saved, {again}") from None
    if (folder / "checkpoints" / "last.ckpt").exists():  # not with trainer.fast_dev_run
        own = shlex.quote(f"plugins=[{','.join(settings.plugins)}]") if settings.plugins else ""
        run = pasteable("checkpoint", folder)
        use = f"dae-denoise {run} images=PHOTOS" if settings.data.kind == "patches" else f"dae-export {run} format=page"
        print(f"next: {use} {own}".rstrip())
    return value


def _rank(cfg: DictConfig, settings: config.Train, folder: Path) -> float:
    """Train in this process, alone or as one of several ranks, of which the first holds the folder."""
    if checks.check_start(settings.trainer) > 0:
        from dae_lightning.training import run as training

        return training.train(settings, folder)
    with sole_use(folder):
        return _fit(cfg, settings, folder, to_resume(settings.resume, folder))


def _prepare(settings: config.Train) -> None:
    """What takes time and is the same for every job."""
    from dae_lightning.data.sources import load_ahead
    from dae_lightning.training import run as training  # noqa: F401

    load_ahead(settings.data)


def _fit(
    cfg: DictConfig, settings: config.Train, folder: Path, checkpoint: Path | None, trial: int | None = None
) -> float:
    """What the training returns; it starts from the checkpoint if there is one.

    As trial number `trial` of a search it tells that how each epoch was, and may be ended by it.

    `.hydra/` is written with the first checkpoint: before it there is nothing to resume. (Hydra would write it before
    the settings are checked and the folder is known to be free, and unresolved.)
    """
    from dae_lightning.training import resume as resuming
    from dae_lightning.training import run as training

    callbacks = []
    if trial is not None:
        from dae_lightning.sweeps.pruning import Pruning

        callbacks.append(Pruning(Path(HydraConfig.get().sweep.dir), trial, HydraConfig.get().sweeper.pruner))
    files: dict[str, Any] = {"config": hydra_app.plain(cfg)}
    if checkpoint is None:
        files |= {"hydra": HydraConfig.instance().cfg, "overrides": list(HydraConfig.get().overrides.task)}
    elif not Path(settings.resume or "").is_file():  # a named file is resumed, or none
        checkpoint = resuming.newest_intact(checkpoint)

    @cache
    def record() -> None:
        for name, values in files.items():
            replace_text(folder / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(values))

    return training.train(settings, folder, checkpoint, record, callbacks)


def denoise() -> None:
    """`dae-denoise`."""
    with one_line_errors(config.Denoise):
        settings = settings_from_command_line("denoise", config.Denoise)
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
        methods = settings.methods or ()
        if filters := [name for name in methods if name in get_args(config.Filter)]:
            checks.require("baselines", f"methods=[{','.join(filters)}]", "skimage", "pywt")
        if "bm3d" in methods:
            checks.require("bm3d", "methods=[bm3d]", "bm3d")
        if settings.probe:
            checks.require("baselines", "probe=true", "sklearn")
        checkpoints = find_checkpoints(settings.checkpoint)

        from dae_lightning.evaluation import evaluate as evaluation

        evaluation.evaluate(settings, checkpoints, Path(settings.output))


SUMMARIZE = """\
dae-summarize SWEEP_DIR [plugins=[MODULE]]

Print a multirun's table and how far it is, and leave summary.csv, summary.json, gallery.png, and heatmap.png (where two
or three keys vary) or curves.png (where one does) in its folder. Of a search, print also the best settings, which keys
matter and how far to trust that, and leave search.png instead of the other pictures. It may still run.
"""


def summarize() -> None:
    """`dae-summarize`. It has no settings, and so no need of Hydra."""
    with one_line_errors():
        if {"-h", "--help"} & set(sys.argv):
            print(SUMMARIZE, end="")
            return
        folders = [argument for argument in sys.argv[1:] if not argument.startswith("plugins=")]
        if len(folders) != 1:
            raise SweepError("give one sweep's folder: dae-summarize SWEEP_DIR")
        summary.summarize(Path(folders[0]).expanduser())
