"""What is checked before anything is loaded: a sweep's axes, the processes that were started, the extras."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from shutil import which

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, RangeSweep

from dae_lightning import config
from dae_lightning.cli.choices import choices
from dae_lightning.errors import ConfigError
from dae_lightning.training.ranks import Rank, by_torchrun

LAUNCHERS = {"joblib": "hydra-joblib-launcher", "submitit": "hydra-submitit-launcher"}


def check_sweep(arguments: list[str]) -> None:
    """Raises ConfigError, before any job runs, where an axis is empty or the jobs cannot be launched."""
    if (rank := Rank.of_this_process()) is not None and rank.size > 1:
        raise ConfigError("-m: one process starts the jobs; leave out torchrun, or all but one task of srun")
    overrides = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    searched = "hydra/sweeper=search" in overrides
    if searched:
        require("search", "hydra/sweeper=search", "optuna")
    for override in OverridesParser.create().parse_overrides(overrides):
        key, value = override.get_key_element(), override.value()
        if (
            value == ""
            or (isinstance(value, RangeSweep) and not list(value.range()))
            or (isinstance(value, Glob) and not value.filter(sorted(choices(key))))
        ):
            raise ConfigError(f"{override.input_line}: has no value to sweep over; give {key}=A,B,...")
        if isinstance(value, IntervalSweep) and not searched:
            raise ConfigError(f"{override.input_line}: a grid has no intervals; hydra/sweeper=search searches them")
        if key.lstrip("+") in ("trainer", "trainer.strategy") and "ddp" in str(override.input_line):
            raise ConfigError(f"{override.input_line}: trains one model in several processes; leave out -m")
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


def check_start(trainer: config.Trainer) -> int:
    """This process's number among those that were started together; 0 where it is the only one so far.

    Raises:
        ConfigError: they are not as many as the settings ask for, or do not train together.
    """
    rank = Rank.of_this_process()
    if trainer.strategy is None:
        if rank is not None and rank.size > 1 and by_torchrun():
            raise ConfigError(
                f"torchrun started {rank.size} processes: to train one model together they need trainer=ddp"
            )
        return 0
    if rank is None:
        if (trainer.num_nodes or 1) > 1:
            raise ConfigError(
                f"trainer.num_nodes={trainer.num_nodes}: start it under torchrun or srun, on each machine"
            )
        return 0
    if rank.size != trainer.ranks:
        raise ConfigError(
            f"trainer.devices={trainer.devices} trainer.num_nodes={trainer.num_nodes or 1}: that makes "
            f"{trainer.ranks} processes, but {rank.size} were started"
        )
    return rank.number


def require(extra: str, setting: str, *packages: str) -> None:
    """Raise ConfigError unless the packages of an extra, which `setting` needs, are installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        verb = "is" if len(missing) == 1 else "are"
        raise ConfigError(f"{setting}: {', '.join(missing)} {verb} not installed; pip install 'dae_lightning[{extra}]'")
