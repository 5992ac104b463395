"""What talks to Hydra: a command line becomes a checked configuration, and a user's mistake one line on stderr."""

import os
import re
import sys
import zlib
from argparse import ArgumentParser
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from string import Template
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dae_lightning import config, plugins, schema, threads
from dae_lightning.cli import checks
from dae_lightning.cli.arguments import pasteable, quoted, with_paths_quoted
from dae_lightning.cli.choices import CONF as CONF
from dae_lightning.cli.choices import CONFIG_DIR, choices, own_choices
from dae_lightning.cli.meanings import explained, meanings
from dae_lightning.cli.run_folders import LATEST, find_run, latest_run
from dae_lightning.errors import CheckpointError, ConfigError, UserError, escape_on_stdout, printable
from dae_lightning.signals import RELAY, Interrupted, stopping_at_once

Settings = TypeVar("Settings")

HELD = ExitStack()  # the folder of the run or sweep, until the command ends


@contextmanager
def one_line_errors(kind: type[schema.Settings] | None = None) -> Iterator[None]:
    """Turn a user's mistake into one line and exit status 1, and a signal into the status that a shell expects.

    `kind` is the schema of a command that has settings.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises instead of printing the error in its own way
    escape_on_stdout()
    sys.argv[1:] = map(with_paths_quoted, sys.argv[1:])
    try:
        with stopping_at_once(), HELD:
            threads.settle()
            plugins.load(plugins.named_in(sys.argv[1:]))
            yield
    except Interrupted as stop:
        # with submitit no signal is passed on: the jobs handed to SLURM continue
        again = _same_sweep(RELAY.sweep) if RELAY.sweep and ";" not in str(stop) else ""
        print(f"{stop}{again}", file=sys.stderr)
        sys.exit(stop.status)
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        sys.exit(f"error: {one_line(error, kind)}")
    except BrokenExecutor:
        sys.exit(f"error: a worker was killed{_same_sweep(RELAY.sweep or Path())}")


def _same_sweep(folder: Path) -> str:
    return f"; continue with the same command and {pasteable('hydra.sweep.dir', folder)}"


def settings_from_command_line(command: str, kind: type[Settings]) -> Settings:
    """The settings of a command other than dae-train; `--help` and `--cfg job` print and exit."""
    if multirun_asked_for():
        raise ConfigError(f"-m: only dae-train runs several jobs; call dae-{command} once for each")
    show_help_if_asked(command)
    cfg = composed(CONF, command, *_parsed(command))
    said = cfg.get("checkpoint")  # a place or several
    if LATEST in (places := said if isinstance(said, ListConfig) else [said]):
        found = latest_run()
        named = [found if place == LATEST else place for place in places]
        cfg.checkpoint = named if isinstance(said, ListConfig) else found
    return checked(cfg, kind)


def run_to_resume() -> tuple[DictConfig, Path] | None:
    """The recorded configuration, with overrides on top, and the folder of the run that resume=RUN names, if any.

    Raises:
        CheckpointError: there is no such run, no checkpoint in it, or an override changes more than a single key.
    """
    said = [argument for argument in sys.argv if argument.startswith("resume=")]
    value = OverridesParser.create().parse_override(said[-1]).value() if said else None
    place, several = "" if value is None else str(value), multirun_asked_for()
    if place in ("", "auto") or (place == "last" and not several):
        return None
    if several:  # whose jobs are resumed anyway
        raise CheckpointError(f"resume={place}: resumes a single run; leave out -m")
    folder, checkpoint = find_run(place)
    overrides, show = _parsed("train")
    for override in overrides:
        key, _, value = override.partition("=")
        if value in choices(key):
            raise CheckpointError(
                f"{override}: a run keeps the choices that it was started with; change single keys, "
                "as in trainer.accelerator=cpu"
            )
        if key.startswith("hydra."):
            raise CheckpointError(f"{override}: a run is resumed in its own folder; leave this out")
    overrides = [override for override in overrides if not override.startswith("resume=")]
    overrides.append(f"resume={quoted(str(folder if Path(place).expanduser().is_dir() else checkpoint))}")
    return composed(folder / ".hydra", "config", overrides, show), folder


def _parsed(command: str) -> tuple[list[str], bool]:
    """The overrides on the command line, and whether the configuration is to be shown."""
    parser = ArgumentParser(f"dae-{command}", f"dae-{command} [--help] [--cfg job] [key=value ...]", add_help=False)
    parser.add_argument("-c", "--cfg", choices=["job"])
    parser.add_argument(*CONFIG_DIR)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()
    return arguments.overrides, arguments.cfg is not None


def composed(folder: Path, name: str, overrides: list[str], show: bool = False) -> DictConfig:
    """A configuration with overrides on top; `show` prints it and exits."""
    own = ",".join(quoted(f"file://{place}") for place in own_choices())
    with initialize_config_dir(str(folder), version_base="1.3"):
        cfg = compose(name, [*overrides, *([f"hydra.searchpath=[{own}]"] if own else [])])
    if show:
        print(OmegaConf.to_yaml(cfg), end="")
        sys.exit()
    return cfg


def checked(cfg: DictConfig, kind: type[Settings]) -> Settings:
    """A composed configuration, with types and ranges checked; raises ConfigError."""
    plugins.load(cfg.get("plugins") or [])  # the workers of a launcher have not read the command line
    if missing := sorted(_missing(OmegaConf.to_container(cfg))):
        raise ConfigError(f"{' and '.join(missing)}: missing; give {missing[0]}=...")
    settings: Settings = schema.check(kind, OmegaConf.to_container(cfg, resolve=True), "")
    return settings


def _missing(values: Any, key: str = "") -> Iterator[str]:
    """The dotted keys of what has to be given. (OmegaConf's own function trips over values that are made of those.)"""
    if values == "???":
        yield key
    elif isinstance(values, dict):
        for name, value in values.items():
            yield from _missing(value, f"{key}.{name}" if key else name)


def settings_of(cfg: DictConfig) -> config.Train:
    """The checked settings of a run or job, which can be resumed from any directory: its paths become absolute."""
    for group in (cfg.data, cfg.logger):
        if group.get("root"):
            group.root = os.path.abspath(os.path.expanduser(group.root))
    settings = checked(cfg, config.Train)
    if (logger := settings.logger.kind) != "csv":
        checks.require(logger, f"logger={logger}", logger)  # the extra and the package have the logger's name
    checks.check_start(settings.trainer)
    return settings


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A run's settings as they are recorded."""
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()} | {"resume": None}


