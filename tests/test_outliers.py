"""The test of outliers against exact conditional tests and made-up faults."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from diffuse_core.outliers import _Test, find_outliers
from diffuse_core.rows import DTYPES, Rows, rows_of
from diffuse_core.scale_model import Curve, Scales

FLAT = Curve(np.array([0.1]), np.array([1.0]))


def rows_from(counts: np.ndarray, exposure: float = 1.0) -> Rows:
    """Rows of m voxels with k observations each, counts (m, k), no background."""
    m, k = counts.shape
    columns = {name: np.zeros(m * k, dtype) for name, dtype in DTYPES.items()}
    columns["key"] = np.repeat(np.arange(m), k)
    columns["counts"] = counts.ravel().astype(float)
    columns["exposure"] = np.full(m * k, exposure)
    columns["s"] = np.full(m * k, 0.1, np.float32)
    return rows_of(columns)


def neutral(n: int) -> Scales:
    return Scales(np.ones(n), np.ones(n), np.zeros(n))


@pytest.mark.parametrize("counts", [[9, 1, 2], [60, 20, 30], [0, 12, 9], [2, 30, 25]])
def test_without_background_it_is_the_exact_test_of_two_rates(counts):
    """Given the sum of all, the counts of one are binomial with p = 1/3."""
    rows = rows_from(np.array([counts]))
    test = _Test(rows, neutral(3), FLAT)
    chance, _, above = test.probabilities(np.ones(3, bool), np.ones(3, bool), 0.0)
    n, total = counts[0], sum(counts)
    exact = (
        stats.binom.sf(n - 1, total, 1 / 3)
        if above[0]
        else stats.binom.cdf(n, total, 1 / 3)
    )
    assert above[0] == (n > total / 3)
    assert chance[0] == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("mean", [30.0, 500.0])
def test_good_observations_go_as_often_as_was_asked_for(mean):
    rng = np.random.default_rng(1)
    rows = rows_from(rng.poisson(mean, (8000, 5)), mean)
    found = find_outliers(rows, neutral(len(rows)), FLAT, 0.01, 0.0)
    lost = np.mean(~found.keep)
    print("lost", lost, found.figures())
    assert 0.006 < lost < 0.0105
    assert 0.5 < found.high / found.low < 2.0
    assert np.array_equal(found.upward, ~found.keep & (rows.counts > mean))


def test_only_the_wild_one_of_a_voxel_goes():
    """It makes all the others look too low."""
    counts = np.tile([100, 104, 97, 5000, 101], (50, 1))
    found = find_outliers(rows_from(counts, 100.0), neutral(250), FLAT, 8e-4, 0.0)
    assert np.array_equal(np.flatnonzero(~found.keep), np.arange(3, 250, 5))
    assert (found.high, found.low, found.tested) == (50, 0, 250)


def test_of_two_nobody_can_tell_which_is_wrong():
    found = find_outliers(rows_from(np.array([[10, 900]])), neutral(2), FLAT)
    assert found.keep.all() and found.tested == 0


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.1])
def test_scatter_of_mates_beyond_counting_is_measured(spread):
    rng = np.random.default_rng(2)
    mean = 5000.0 * (1.0 + spread * rng.normal(size=(4000, 6)))
    rows = rows_from(rng.poisson(mean), 5000.0)
    found = find_outliers(rows, neutral(len(rows)), FLAT)
    print("tolerance", found.tolerance)
    assert found.tolerance == pytest.approx(spread, rel=0.25, abs=0.004)
    assert np.mean(~found.keep) < 0.004
