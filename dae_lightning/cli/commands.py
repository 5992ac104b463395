"""The commands, thin: what each one checks before its room is called."""

import os
import sys
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dae_lightning import config, plugins
from dae_lightning.cli.hydra_app import checked, one_line, run_command
from dae_lightning.cli.run_folders import find_checkpoint, to_resume
from dae_lightning.errors import ConfigError, LostRankError, UserError
from dae_lightning.files import replace_text
from dae_lightning.locks import sole_use
from dae_lightning.signals import Interrupted, stop_at_once
from dae_lightning.sweeps import jobs, summary
from dae_lightning.training.ranks import check_start


def train() -> None:
    """`dae-train`, `python train.py`."""
    run_command("train", config.Train, _train)


def _train(cfg: DictConfig) -> float:
    if cfg.data.get("root"):  # wherever the run is resumed
        cfg.data.root = os.path.abspath(os.path.expanduser(cfg.data.root))
    folder = Path(HydraConfig.get().runtime.output_dir)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return _job(cfg, folder)
    settings = checked(cfg, config.Train)
    if check_start(settings.trainer) > 0:
        from dae_lightning.training import run as training

        return training.train(settings, folder)  # the first rank has the folder, and says where it goes on from
    with sole_use(folder):
        return _go(cfg, settings, folder, to_resume(settings.resume, folder))


def _job(cfg: DictConfig, folder: Path) -> float:
    """One job of a multirun."""
    overrides, told = list(HydraConfig.get().overrides.task), partial(one_line, kind=config.Train)
    try:
        settings = checked(cfg, config.Train)
        check_start(settings.trainer)
    except (ConfigError, OmegaConfBaseException) as error:
        if (jobs.read(folder) or {}).get("config") is None:  # or a job that was right lies there
            jobs.Job(folder, overrides, None, told).record("failed", told(error))
        raise
    place = jobs.folder_of(_plain(cfg), folder, Path(HydraConfig.get().sweep.dir))
    if place != folder:
        with suppress(OSError):  # Hydra has made it
            folder.rmdir()
    job = jobs.Job(place, overrides, _plain(cfg), told)
    return job.run(lambda: _prepare(settings), lambda folder, checkpoint: _go(cfg, settings, folder, checkpoint))


def _prepare(settings: config.Train) -> None:
    """What takes time and is the same for every job."""
    from dae_lightning.data.sources import load_ahead
    from dae_lightning.training import run as training  # noqa: F401

    load_ahead(settings.data)


def _go(cfg: DictConfig, settings: config.Train, folder: Path, checkpoint: Path | None) -> float:
    """Train in a folder that is ours, from a checkpoint on if there is one."""
    try:
        # torch and lightning take seconds: only once the configuration is right and the folder ours
        from dae_lightning.training import resume as resuming
        from dae_lightning.training import run as training

        if checkpoint is None:
            _record(cfg, folder)
            return training.train(settings, folder)
        if not Path(settings.resume or "").is_file():  # a file is meant, and no other
            checkpoint = resuming.newest_intact(checkpoint)
        return training.train(settings, folder, checkpoint, lambda: _record(cfg, folder))
    except (Interrupted, LostRankError) as stop:
        if not (folder / "checkpoints" / "last.ckpt").exists():
            raise
        if isinstance(stop, LostRankError):
            raise LostRankError(f"{stop}; go on with resume={folder}") from None
        raise Interrupted(stop.signum, f"; everything is saved, go on with resume={folder}") from None


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """The settings of a run, whole, as they are recorded."""
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()} | {"resume": None}


def _record(cfg: DictConfig, folder: Path) -> None:
    """`.hydra/`, from which a run is resumed: at its start, and again when it really goes on with other settings.

    (Hydra itself would write it before anybody has looked at them, or knows whether the folder belongs to another run,
    and with interpolations that another shell may resolve to something else.)
    """
    recorded = {"config": _plain(cfg), "hydra": HydraConfig.instance().cfg}
    for name, values in (recorded | {"overrides": list(HydraConfig.get().overrides.task)}).items():
        replace_text(folder / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(values))


def denoise() -> None:
    """`dae-denoise`."""
    run_command("denoise", config.Denoise, _denoise)


def _denoise(cfg: DictConfig) -> None:
    settings = checked(cfg, config.Denoise)
    if settings.sigma is not None and not settings.corrupt:
        raise ConfigError(f"sigma={settings.sigma:g}: is of the noise that corrupt=true adds; give both")
    checkpoint = find_checkpoint(settings.checkpoint)

    from dae_lightning.inference.image_files import (
        find_images,  # numpy; what is said of a wrong folder is said before torch's
    )

    images = find_images(settings.images, settings.output)

    from dae_lightning.inference import files as denoising

    denoising.denoise(settings, checkpoint, images)


def export() -> None:
    """`dae-export`."""
    run_command("export", config.Export, _export)


def _export(cfg: DictConfig) -> None:
    settings = checked(cfg, config.Export)
    if settings.format == "onnx":
        require("export", "format=onnx", "onnx", "onnxscript", "onnxruntime")
    checkpoint = find_checkpoint(settings.checkpoint)

    from dae_lightning.inference.export import export_checkpoint

    export_checkpoint(settings, checkpoint)


def require(extra: str, setting: str, *packages: str) -> None:
    """Raise ConfigError unless the packages of an extra, which `setting` needs, are installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        verb = "is" if len(missing) == 1 else "are"
        raise ConfigError(f"{setting}: {', '.join(missing)} {verb} not installed; pip install 'dae_lightning[{extra}]'")


def evaluate() -> None:
    """`dae-evaluate`."""
    run_command("evaluate", config.Evaluate, _evaluate)


def _evaluate(cfg: DictConfig) -> None:
    settings = checked(cfg, config.Evaluate)
    if filters := [name for name in settings.methods if name in get_args(config.Filter)]:
        require("baselines", f"methods=[{','.join(filters)}]", "skimage", "pywt")
    places = (settings.checkpoint,) if isinstance(settings.checkpoint, str) else settings.checkpoint
    checkpoints = {place: find_checkpoint(place) for place in places}

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
    stop_at_once()
    try:
        plugins.load(modules)
        summary.summarize(Path(arguments[0]).expanduser())
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.status)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:  # a closed pipe has no name
        sys.exit(f"error: {f'{error.filename}: {error.strerror}' if error.filename else error}")
