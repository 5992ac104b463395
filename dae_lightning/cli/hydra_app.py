"""Between a command line and a room: Hydra composes, we check, and a user's mistake is answered in one line."""

import math
import os
import re
import sys
import traceback
import zlib
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import which
from string import Template
from typing import TypeVar
from uuid import uuid4

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, RangeSweep
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dae_lightning import config, plugins, schema
from dae_lightning.cli.run_folders import find_run
from dae_lightning.errors import CheckpointError, ConfigError, UserError
from dae_lightning.signals import RELAY, STOP, Interrupted, stop_at_once
from dae_lightning.sweeps.jobs import HELD, side_by_side
from dae_lightning.training.ranks import Rank

Settings = TypeVar("Settings")

_CHECKOUT = Path(__file__).parents[2] / "conf"
_WHEEL = Path(__file__).parents[1] / "conf"
# chosen here and not by Hydra, for which a relative path means a package unless the caller is __main__
CONF = _CHECKOUT if (_CHECKOUT / "train.yaml").is_file() else _WHEEL
LAUNCHERS = {"joblib": "hydra-joblib-launcher", "submitit": "hydra-submitit-launcher"}


def checked(cfg: DictConfig, kind: type[Settings]) -> Settings:
    """A composed configuration, with types and ranges checked; raises ConfigError."""
    plugins.load(cfg.get("plugins") or [])  # in a launcher's worker they have not been
    if missing := OmegaConf.missing_keys(cfg):
        raise ConfigError(f"{' and '.join(sorted(missing))}: missing; give {min(missing)}=...")
    settings: Settings = schema.check(kind, OmegaConf.to_container(cfg, resolve=True), "")
    return settings


