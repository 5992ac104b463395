"""The experiments on 8,000 real images, one seed: the notebook's end where Keras 2 does, and the fast ones there too.

A quick check; the official data have benchmarks/parity.py and benchmarks/time_to_quality.py.
"""

import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from benchmarks.parity import Figures, figures_in, tolerance
from dae_lightning import config
from dae_lightning.cli.hydra_app import CONF, checked
from dae_lightning.training.run import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("DAE_TEST_DATA" not in os.environ, reason="DAE_TEST_DATA names no folder of real images"),
]

# tf_keras 2.21, mean of three seeds, on the first 8,000 / 4,000 images
KERAS = {
    "notebook_sigma2": {
        "train/loss, epoch 1": 0.454,
        "train/loss, epoch 10": 0.370,
        "train/loss, epoch 100": 0.3597,
        "reconstruction/bce": 0.3256,
        "reconstruction/psnr": 16.37,
        "denoising/bce": 0.3638,
        "denoising/psnr": 14.52,
    },
    "notebook_sigma6": {
        "train/loss, epoch 1": 0.650,
        "train/loss, epoch 10": 0.468,
        "train/loss, epoch 100": 0.4621,
        "reconstruction/bce": 0.4328,
        "reconstruction/psnr": 12.36,
        "denoising/bce": 0.4624,
        "denoising/psnr": 11.71,
    },
}


def trained(experiment: str, folder: Path) -> Figures:
    overrides = [f"experiment={experiment}", "data=idx", f"data.root={os.environ['DAE_TEST_DATA']}", "figures=false"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        train(checked(compose("train", overrides), config.Train), folder)
    return figures_in(folder)


@pytest.mark.parametrize("experiment", KERAS)
def test_one_hundred_epochs_end_where_keras_2_ends(experiment: str, tmp_path: Path) -> None:
    ours = trained(experiment, tmp_path)
    keras = KERAS[experiment]
    assert {name: (ours[name], keras[name]) for name in keras if abs(ours[name] - keras[name]) > tolerance(name)} == {}


@pytest.mark.parametrize("sigma", ["sigma2", "sigma6"])
def test_the_fast_experiments_reach_the_notebooks_quality(sigma: str, tmp_path: Path) -> None:
    quality = KERAS[f"notebook_{sigma}"]["denoising/bce"]
    assert trained(f"fast_{sigma}", tmp_path)["denoising/bce"] <= quality
