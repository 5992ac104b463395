"""The check between a user's values and everything else."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from dae_lightning import config, kinds, schema
from dae_lightning.errors import ConfigError
from dae_lightning.schema import Count, Kind, List, Positive, Probability, Settings, check


class Shape(Kind):
    group = "shape"


class Inner(Shape):
    kind: Literal["inner"]
    share: Probability
    pair: Annotated[tuple[Positive, Positive], List] = (1.0, 1.0)


class Other(Shape):
    kind: Literal["other"]


class Outer(Settings):
    count: Count
    shape: Shape
    name: str | None
    flag: bool = False
    way: Literal["up", "down", "left or right"] = "up"
    limit: Count | Annotated[float, Field(gt=0, le=1)] | None = None


RIGHT = {"count": 2.0, "shape": {"kind": "inner", "share": 1, "pair": [1, 2]}, "name": None}


def test_plain_values_become_a_checked_instance() -> None:
    expected = Outer(count=2, shape=Inner(kind="inner", share=1.0, pair=(1.0, 2.0)), name=None)
    assert check(Outer, RIGHT, "") == expected
    assert check(Outer, RIGHT | {"shape": {"kind": "other"}, "limit": 0.5, "flag": True}, "").limit == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count=0: must be at least 1"),
        ({"count": 1.5}, "count=1.5: must be a whole number"),
        ({"count": True}, "count=True: must be a whole number"),
        ({"count": "3"}, "count=3: must be a whole number"),
        ({"coumt": 3}, "coumt=3: no such key; did you mean count? (--help explains the keys)"),
        ({"share": 3}, "share=3: no such key; did you mean shape.share? (--help explains the keys)"),
        ({"zzz": 3}, "zzz=3: no such key; --help explains the keys"),
        ({"shape": {"kind": "inner", "share": 1.1}}, "shape.share=1.1: must be at most 1"),
        ({"shape": {"kind": "inner", "share": float("nan")}}, "shape.share=nan: must be a finite number"),
        ({"shape": {"kind": "inner", "share": True}}, "shape.share=True: must be a finite number"),
        ({"shape": {"kind": "inner"}}, "shape.share: missing"),
        (
            {"shape": {"kind": "inner", "share": 1, "shar": 1}},
            "shape.shar=1: no such key with shape.kind=inner; did you mean shape.share?",
        ),
        ({"shape": {"kind": "inner", "share": 1, "pair": [1]}}, "shape.pair[1]: missing"),
        ({"shape": {"kind": "inner", "share": 1, "pair": [1, 0]}}, "shape.pair[1]=0: must be above 0"),
        ({"shape": {"kind": "inner", "share": 1, "pair": 1}}, "shape.pair=1: must be a list"),
        (
            {"shape": {"kind": "outer"}},
            "shape.kind=outer: must be one of inner, other; plugins=[MODULE] registers one of your own",
        ),
        ({"shape": 3}, "shape=3: must be a mapping whose kind is one of inner, other"),
        ({"name": 3}, "name=3: must be text"),
        ({"flag": 1}, "flag=1: must be true or false"),
        ({"limit": 0.0}, "limit=0: must be at least 1 or above 0"),
        ({"way": "in"}, "way=in: must be one of up, down, left or right"),
    ],
)
def test_a_wrong_value_is_one_line_with_key_value_and_remedy(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(Outer, RIGHT | change, "")
    assert str(error.value) == message


def test_fields_that_do_not_fit_together_are_named_with_their_group() -> None:
    noise = {"kind": "gaussian_range", "mean": 0.0, "low": 2.0, "high": 1.0}
    with pytest.raises(ConfigError, match=r"^noise.low=2: must be at most high=1$"):
        check(kinds.NoiseKind, noise, "noise")


def test_keys_are_those_of_every_choice() -> None:
    assert {
        "noise.sigma",
        "noise.probability",
        "data.root",
        "trainer.limit_train_batches",
        "latent",
    } <= schema.keys(config.Train)