def run_command(name: str, kind: type, task: Callable[[DictConfig], float | None]) -> None:
    """Run a Hydra task whose schema is `kind`; a mistake of the user's is one line on stderr and exit status 1.

    A job of a sweep that raises or exits stops no other; wherever the jobs run, the status at the end is then 1.
    """
    failed = f".failed-{uuid4().hex[:8]}"  # a file in the sweep's folder: the jobs may run in other processes
    noted: list[Path] = []

    def job(cfg: DictConfig) -> float | None:
        hydra_config = HydraConfig.get()
        folder = Path(hydra_config.runtime.output_dir)
        try:
            return task(cfg)
        except (Exception, SystemExit, Interrupted) as error:
            with suppress(OSError):  # a run folder that holds nothing, and the day's folder likewise
                folder.rmdir()
                folder.parent.rmdir()
            if hydra_config.mode != RunMode.MULTIRUN:
                if isinstance(error, (UserError, OSError)):
                    sys.exit(f"error: {one_line(error, kind)}")
                raise
            # Ctrl-C ends the sweep, but not a worker at once, in which others save; submitit exits to requeue a job
            if isinstance(error, SystemExit if side_by_side() else Interrupted):
                raise
            if isinstance(error, Interrupted) and error.signum == STOP:  # by the process of the sweep, which tells
                return math.nan
            noted.append(Path(hydra_config.sweep.dir) / failed)
            with noted[0].open("a") as file:
                file.write(f"{_told(error, hydra_config.sweep.subdir, kind)}\n")
            return math.nan  # raised, it would keep Hydra from the callbacks at the sweep's end

    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_page(name))
        return
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises, instead of printing a page of its own
    stop_at_once()
    # argparse, by which Hydra reads its command line, wants overrides to stand together
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    try:
        plugins.load(plugins.named_in(sys.argv[1:]))
        if {"-m", "--multirun"} & set(sys.argv):
            check_sweep(sys.argv[1:])
        if name == "train":
            sys.argv[1:] = resumed(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()
        RELAY.raise_if_received()
    except Interrupted as stop:
        # of submitit nothing is relayed: what it has handed to SLURM goes on
        again = f"; go on with the same command and hydra.sweep.dir={RELAY.sweep}"
        print(f"{stop}{again if RELAY.sweep and ';' not in str(stop) else ''}", file=sys.stderr)
        sys.exit(stop.status)
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        sys.exit(f"error: {one_line(error, kind)}")
    except BrokenExecutor:
        sys.exit(f"error: a worker was killed; go on with the same command and hydra.sweep.dir={RELAY.sweep}")
    finally:
        HELD.close()
        failures = _taken(RELAY.sweep / failed if RELAY.sweep else noted[0] if noted else None)
    if failures:
        sys.exit("\n  ".join([f"error: {len(failures)} of the jobs failed", *failures]))


def help_page(name: str) -> str:
    """What `--help` shows: the template in `conf/`. (Hydra would compose everything first, and all groups twice.)"""
    template = Template(OmegaConf.load(CONF / f"{name}.yaml").hydra.help.template)
    groups = sorted(folder for folder in CONF.iterdir() if folder.is_dir())
    choices = (f"{group.name}: {', '.join(sorted(file.stem for file in group.glob('*.yaml')))}\n" for group in groups)
    return template.substitute(APP_CONFIG_GROUPS="".join(choices))


def _told(error: BaseException, job: str, kind: type) -> str:
    """The failure of a sweep's job, told at once."""
    if isinstance(error, Exception) and not isinstance(error, UserError):
        traceback.print_exception(error)
    reason = f"exited with status {error.code}" if isinstance(error, SystemExit) else one_line(error, kind)
    print(f"error: {job}: {reason}", file=sys.stderr, flush=True)
    return f"{job}: {reason}"


def _taken(noted: Path | None) -> list[str]:
    """The failures that the jobs of a sweep have noted in a file, which is then gone."""
    if noted is None or not noted.exists():
        return []
    lines = noted.read_text().splitlines()
    noted.unlink()
    return lines


def check_sweep(arguments: list[str]) -> None:
    """Raises ConfigError, before any job runs, where an axis is empty or the jobs cannot be launched."""
    if (rank := Rank.of_this_process()) is not None and rank.size > 1:
        raise ConfigError("-m: every job starts its own processes; leave out torchrun, or all but one task of srun")
    overrides = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    for override in OverridesParser.create().parse_overrides(overrides):
        key, value = override.get_key_element(), override.value()
        choices = [file.stem for file in (CONF / key).glob("*.yaml")]
        if (
            value == ""
            or (isinstance(value, RangeSweep) and not list(value.range()))
            or (isinstance(value, Glob) and not value.filter(choices))
        ):
            raise ConfigError(f"{override.input_line}: has no value to sweep over; give {key}=A,B,...")
        if key == "hydra/launcher" and value == "submitit_slurm" and which("srun") is None:
            raise ConfigError(
                "hydra/launcher=submitit_slurm: there is no srun here; joblib needs none, nor submitit_local"
            )
        if key == "hydra/launcher" and (plugin := LAUNCHERS.get(str(value).split("_")[0])):
            try:
                version(plugin)
            except PackageNotFoundError:
                raise ConfigError(
                    f"hydra/launcher={value}: {plugin} is not installed; pip install 'dae_lightning[sweep]'"
                ) from None


def resumed(arguments: list[str]) -> list[str]:
    """The command line of a run that goes on: its own folder and recorded settings, and what is said on top.

    Raises:
        CheckpointError: `resume` names no run, or no checkpoint in one; what is said on top is more than single keys.
    """
    said = [argument for argument in arguments if argument.startswith("resume=")]
    place = said[-1].removeprefix("resume=") if said else ""
    several = bool({"-m", "--multirun"} & set(arguments))
    if place in ("", "null", "auto") or (place == "last" and not several):
        return arguments
    if several:  # whose jobs go on by themselves
        raise CheckpointError(f"resume={place}: goes on with one run; leave out -m")
    folder, checkpoint = find_run(place)
    for group, _, choice in (argument.partition("=") for argument in arguments):
        if (CONF / group / f"{choice}.yaml").is_file():
            raise CheckpointError(
                f"{group}={choice}: a run goes on with the choices that it was started with; change single keys, "
                f"as in trainer.accelerator=cpu"
            )
    again = ["hydra.output_subdir=null", "hydra/job_logging=stdout", "hydra.job.name=train"]
    again += [
        f"hydra.run.dir={_quoted(folder)}",
        f"resume={_quoted(folder if Path(place).expanduser().is_dir() else checkpoint)}",
    ]
    at = arguments.index(said[-1])  # overrides have to stand together
    rest = [*arguments[:at], *again, *arguments[at + 1 :]]
    return ["--config-path", str(folder / ".hydra"), "--config-name", "config", *rest]


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
        place = ("hydra.sweep.dir" if RELAY.sweep else "hydra.run.dir") if kind is config.Train else "output"
        return f"{error.filename}: {error.strerror}; {place}=PATH puts the output elsewhere"
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


# here and not in `run_command`: a launcher's workers only import this module
OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)
OmegaConf.register_new_resolver("evaluation_folder", _evaluation_folder, replace=True)
