"""The laws of the corruption processes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dae_lightning import GaussianNoise, GaussianRange, MaskingNoise, SaltAndPepperNoise
from dae_lightning.model.noise import Noise, corrupt_each
from dae_lightning.randomness import generator
from dae_lightning.schema import KINDS

PROCESSES = [
    GaussianNoise(0.1, 2.0),
    GaussianRange(0.1, 0.5, 6.0),
    GaussianRange(0.1, 0.5, 6.0, median=1.0),
    MaskingNoise(0.3),
    SaltAndPepperNoise(0.3),
]
each_process = pytest.mark.parametrize("noise", PROCESSES, ids=lambda noise: noise.kind)
CLEAN = torch.rand(40, 28, 28, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1  # in [0.1, 0.9]


@each_process
def test_noise_is_silent_in_evaluation(noise: Noise) -> None:
    assert noise.eval()(CLEAN) is CLEAN


@each_process
def test_noise_acts_in_training_and_leaves_its_input_alone(noise: Noise) -> None:
    before = CLEAN.clone()
    noisy = noise.train()(CLEAN, generator(0))
    assert noisy.shape == CLEAN.shape
    assert not torch.equal(noisy, CLEAN)
    assert torch.equal(CLEAN, before)


@each_process
def test_one_generator_gives_one_noise_and_the_global_one_is_left_alone(noise: Noise) -> None:
    state = torch.get_rng_state()
    assert torch.equal(noise.corrupt(CLEAN, generator(3)), noise.corrupt(CLEAN, generator(3)))
    assert not torch.equal(noise.corrupt(CLEAN, generator(3)), noise.corrupt(CLEAN, generator(4)))
    assert torch.equal(torch.get_rng_state(), state)


@each_process
def test_settings_make_the_same_process_again(noise: Noise) -> None:
    again = Noise.of(noise.settings())
    assert type(again) is type(noise)
    assert again.settings() == noise.settings()


@given(mean=st.floats(-2, 2), sigma=st.floats(0, 10), seed=st.integers(0, 2**31))
def test_gaussian_noise_has_its_mean_and_sigma_and_is_not_clipped(mean: float, sigma: float, seed: int) -> None:
    noise = (GaussianNoise(mean, sigma).corrupt(CLEAN, generator(seed)) - CLEAN).double()
    n = noise.numel()
    # six standard errors, and the rounding of float32 sums
    assert abs(noise.mean() - mean) <= 6 * sigma / math.sqrt(n) + 1e-6 * (1 + abs(mean))
    assert abs(noise.std() - sigma) <= 6 * sigma / math.sqrt(2 * n) + 1e-6 * (1 + abs(mean))
    if sigma > 1:
        assert (CLEAN + noise).min() < -0.5
        assert (CLEAN + noise).max() > 1.5


def test_a_range_of_noise_has_one_log_uniform_sigma_per_image() -> None:
    n, low, high, mean = 4000, 0.5, 6.0, 0.25
    clean = torch.rand(n, 20, 20, generator=generator(1))
    noise = (GaussianRange(mean, low, high).corrupt(clean, generator(0)) - clean).double().flatten(1)
    sigma = noise.std(1)
    # within an image the halves share one sigma: their ratio is that of two estimates from 200 numbers
    ratio = (noise[:, :200].std(1) / noise[:, 200:].std(1)).log()
    assert abs(ratio.mean()) < 6 * 0.071 / math.sqrt(n)
    assert ratio.std() == pytest.approx(math.sqrt(2 / (2 * 200)), rel=0.06)
    # over the images log sigma is uniform: its quantiles are straight (Kolmogorov's distance)
    uniform = (sigma.log() - math.log(low)) / math.log(high / low)
    distance = (uniform.sort().values - (torch.arange(n) + 0.5) / n).abs().max()
    assert distance < 1.95 / math.sqrt(n)  # exceeded once in a thousand
    assert abs(noise.mean() - mean) < 6 * math.sqrt((sigma**2).mean()) / math.sqrt(noise.numel())


def test_a_range_with_a_median_is_log_normal_within_it() -> None:
    n, low, high, median = 4000, 0.03, 8.0, 1.0
    _, sigma = GaussianRange(0.0, low, high, median=median).corrupt_and_tell(torch.zeros(n, 1), generator(0))
    assert sigma.amin() >= low * (1 - 1e-6)
    assert sigma.amax() == pytest.approx(high, rel=1e-5)  # where 7 % of them lie
    spread = math.log(high / low) / 4
    quantile = torch.distributions.Normal(math.log(median), spread).cdf(sigma.log().sort().values)
    inside = quantile < 0.9
    distance = (quantile - (torch.arange(n) + 0.5) / n).abs()[inside].max()
    assert distance < 1.95 / math.sqrt(n)  # exceeded once in a thousand


def test_a_range_of_no_width_is_gaussian_noise() -> None:
    noise = GaussianRange(0.5, 2.0, 2.0).corrupt(CLEAN, generator(0)) - CLEAN
    assert abs(noise.mean() - 0.5) < 6 * 2 / math.sqrt(noise.numel())
    assert noise.flatten(1).std(1).numpy() == pytest.approx(2, abs=6 * 2 / math.sqrt(2 * 784))


@given(probability=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_masking_sets_its_share_of_pixels_to_zero_and_no_other(probability: float, seed: int) -> None:
    noisy = MaskingNoise(probability).corrupt(CLEAN, generator(seed))
    masked = noisy != CLEAN
    assert bool((noisy[masked] == 0).all())
    # six standard deviations and two pixels: rare hits are Poisson's, and a float32 draw of 24 bits can be 0 itself
    bound = 6 * math.sqrt(probability * (1 - probability) / CLEAN.numel()) + 2 / CLEAN.numel()
    assert abs(masked.double().mean() - probability) <= bound


@given(probability=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_salt_and_pepper_are_equally_likely(probability: float, seed: int) -> None:
    noisy = SaltAndPepperNoise(probability).corrupt(CLEAN, generator(seed))
    hit = noisy != CLEAN
    assert set(noisy[hit].unique().tolist()) <= {0.0, 1.0}
    half = probability / 2
    bound = 6 * math.sqrt(half * (1 - half) / CLEAN.numel()) + 1e-9
    for value in (0.0, 1.0):
        assert abs((noisy[hit] == value).double().sum() / CLEAN.numel() - half) <= bound


@each_process
def test_evaluation_noise_is_a_function_of_the_image_not_of_its_batch(noise: Noise) -> None:
    indices = torch.arange(40)
    whole = corrupt_each(noise, CLEAN, 5, indices)
    chosen = torch.tensor([31, 2, 17])
    assert torch.equal(corrupt_each(noise, CLEAN[chosen], 5, chosen), whole[chosen])
    assert not torch.equal(corrupt_each(noise, CLEAN, 6, indices), whole)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianNoise(0, -1), "sigma=-1: must be at least 0"),
        (lambda: GaussianNoise(math.nan, 1), "mean=nan: must be a finite number"),
        (lambda: GaussianRange(0, 0, 1), "low=0: must be above 0"),
        (lambda: GaussianRange(0, 3, 2), "low=3: must be at most high=2"),
        (lambda: GaussianRange(0, 1, 2, median=3), "median=3: must be from low=1 to high=2"),
        (
            lambda: Noise.of({"kind": "gaussian_range", "mean": 0, "low": 3, "high": 2}),
            "noise.low=3: must be at most high=2",
        ),
        (lambda: MaskingNoise(1.5), "probability=1.5: must be at most 1"),
        (lambda: Noise.of({"kind": "pink"}), "noise.kind=pink: must be one of gaussian"),
        (lambda: Noise.of({"kind": "gaussian", "sigma": 1}), "noise.mean: missing"),
        (lambda: Noise.of({"kind": "masking", "sigma": 1}), "noise.sigma=1: no such key"),
    ],
)
def test_wrong_parameters_are_refused_by_name(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


def test_every_process_has_its_name_in_the_table() -> None:
    assert {noise.kind for noise in PROCESSES} <= KINDS["noise"].keys()