def multirun_asked_for() -> bool:
    return bool({"-m", "--multirun"} & set(sys.argv))


def show_help_if_asked(command: str) -> None:
    """Print the command's help template in `conf/` and exit. (Hydra would compose the whole configuration first.)"""
    if not {"-h", "--help"} & set(sys.argv):
        return
    template = Template(OmegaConf.load(CONF / f"{command}.yaml").hydra.help.template)
    groups = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())
    lines = [f"{group}: {', '.join(sorted(choices(group) | schema.KINDS.get(group, {}).keys()))}\n" for group in groups]
    print(explained(template.substitute(APP_CONFIG_GROUPS="".join(lines)), meanings(CONF, command)))
    sys.exit()


def one_line(error: BaseException, kind: type[schema.Settings] | None) -> str:
    """What a user has to know of an error."""
    text = " ".join(str(error).split())
    unknown = re.match(r"Could not override '([^']+)'", text)
    if kind and unknown and not unknown[1].startswith("hydra"):
        key, known = unknown[1], schema.keys(kind)
        group = key.split(".")[0]
        if group == "trainer" and key.removeprefix("trainer.") in config.OTHER_FLAGS:
            return f"{key}: {config.REMEDY}"
        if key in known and group == "trainer":
            return f"{key}: not set so far; add it with a plus: +{key}=..."
        if key in known:
            return f"{key}: not a key of the chosen {group}; another {group} has it (see --help)"
        return f"{key}: no such key; {schema.nearest_key(key, known | {k.split('.')[0] for k in known})}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return f"{group}={choice}: no such choice; {schema.nearest(choice, error.options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: not understood; quote a value with special characters: 'key=\"value\"'"
    if isinstance(error, OSError) and error.filename:
        place = ("hydra.sweep.dir" if RELAY.sweep else "hydra.run.dir") if kind is config.Train else "output"
        remedy = f"; {place}=PATH puts the output elsewhere" if kind else ""
        return f"{printable(error.filename)}: {error.strerror}{remedy}"
    return text


def _folder_name(overrides: str) -> str:
    """A job's overrides as the name of one folder: no separators of paths, and not too long for a file system.

    Where that leaves something out, a hash of the whole keeps the names of different jobs apart.
    """
    name = re.sub(r"[^\w.,=+-]+", "_", overrides.replace("'", ""), flags=re.ASCII)[:180]
    return name if name == overrides else f"{name}-{zlib.crc32(overrides.encode()):08x}"


def _evaluation_folder(checkpoint: object, otherwise: str) -> str:
    """Where the results go that `output` does not place: beside a run's own, or `otherwise`."""
    in_a_run = isinstance(checkpoint, str) and Path(checkpoint).is_dir()
    return f"{checkpoint}/evaluation" if in_a_run else otherwise


# at import: the workers of a launcher run no command
OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)
OmegaConf.register_new_resolver("evaluation_folder", _evaluation_folder, replace=True)
