"""The weighted mean is unbiased at any count, its errors and its chi-squared right."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core.estimator import (
    RAW,
    half_columns,
    ratio_of_sums,
    scatter,
    voxel_sums,
    weighted_mean,
)
from diffuse_core.grid import Grid, keys_of
from diffuse_core.merge import finish, sums_of

N_VOXELS, N_OBSERVATIONS = 6000, 40
STARTS = np.arange(N_VOXELS + 1) * N_OBSERVATIONS


def measure(mean: float, seed: int = 1):
    """Observations of voxels whose truth differs from the smooth I0 by up to 3 times.

    Scales vary by 30 %, C is as large as I, and the backgrounds are estimates with
    errors of their own. `mean` is the mean of the counts from I.
    """
    rng = np.random.default_rng(seed)
    n = N_VOXELS * N_OBSERVATIONS
    truth = 5.0 * np.exp(rng.uniform(np.log(0.33), np.log(3.0), N_VOXELS))
    i = np.repeat(truth, N_OBSERVATIONS)
    crystal, path = rng.uniform(0.7, 1.3, (2, n))
    offset = rng.uniform(0.0, 10.0, n)
    exposure = rng.uniform(0.3, 1.7, n) * mean / truth.mean()
    background = rng.uniform(0.0, 0.5, n) * mean
    counts = rng.poisson(exposure * path * (crystal * i + offset) + background)
    variance = (0.05 * background) ** 2
    estimate = background + rng.normal(size=n) * np.sqrt(variance)
    raw = (counts, exposure, estimate, variance, np.ones(n))
    return truth, raw, (crystal, path, offset, np.full(n, 5.0))


@pytest.mark.parametrize("mean", [0.2, 1.0, 5.0, 50.0, 500.0])
def test_no_bias_and_right_errors_at_any_count(mean):
    truth, raw, scales = measure(mean)
    sums = voxel_sums(STARTS, raw, scales)
    intensity, sigma = weighted_mean(sums)
    weight = 1.0 / sigma.mean() ** 2 * np.ones(N_VOXELS)
    bias = np.average(intensity / truth - 1, weights=weight)
    error = np.std(intensity / truth - 1) / np.sqrt(N_VOXELS)
    assert abs(bias) < max(0.005, 3 * error)
    pull = (intensity - truth) / sigma
    if mean >= 1:
        assert 0.95 < pull.std() < 1.05
        assert abs(pull.mean()) < 0.15


@pytest.mark.parametrize("mean", [0.2, 5.0, 500.0])
def test_scatter_of_mates_is_what_their_variances_let_expect(mean):
    """chi-squared is 1 from 0.2 to 500 counts, and grows with errors of the scales."""
    _, raw, scales = measure(mean)
    found, expected = scatter(voxel_sums(STARTS, raw, scales))
    ratio = found.sum() / expected.sum()
    spread = np.std(found - ratio * expected) * np.sqrt(N_VOXELS) / expected.sum()
    assert abs(ratio - 1) < max(0.02, 3 * spread)
    if mean == 500:
        wrong = np.random.default_rng(2).normal(1.0, 0.05, len(scales[0]))
        found, expected = scatter(
            voxel_sums(STARTS, raw, (scales[0] * wrong, *scales[1:]))
        )
        assert found.sum() / expected.sum() > 1.3


@pytest.mark.parametrize("mean", [1.0, 50.0])
def test_ratio_of_sums_has_the_same_chi_squared(mean):
    truth, raw, _ = measure(mean)
    rng = np.random.default_rng(4)
    expected_counts = raw[1] * np.repeat(truth, N_OBSERVATIONS) + raw[2]
    counts = rng.poisson(expected_counts)
    sums = voxel_sums(STARTS, (counts, raw[1], raw[2], 0 * raw[3], raw[4]))
    found, expected = scatter(sums)
    assert found.sum() / expected.sum() == pytest.approx(1.0, abs=0.03)
    assert weighted_mean(sums)[0] == pytest.approx(ratio_of_sums(*first(sums))[0])


def first(sums):
    return [sums[name] for name in RAW[:4]]


def test_weighting_is_better_than_the_ratio_of_sums():
    """Where offsets and backgrounds of observations differ much."""
    truth, raw, scales = measure(20.0)
    crystal, path, offset, _ = scales
    spread = []
    for background in (raw[2] * 0, raw[2] * 40 * (np.arange(len(path)) % 2)):
        rng = np.random.default_rng(8)
        rate = raw[1] * path * (crystal * np.repeat(truth, N_OBSERVATIONS) + offset)
        counts = rng.poisson(rate + background)
        data = (counts, raw[1], background, 0 * background, raw[4])
        weighted, _ = weighted_mean(voxel_sums(STARTS, data, scales))
        total = np.add.reduceat
        x, s = raw[1] * path * crystal, STARTS[:-1]
        ratio = total(counts - background - raw[1] * path * offset, s) / total(x, s)
        spread.append(np.std(weighted - truth) / np.std(ratio - truth))
    assert spread[0] < 1.0
    assert spread[1] < 0.85


def test_weights_do_not_follow_counts():
    """The same observations with other counts have the same sums of weights."""
    _, raw, scales = measure(1.0)
    one = voxel_sums(STARTS, raw, scales)
    two = voxel_sums(STARTS, (raw[0][::-1].copy(), *raw[1:]), scales)
    for name in ("weight", "weight_square", "variance_rest", "scatter_signal"):
        assert np.array_equal(one[name], two[name])


def test_halves_add_up_to_the_whole():
    _, raw, scales = measure(2.0)
    half = (np.random.default_rng(3).random(len(raw[0])) < 0.5).astype(np.int8)
    half[:N_OBSERVATIONS] = 1
    sums = voxel_sums(STARTS, raw, scales, {"random": half})
    keys = keys_of(np.arange(N_VOXELS)[:, None] * [1, 0, 0])
    merged = finish(keys, dict(sums), Grid("hkl", (1, 1, 1)), estimator="weighted")
    assert merged.half_kinds == ("random",)
    for which in (0, 1):
        mine = half == which
        rows = np.add.reduceat(mine, STARTS[:-1])
        starts = np.concatenate([[0], np.cumsum(rows)])
        part = voxel_sums(
            starts, tuple(v[mine] for v in raw), tuple(v[mine] for v in scales)
        )
        intensity, sigma = merged.half("random", which)
        seen = rows > 0
        assert seen[1:].all() and seen[0] == (which == 1)
        assert np.isnan(intensity[~seen]).all() and np.isnan(sigma[~seen]).all()
        expected, errors = (v[seen] for v in weighted_mean(sums_at(part, seen)))
        assert intensity[seen] == pytest.approx(expected)
        assert np.median(sigma[seen] / errors) == pytest.approx(1.0, abs=0.02)
    assert set(sums_of(merged)) == set(sums)
    assert len(half_columns("random")) == 3


def sums_at(part, seen):
    return {name: np.where(seen, values, 1.0) for name, values in part.items()}


def test_observations_without_signal_are_left_out():
    """A scale of 0 makes no infinite weight."""
    raw = tuple(np.array(v, float) for v in ([3, 4], [1, 1], [0, 0], [0, 0], [1, 1]))
    scales = tuple(np.array(v, float) for v in ([1, 0], [1, 1], [0, 0], [2, 2]))
    sums = voxel_sums(np.array([0, 2]), raw, scales)
    assert weighted_mean(sums)[0].tolist() == [3.0]
    assert sums["counts"].tolist() == [7.0]


def test_nothing_counted_is_not_nothing_known():
    """Sigma of zero counts is that of one photon, whatever the weights."""
    scales = (np.array([1.0, 2.0]), np.array([0.5, 1.0]), np.zeros(2), np.ones(2))
    zeros = np.zeros(2)
    raw = (zeros, np.array([3.0, 4.0]), zeros, zeros, np.ones(2))
    intensity, sigma = weighted_mean(voxel_sums(np.array([0, 2]), raw, scales))
    exposure = 3.0 * 0.5 * 1.0 + 4.0 * 1.0 * 2.0
    assert intensity.tolist() == [0.0]
    assert sigma == pytest.approx([1.0 / exposure])
    single = ratio_of_sums(*(np.array([v]) for v in (0.0, exposure, 0.0, 0.0)))
    assert single[1] == pytest.approx(sigma)
