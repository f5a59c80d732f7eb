"""Figures of agreement against their analytic values, bounds against repetition."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core import agreement

REPEATS = 3000


@pytest.fixture
def rng():
    return np.random.default_rng(20240709)


def covered(estimates, truth: float) -> float:
    return float(np.mean([e.low <= truth <= e.high for e in estimates]))


def test_correlation_is_signal_over_signal_and_noise(rng):
    """V / (V + N), and CC* what the mean of the halves has with the truth."""
    signal = rng.normal(0.0, 2.0, 400_000)
    a, b = signal + rng.normal(0.0, 3.0, (2, len(signal)))
    cc = agreement.correlation(a, b)
    assert cc.value == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)
    assert cc.value == pytest.approx(4.0 / (4.0 + 9.0), abs=0.004)
    star = agreement.cc_star(cc)
    assert star.value == pytest.approx(np.sqrt(4.0 / (4.0 + 9.0 / 2)), abs=0.004)
    assert star.value == pytest.approx(np.corrcoef((a + b) / 2, signal)[0, 1], abs=4e-3)
    assert star.low < star.value < star.high


@pytest.mark.parametrize("draw", ["normal", "exponential", "standard_t"])
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_bounds_of_the_correlation_cover(rng, draw, noise):
    """68 % of repetitions, whatever the distribution; Fisher's do not on long tails."""
    arguments = {"standard_t": [9.0]}.get(draw, [])
    variance = {"standard_t": 9.0 / 7.0}.get(draw, 1.0)
    found = []
    for _ in range(REPEATS):
        signal = getattr(rng, draw)(*arguments, size=400)
        a, b = signal + rng.normal(0.0, noise, (2, 400))
        found.append(agreement.correlation(a, b))
    assert 0.66 <= covered(found, variance / (variance + noise**2)) <= 0.705


def test_bounds_of_normal_values_are_fishers(rng):
    a = rng.normal(size=100_000)
    b = a + rng.normal(size=len(a))
    cc = agreement.correlation(a, b)
    widths = np.arctanh([cc.high, cc.value, cc.low])
    assert -np.diff(widths) == pytest.approx(
        np.full(2, 1 / np.sqrt(len(a) - 3)), rel=0.03
    )


def test_r_split_of_normal_noise(rng):
    """sqrt(2) E|a - b| / 2 I = sqrt(2/pi) sigma_half / I."""
    a, b = rng.normal(50.0, 4.0, (2, 200_000))
    found = agreement.r_split(a, b)
    assert found.value == pytest.approx(np.sqrt(2 / np.pi) * 4.0 / 50.0, rel=0.01)
    repeats = [agreement.r_split(*rng.normal(50.0, 4.0, (2, 100))) for _ in range(3000)]
    assert 0.655 <= covered(repeats, np.sqrt(2 / np.pi) * 0.08) <= 0.705


def test_bounds_of_means_and_ratios_cover(rng):
    means = [agreement.mean(rng.exponential(3.0, 200)) for _ in range(REPEATS)]
    assert 0.66 <= covered(means, 3.0) <= 0.705
    ratios = []
    for _ in range(REPEATS):
        below = rng.gamma(4.0, size=200)
        ratios.append(
            agreement.ratio_of_means(below * rng.exponential(1.1, 200), below)
        )
    assert 0.66 <= covered(ratios, 1.1) <= 0.705


def test_what_has_no_meaning_is_nan(rng):
    few = np.arange(5.0)
    constant = np.ones(50)
    for found in (
        agreement.correlation(few, few),
        agreement.correlation(constant, rng.normal(size=50)),
        agreement.r_split(-constant, -constant),
        agreement.cc_star(agreement.Estimate(-0.1, -0.2, 0.1)),
    ):
        assert np.isnan([found.value, found.low, found.high]).all()


def test_equal_halves_agree_exactly():
    values = np.arange(40.0)
    found = agreement.correlation(values, 2 * values + 1)
    assert found.value == pytest.approx(1.0) and found.low == found.high
