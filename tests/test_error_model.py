"""The error model finds what was put into made-up observations."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core.error_model import Spread, fit_error_model
from diffuse_core.estimator import scatter, voxel_sums


@pytest.fixture
def rng():
    return np.random.default_rng(20240710)


def made_up(rng, voxels=20_000, gain=1.0, relative=0.0, weighted=False, mean=8.0):
    """Spread, intensity and sigma of Poisson counts, scales wrong by `relative`."""
    seen = rng.integers(1, 12, voxels)
    starts = np.concatenate([[0], np.cumsum(seen)])
    average = rng.uniform(0.3, 1.7, voxels)
    truth = np.repeat(average * rng.gamma(2.0, 0.5, voxels), seen)
    n = len(truth)
    exposure = rng.uniform(0.2, 2.0, n) * mean
    background = rng.uniform(0.0, 0.6, n) * exposure
    scale = np.maximum(1.0 + relative * rng.normal(size=n), 0.0)
    counts = gain * rng.poisson((exposure * truth * scale + background) / gain)
    raw = (counts, exposure, background, np.zeros(n), np.ones(n))
    one = np.ones(n)
    scales = (one, one, 0 * one, one) if weighted else None
    sums = voxel_sums(starts, raw, scales)
    weight = exposure if not weighted else 1 / (1 / exposure + background / exposure**2)
    squares = np.add.reduceat(weight**2, starts[:-1])
    found, expected = scatter(sums)
    intensity = sums["weighted"] / sums["weight"]
    variance = (sums["counts"] + 1) / sums["exposure"] ** 2
    unit = sums["weight"] - squares / sums["weight"]
    return Spread(found, expected, unit), intensity, np.sqrt(variance), average


def within(estimate, truth, widths=4.0):
    error = 0.5 * (estimate.high - estimate.low)
    return abs(estimate.value - truth) < widths * error


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mean", [0.3, 8.0, 500.0])
def test_right_errors_are_called_right(rng, mean, weighted):
    model = fit_error_model(*made_up(rng, mean=mean, weighted=weighted))
    assert model.sigma_scale.value == pytest.approx(1.0, abs=0.01)
    assert within(model.sigma_scale, 1.0)
    assert model.relative.value < 0.05 and model.beyond.low < 0.05
    for part in model.bins:
        assert within(part.chi_squared, 1.0, 5.0)
    assert model.reason == (
        "Symmetry mates agree as counting allows: the sigmas are right."
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_wrong_scales_grow_with_intensity(rng, weighted):
    model = fit_error_model(*made_up(rng, mean=200.0, relative=0.1, weighted=weighted))
    assert model.relative.value == pytest.approx(0.1, rel=0.1)
    assert within(model.relative, 0.1)
    assert model.factor.value == pytest.approx(1.0, abs=0.1)
    assert model.bins[-1].chi_squared.value > 2 * model.bins[0].chi_squared.value
    assert "% of the intensity beyond counting" in model.reason
    assert within(model.beyond, 0.1)


def test_noise_of_intensities_is_no_part_of_what_the_error_is_relative_to(rng):
    """Intensities of few counts: their mean square is that of signal and noise."""
    model = fit_error_model(*made_up(rng, 100_000, relative=0.4, mean=0.25))
    assert model.beyond.value == pytest.approx(0.4, rel=0.12)


@pytest.mark.parametrize(("gain", "word"), [(4.0, "gain"), (0.5, "not independent")])
def test_counts_that_are_no_photons(rng, gain, word):
    model = fit_error_model(*made_up(rng, gain=gain))
    assert model.factor.value == pytest.approx(np.sqrt(gain), rel=0.02)
    assert model.sigma_scale.value == pytest.approx(np.sqrt(gain), rel=0.02)
    assert word in model.reason and "at all intensities" in model.reason


def test_both_at_once(rng):
    model = fit_error_model(*made_up(rng, mean=200.0, gain=2.0, relative=0.07))
    assert model.relative.value == pytest.approx(0.07, rel=0.15)
    assert model.factor.value == pytest.approx(np.sqrt(2.0), rel=0.05)
    assert model.reason.count(";") == 1


def test_bounds_cover(rng):
    """Of the relative error and the factor, over repetitions."""
    found = [
        fit_error_model(*made_up(rng, voxels=2000, mean=60.0, relative=0.1))
        for _ in range(300)
    ]
    for name, truth in (("relative", 0.1), ("factor", 1.0)):
        bounds = [getattr(model, name) for model in found]
        hits = np.mean([b.low <= truth <= b.high for b in bounds])
        assert 0.60 < hits < 0.76, name


def test_a_few_wild_voxels_are_neither(rng):
    """Bragg peaks in 2 % of the voxels: strong ones, of all intensities."""
    spread, intensity, sigma, average = made_up(rng, mean=200.0)
    wild = rng.random(len(intensity)) < 0.02
    wild &= intensity > np.median(intensity)
    spread.found[wild] *= 300.0
    model = fit_error_model(spread, intensity, sigma, average)
    assert model.misfit > 4.0 and "neither one factor" in model.reason
    good = fit_error_model(*made_up(rng, mean=200.0, relative=0.1))
    assert good.misfit < 3.0


def test_no_mates_at_all():
    zeros = np.zeros(100)
    model = fit_error_model(
        Spread(zeros, zeros, zeros), zeros + 1, zeros + 1, zeros + 1
    )
    assert "no symmetry mates" in model.reason and np.isnan(model.sigma_scale.value)


def test_few_mates_say_so(rng):
    model = fit_error_model(*made_up(rng, voxels=60))
    assert model.bins == () and "too few" in model.reason
    assert np.isnan(model.factor.value)
