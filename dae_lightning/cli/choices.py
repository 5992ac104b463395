"""The choices of the config groups: the package's own and, with --config-dir DIR, the user's."""

from argparse import ArgumentParser
from pathlib import Path

from dae_lightning.errors import ConfigError

_CHECKOUT = Path(__file__).parents[2] / "conf"
_WHEEL = Path(__file__).parents[1] / "conf"
# absolute: Hydra takes a relative path for a package's unless the caller is __main__
CONF = _CHECKOUT if (_CHECKOUT / "train.yaml").is_file() else _WHEEL
CONFIG_DIR = ("--config-dir", "-cd")  # Hydra's option, here of every command


def choices(group: str) -> set[str]:
    """The YAML files of a config group, by name: the package's and, with --config-dir DIR, the user's own."""
    return {file.stem for folder in (CONF, *own_choices()) for file in (folder / group).glob("*.yaml")}


def own_choices() -> list[Path]:
    """DIR of `--config-dir DIR`.

    Raises:
        ConfigError: there is no such folder.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(*CONFIG_DIR, dest="folder")
    if not (said := parser.parse_known_args()[0].folder):
        return []
    if not (folder := Path(said).expanduser().absolute()).is_dir():
        raise ConfigError(f"--config-dir {said}: no such folder")
    return [folder]
