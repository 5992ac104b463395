"""The commands, thin: compose and check the configuration, call the room, turn a user's mistake into one line."""

import os
import re
import sys
import traceback
import zlib
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar, get_args

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dae_lightning import config, schema
from dae_lightning.errors import CheckpointError, ConfigError, UserError
from dae_lightning.files import replace_text
from dae_lightning.image_files import find_images
from dae_lightning.locks import sole_use
from dae_lightning.run_folders import find_checkpoint
from dae_lightning.signals import Interrupted, stop_at_once

Settings = TypeVar("Settings")

_CHECKOUT = Path(__file__).parent.parent / "conf"
_WHEEL = Path(__file__).parent / "conf"
# chosen here and not by Hydra, for which a relative path means a package unless the caller is __main__
CONF = _CHECKOUT if (_CHECKOUT / "train.yaml").is_file() else _WHEEL


def train() -> None:
    """`dae-train`, `python train.py`."""
    _command("train", config.Train, _train)


def _train(cfg: DictConfig) -> float:
    if cfg.data.get("root"):  # wherever the run is gone on with
        cfg.data.root = os.path.abspath(os.path.expanduser(cfg.data.root))
    settings = checked(cfg, config.Train)
    folder = Path(HydraConfig.get().runtime.output_dir)
    with sole_use(folder):
        checkpoint = to_resume(settings.resume, folder)
        try:
            # torch and lightning take seconds: only once the configuration is right and the folder ours
            from dae_lightning import resuming, training

            if checkpoint is None:
                _record(cfg, folder)
                return training.train(settings, folder)
            if not Path(settings.resume or "").is_file():  # a file is meant, and no other
                checkpoint = resuming.newest_intact(checkpoint)
            return training.train(settings, folder, checkpoint, lambda: _record(cfg, folder))
        except Interrupted as stop:
            if not (folder / "checkpoints" / "last.ckpt").exists():
                raise
            raise Interrupted(stop.signum, f"; everything is saved, go on with resume={folder}") from None


def _record(cfg: DictConfig, folder: Path) -> None:
    """`.hydra/`, from which a run is resumed: at its start, and again when it really goes on with other settings.

    (Hydra itself would write it before anybody has looked at them, or knows whether the folder belongs to another run,
    and with interpolations that another shell may resolve to something else.)
    """
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    hydra_config = HydraConfig.instance().cfg
    recorded = {"config": settings | {"resume": None}, "hydra": hydra_config}
    for name, values in (recorded | {"overrides": list(HydraConfig.get().overrides.task)}).items():
        replace_text(folder / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(values))


def denoise() -> None:
    """`dae-denoise`."""
    _command("denoise", config.Denoise, _denoise)


def _denoise(cfg: DictConfig) -> None:
    settings = checked(cfg, config.Denoise)
    if settings.sigma is not None and not settings.corrupt:
        raise ConfigError(f"sigma={settings.sigma:g}: is of the noise that corrupt=true adds; give both")
    checkpoint = find_checkpoint(settings.checkpoint)
    images = find_images(settings.images, settings.output)

    from dae_lightning import denoising

    denoising.denoise(settings, checkpoint, images)


def export() -> None:
    """`dae-export`."""
    _command("export", config.Export, _export)


def _export(cfg: DictConfig) -> None:
    settings = checked(cfg, config.Export)
    if settings.format == "onnx":
        require("export", "format=onnx", "onnx", "onnxscript", "onnxruntime")
    checkpoint = find_checkpoint(settings.checkpoint)

    from dae_lightning.export import export_checkpoint

    export_checkpoint(settings, checkpoint)


