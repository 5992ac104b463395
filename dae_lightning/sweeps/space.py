"""What a search's command line says: the keys that it sets, and those that it searches over, with their values."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from dae_lightning.errors import ConfigError

TAGS = {"int", "log"}
SAME_FOR_ALL = ("data", "noise", "loss", "eval_seed", "seed")  # or the scores do not compare, or the luckiest wins
DIGITS = 6  # of a number that is drawn; it is part of a folder's name, and people will read it


@dataclass(frozen=True)
class Space:
    """Keys as they are written, a plus included; `axes` by key, with the part of the command line that says it."""

    fixed: Mapping[str, str]
    axes: Mapping[str, BaseDistribution]
    said: Mapping[str, str]

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Those of the job with these values of the axes."""
        drawn = {key: _text(values[key]) for key in self.axes}
        return [f"{key}={value}" for key, value in {**self.fixed, **drawn}.items()]

    def corners(self) -> Iterator[list[str]]:
        """Of jobs in which each axis takes its ends, or each of its choices, while the others stay at their first."""
        ends = {key: _ends(axis) for key, axis in self.axes.items()}
        first = {key: values[0] for key, values in ends.items()}
        yield self.overrides(first)
        for key, values in ends.items():
            yield from (self.overrides(first | {key: value}) for value in values[1:])


def read_space(arguments: Iterable[str], loader: ConfigLoader | None = None) -> Space:
    """What overrides in Hydra's grammar say.

    Raises:
        ConfigError: nothing to search over, something that must not be, or limits that make no sense.
    """
    fixed: dict[str, str] = {}
    axes: dict[str, BaseDistribution] = {}
    said: dict[str, str] = {}
    for override in OverridesParser.create(loader).parse_overrides(list(arguments)):
        key, line = override.get_key_element(), str(override.input_line)
        for of_an_earlier in (fixed, axes, said):
            of_an_earlier.pop(key, None)
        if not override.is_sweep_override():
            fixed[key] = override.get_value_element_as_str()
            continue
        if key.lstrip("+").split(".")[0] in SAME_FOR_ALL:
            remedy = "; hydra.sweeper.confirm=3 tries other seeds" if key == "seed" else ""
            raise ConfigError(f"{line}: must be the same in all trials, which are compared by their score{remedy}")
        axes[key], said[key] = _distribution(override), line
    if not axes:
        raise ConfigError('hydra/sweeper=search: nothing to search over; as in latent="int(interval(32,512))"')
    return Space(fixed, axes, said)


def _distribution(override: Override) -> BaseDistribution:
    """An interval or a range of numbers; anything else is a choice among texts."""
    value: Any = override.value()
    tags: set[str] = getattr(value, "tags", set())
    if unknown := tags - TAGS:
        raise ConfigError(f"{override.input_line}: no such tag as {min(unknown)}; known: {', '.join(sorted(TAGS))}")
    log = "log" in tags
    try:
        if isinstance(value, IntervalSweep):
            return _numbers(value.start, value.end, "int" in tags or isinstance(value.start, int), log=log)
        if isinstance(value, RangeSweep):
            steps = sorted(value.range())
            return _numbers(steps[0], steps[-1], isinstance(steps[0], int), log=log, step=abs(value.step))
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except ValueError as error:
        raise ConfigError(f"{override.input_line}: {' '.join(str(error).split())}") from None


def _numbers(low: Any, high: Any, whole: bool, **more: Any) -> BaseDistribution:
    if whole:
        return IntDistribution(int(low), int(high), **more)
    # Hydra's range adds decimal fractions up, as in 0.30000000000000004
    return FloatDistribution(float(f"{low:.12g}"), float(f"{high:.12g}"), **more)


def _ends(axis: Any) -> list[Any]:
    return list(axis.choices) if isinstance(axis, CategoricalDistribution) else [axis.low, axis.high]


def _text(value: Any) -> str:
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)
