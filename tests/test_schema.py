"""The check between a user's values and everything else."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from dae_lightning import config, schema
from dae_lightning.errors import ConfigError
from dae_lightning.schema import Count, Positive, Probability, Range, check


@dataclass(frozen=True)
class Inner:
    kind: Literal["inner"]
    share: Probability
    pair: tuple[Positive, Positive] = (1.0, 1.0)


@dataclass(frozen=True)
class Other:
    kind: Literal["other"]


@dataclass(frozen=True)
class Outer:
    count: Count
    inner: Inner | Other
    name: str | None
    flag: bool = False
    limit: Count | Annotated[float, Range(0, 1, "(]")] | None = None


RIGHT = {"count": 2.0, "inner": {"kind": "inner", "share": 1, "pair": [1, 2]}, "name": None}


def test_plain_values_become_a_checked_instance() -> None:
    assert check(Outer, RIGHT, "") == Outer(2, Inner("inner", 1.0, (1.0, 2.0)), None)
    assert check(Outer, RIGHT | {"inner": {"kind": "other"}, "limit": 0.5, "flag": True}, "").limit == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count=0: must be a whole number at least 1"),
        ({"count": 1.5}, "count=1.5: must be a whole number at least 1"),
        ({"count": True}, "count=True: must be a whole number at least 1"),
        ({"count": "many"}, "count=many: must be a whole number at least 1"),
        ({"coumt": 3}, "coumt=3: no such key; did you mean count?"),
        ({"share": 3}, "share=3: no such key; did you mean inner.share?"),
        ({"inner": {"kind": "inner", "share": 1.1}}, "inner.share=1.1: must be a finite number in [0, 1]"),
        ({"inner": {"kind": "inner", "share": float("nan")}}, "inner.share=nan: must be a finite number in [0, 1]"),
        ({"inner": {"kind": "inner"}}, "inner.share: missing"),
        (
            {"inner": {"kind": "inner", "share": 1, "shar": 1}},
            "inner.shar=1: no such key with inner.kind=inner; did you mean inner.share?",
        ),
        ({"inner": {"kind": "inner", "share": 1, "pair": [1]}}, "inner.pair=[1]: must be a list of 2 values"),
        (
            {"inner": {"kind": "inner", "share": 1, "pair": [1, 0]}},
            "inner.pair[1]=0: must be a finite number above 0",
        ),
        ({"inner": {"kind": "outer"}}, "inner.kind=outer: must be one of inner, other"),
        ({"inner": 3}, "inner=3: must be a mapping whose kind is one of inner, other"),
        ({"name": 3}, "name=3: must be text or null"),
        ({"flag": 1}, "flag=1: must be true or false"),
        ({"limit": 0.0}, "limit=0.0: must be a whole number at least 1 or a finite number in (0, 1] or null"),
    ],
)
def test_a_wrong_value_is_one_line_with_key_value_and_remedy(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(Outer, RIGHT | change, "")
    assert str(error.value) == message


def test_keys_are_those_of_every_choice() -> None:
    assert {
        "noise.sigma",
        "noise.probability",
        "data.root",
        "trainer.limit_train_batches",
        "latent",
    } <= schema.keys(config.Train)
