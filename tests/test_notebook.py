"""The experiments on the real images, one seed: the notebook's end where Keras 2 ends, the fast ones where it ends."""

import os

import pytest

from benchmarks.parity import KERAS, ours, tolerance
from benchmarks.time_to_quality import QUALITY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("DAE_TEST_DATA" not in os.environ, reason="DAE_TEST_DATA names no folder of real images"),
]


@pytest.mark.parametrize("experiment", KERAS)
def test_one_hundred_epochs_end_where_keras_2_ends(experiment: str) -> None:
    figures = ours(experiment, os.environ["DAE_TEST_DATA"], seed=0)
    far = {
        figure: (figures[figure], keras)
        for figure, keras in KERAS[experiment].items()
        if abs(figures[figure] - keras) > tolerance(figure)
    }
    assert not far


@pytest.mark.parametrize("experiment", QUALITY)
def test_the_fast_experiments_reach_the_notebooks_quality(experiment: str) -> None:
    assert ours(experiment, os.environ["DAE_TEST_DATA"], seed=0)["denoising/bce"] <= QUALITY[experiment]