def require(extra: str, setting: str, *packages: str) -> None:
    """Raise ConfigError unless the packages of an extra, which `setting` needs, are installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        verb = "is" if len(missing) == 1 else "are"
        raise ConfigError(f"{setting}: {', '.join(missing)} {verb} not installed; pip install 'dae_lightning[{extra}]'")


def evaluate() -> None:
    """`dae-evaluate`."""
    _command("evaluate", config.Evaluate, _evaluate)


def _evaluate(cfg: DictConfig) -> None:
    settings = checked(cfg, config.Evaluate)
    if filters := [name for name in settings.methods if name in get_args(config.Filter)]:
        require("baselines", f"methods=[{','.join(filters)}]", "skimage", "pywt")
    places = (settings.checkpoint,) if isinstance(settings.checkpoint, str) else settings.checkpoint
    checkpoints = {place: find_checkpoint(place) for place in places}

    from dae_lightning import evaluation

    evaluation.evaluate(settings, checkpoints, Path(settings.output))


def checked(cfg: DictConfig, kind: type[Settings]) -> Settings:
    """A composed configuration, with types and ranges checked; raises ConfigError."""
    if missing := OmegaConf.missing_keys(cfg):
        raise ConfigError(f"{' and '.join(sorted(missing))}: missing; give {min(missing)}=...")
    settings: Settings = schema.check(kind, OmegaConf.to_container(cfg, resolve=True), "")
    return settings


def _command(name: str, kind: type, task: Callable[[DictConfig], float | None]) -> None:
    """Run a Hydra task whose schema is `kind`; a mistake of the user's is one line on stderr and exit status 1.

    A sweep's jobs run one after the other in this process: one that raises or exits stops no other, and the status
    at the end is 1. What ends the process itself, as kill -9 does, ends the sweep: the other jobs do not run.
    """
    failed: list[str] = []

    def job(cfg: DictConfig) -> float | None:
        try:
            return task(cfg)
        except (Exception, SystemExit) as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                failed.append(HydraConfig.get().sweep.subdir)  # its folder's name
                raise _told(error, failed[-1], kind) from error
            if isinstance(error, UserError):
                with suppress(OSError):  # a run folder that holds nothing, and the day's folder likewise
                    folder = Path(HydraConfig.get().runtime.output_dir)
                    folder.rmdir()
                    folder.parent.rmdir()
                sys.exit(f"error: {one_line(error, kind)}")
            raise

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises, instead of printing a page of its own
    OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)
    OmegaConf.register_new_resolver("evaluation_folder", _evaluation_folder, replace=True)
    stop_at_once()
    try:
        if name == "train":
            sys.argv[1:] = resumed(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.status)
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        if not failed:
            sys.exit(f"error: {one_line(error, kind)}")
    if failed:
        sys.exit(f"error: {len(failed)} of the jobs failed: {'; '.join(failed)}")


def _told(error: BaseException, job: str, kind: type) -> UserError:
    """The failure of a sweep's job, told at once: Hydra waits for the others and then shows the first one only.

    It replaces SystemExit too, at which Hydra would skip the other jobs and end with status 0.
    """
    if isinstance(error, Exception) and not isinstance(error, UserError):
        traceback.print_exception(error)
    reason = f"exited with status {error.code}" if isinstance(error, SystemExit) else one_line(error, kind)
    print(f"error: {job}: {reason}", file=sys.stderr, flush=True)
    return UserError(f"{job}: {reason}")


def resumed(arguments: list[str]) -> list[str]:
    """The command line of a run that goes on: its own folder and recorded settings, and what is said on top.

    Raises:
        CheckpointError: `resume` names no run, or no checkpoint in one; what is said on top is more than single keys.
    """
    said = [argument for argument in arguments if argument.startswith("resume=")]
    place = said[-1].removeprefix("resume=") if said else ""
    if place in ("", "null", "last", "auto"):
        return arguments
    if {"-m", "--multirun"} & set(arguments):
        raise CheckpointError(f"resume={place}: goes on with one run; leave out -m")
    for group, _, choice in (argument.partition("=") for argument in arguments):
        if (CONF / group / f"{choice}.yaml").is_file():
            raise CheckpointError(
                f"{group}={choice}: a run goes on with the choices that it was started with; change single keys, "
                f"as in trainer.accelerator=cpu"
            )
    folder, checkpoint = find_run(place)
    again = ["hydra.output_subdir=null", "hydra/job_logging=stdout", "hydra.job.name=train"]
    again += [
        f"hydra.run.dir={_quoted(folder)}",
        f"resume={_quoted(folder if Path(place).expanduser().is_dir() else checkpoint)}",
    ]
    at = arguments.index(said[-1])  # overrides have to stand together
    rest = [*arguments[:at], *again, *arguments[at + 1 :]]
    return ["--config-path", str(folder / ".hydra"), "--config-name", "config", *rest]


def to_resume(resume: str | None, folder: Path) -> Path | None:
    """The checkpoint from which a run in `folder` goes on; None to start.

    Raises:
        CheckpointError: there is none where there has to be one.
    """
    if resume is None:
        return None
    if resume not in ("last", "auto"):
        return find_run(resume)[1]
    last = folder / "checkpoints" / "last.ckpt"
    if last.is_file():
        return last
    if resume == "last":
        raise CheckpointError(f"resume=last: no checkpoints/last.ckpt in {folder}; resume=auto would start there")
    return None


def find_run(place: str) -> tuple[Path, Path]:
    """The run folder and the checkpoint that a user means by a run folder (its last.ckpt) or a checkpoint in one.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(place).expanduser().absolute()
    checkpoint = path / "checkpoints" / "last.ckpt" if path.is_dir() else path
    if not checkpoint.is_file():
        raise CheckpointError(f"resume={place}: no {'checkpoints/last.ckpt in it' if path.is_dir() else 'such file'}")
    folder = checkpoint.parent.parent
    if not (folder / ".hydra" / "config.yaml").is_file():
        raise CheckpointError(f"resume={place}: not in a run folder (there is no .hydra/config.yaml in {folder})")
    return folder, checkpoint


def one_line(error: BaseException, kind: type) -> str:
    """What a user has to know of an error."""
    text = " ".join(str(error).split())
    unknown = re.match(r"Could not override '([^']+)'", text)
    if unknown and not unknown[1].startswith("hydra"):
        key, known = unknown[1], schema.keys(kind)
        group = key.split(".")[0]
        if key in known and group == "trainer":
            return f"{key}: not set so far; add it with a plus: +{key}=..."
        if key in known:
            return f"{key}: not a key of the chosen {group}; another choice of {group} has it (see --help)"
        return f"{key}: no such key; {schema.nearest(key, known | {k.split('.')[0] for k in known})}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return f"{group}={choice}: no such choice; {schema.nearest(choice, error.options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not understood; quote a value with special characters: 'key=\"value\"'"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; hydra.run.dir=DIR puts the output elsewhere"
    return text


def _folder_name(overrides: str) -> str:
    """A job's overrides as the name of one folder: no separators of paths, and not too long for a file system."""
    name = re.sub(r"[^\w.,=+-]+", "_", overrides)
    return name if len(name) <= 200 else f"{name[:180]}-{zlib.crc32(name.encode()):08x}"


def _evaluation_folder(checkpoint: object, otherwise: str) -> str:
    """Where the results go that `output` does not place: beside a run's own, or `otherwise`."""
    in_a_run = isinstance(checkpoint, str) and Path(checkpoint).is_dir()
    return f"{checkpoint}/evaluation" if in_a_run else otherwise


def _quoted(path: Path) -> str:
    """A path as a value of Hydra's override grammar, in which `=` and `,` mean something."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"
