"""Rates of few counts with outliers, against the rates that made them."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core.robust import clipped_rates

MEANS = (0.02, 0.1, 0.3, 0.5, 1.0, 2.0, 10.0, 300.0)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("tail", [1e-4, 1e-2])
def test_unbiased_at_any_mean(mean, tail):
    """Where the median is 100 % wrong, and for a clipping that removes 1 % of all."""
    rng = np.random.default_rng(1)
    exposure = rng.uniform(0.7, 1.3, 400_000)
    counts = rng.poisson(mean * exposure).astype(float)
    group = np.zeros(len(counts), int)
    (rate,), (variance,) = clipped_rates(counts, exposure, group, 1, tail)
    assert rate == pytest.approx(mean, abs=4 * np.sqrt(mean / exposure.sum()))
    assert variance == pytest.approx(mean / exposure.sum(), rel=0.15)


@pytest.mark.parametrize("mean", (0.1, 0.5, 2.0, 50.0))
def test_bright_and_dead_pixels_are_left_out(mean):
    rng = np.random.default_rng(2)
    counts = rng.poisson(mean, 200_000).astype(float)
    counts[:6000] += rng.exponential(2000.0, 6000)
    if mean > 20:
        counts[-6000:] = 0.0
    ones, group = np.ones(len(counts)), np.zeros(len(counts), int)
    (rate,), _ = clipped_rates(counts, ones, group, 1)
    assert rate == pytest.approx(mean, rel=0.01 if mean > 0.2 else 0.02)
    assert counts.mean() > 1.2 * mean


def test_errors_are_right():
    """3000 groups of few pixels: the pulls have a width of 1."""
    rng = np.random.default_rng(3)
    n, per_group = 3000, 60
    group = np.repeat(np.arange(n), per_group)
    counts = rng.poisson(1.0, n * per_group).astype(float)
    rate, variance = clipped_rates(counts, np.ones(len(counts)), group, n)
    pull = (rate - 1.0) / np.sqrt(1.0 / per_group)
    assert pull.mean() == pytest.approx(0.0, abs=0.06)
    assert pull.std() == pytest.approx(1.0, abs=0.05)
    assert variance.mean() == pytest.approx(1.0 / per_group, rel=0.02)


def test_a_spread_of_real_intensity_is_kept():
    rng = np.random.default_rng(4)
    truth = 1000.0 * rng.uniform(0.8, 1.2, 50_000)
    counts = rng.poisson(truth).astype(float)
    ones, group = np.ones(len(counts)), np.zeros(len(counts), int)
    (rate,), _ = clipped_rates(counts, ones, group, 1, spread=0.2)
    assert rate == pytest.approx(truth.mean(), rel=1e-3)


def test_groups_without_pixels_and_without_counts():
    rate, variance = clipped_rates(np.zeros(3), np.full(3, 2.0), np.array([0, 0, 2]), 3)
    np.testing.assert_array_equal(rate, [0.0, np.nan, 0.0])
    np.testing.assert_allclose(variance, [1 / 16, np.nan, 1 / 4], rtol=1e-3)
