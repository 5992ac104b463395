"""The notebook's experiments on the real images end where Keras 2 ends: `benchmarks/parity.py` with one seed."""

import os

import pytest

from benchmarks.parity import KERAS, ours, tolerance


@pytest.mark.slow
@pytest.mark.skipif("DAE_TEST_DATA" not in os.environ, reason="DAE_TEST_DATA names no folder of real images")
@pytest.mark.parametrize("experiment", KERAS)
def test_one_hundred_epochs_end_where_keras_2_ends(experiment: str) -> None:
    figures = ours(experiment, os.environ["DAE_TEST_DATA"], seed=0)
    far = {
        figure: (figures[figure], keras)
        for figure, keras in KERAS[experiment].items()
        if abs(figures[figure] - keras) > tolerance(figure)
    }
    assert not far
