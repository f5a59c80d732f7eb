"""Quick sums over rings, and bounds without logarithms, against plain ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import xlogy

from diffuse_core import poisson, quick_tests, ring_sums, scan, surroundings

SHAPE = 37, 45
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]


def arms_of(y, x):
    """(n_slow, n_fast) bool for each arm: strips 4 wide and 9 long, in turn."""
    dy, dx = Y - y, X - x
    above = (dy >= -6) & (dy <= -3) & (dx >= -6) & (dx <= 2)
    right = (dx >= 3) & (dx <= 6) & (dy >= -6) & (dy <= 2)
    below = (dy >= 3) & (dy <= 6) & (dx >= -2) & (dx <= 6)
    left = (dx >= -6) & (dx <= -3) & (dy >= -2) & (dy <= 6)
    return above, right, below, left


def image(full):
    rng = np.random.default_rng(41)
    counts = rng.poisson(3.0, SHAPE) * rng.choice([1, 1, 1, 40], SHAPE)
    used = np.ones(SHAPE, bool) if full else rng.random(SHAPE) > 0.3
    used[:, 30:34] &= full
    return counts.astype(np.float32), used


@pytest.mark.parametrize("full", [True, False])
def test_sums_of_arms_are_those_of_their_pixels(full):
    counts, used = image(full)
    flat = counts.ravel(), used.ravel(), SHAPE
    for y, x in np.argwhere(Y >= 0):
        arms = arms_of(y, x)
        pixels, photons = ring_sums.arm_sums(*flat, y, x)
        assert pixels == tuple(float(used[arm].sum()) for arm in arms)
        assert photons == tuple(float(counts[arm & used].sum()) for arm in arms)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("bits", [15, 5, 6])
def test_moments_are_those_of_the_pixels(full, bits):
    counts, used = image(full)
    for y, x in np.argwhere((Y % 3 == 0) | (X > 33)):
        arms = arms_of(y, x)
        ring = used & np.any([arms[i] for i in range(4) if bits >> i & 1], axis=0)
        n = counts[ring].astype(float)
        halo = np.exp(-0.5 * ((Y - y) ** 2 + (X - x) ** 2)[ring] / 2.6**2)
        found = ring_sums.moments(
            counts.ravel(), used.ravel(), SHAPE, y, x, float(ring.sum()), bits
        )
        expected = (n**2).sum(), halo.sum(), (halo**2).sum(), (halo * n).sum()
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("full", [True, False])
def test_the_middle_arms_tell_the_level(full):
    """Neither the brightest nor the faintest of four, not the brightest of three."""
    counts, used = image(full)
    used[:12, :12] = False
    for y, x in np.argwhere(Y >= 0):
        arms = [arm & used for arm in arms_of(y, x)]
        means = sorted(
            (counts[arm].mean(), i) for i, arm in enumerate(arms) if arm.any()
        )
        chosen = (
            means[1:-1] if len(means) == 4 else means[: 2 if len(means) == 3 else 3]
        )
        ring = np.any([np.zeros(SHAPE, bool)] + [arms[i] for _, i in chosen], axis=0)
        k, mean, _ = surroundings.ring_mean(
            counts.ravel(), used.ravel(), SHAPE, y, x, True
        )
        if ring.sum() < 12:
            assert k == 0.0
        else:
            assert mean == pytest.approx(counts[ring].mean(), rel=1e-6)


def test_most_disagreement_is_a_near_bound():
    n, mean = np.meshgrid(np.linspace(0, 80, 401), np.geomspace(1e-3, 80, 200))
    law = 13.4 * (xlogy(n, n / mean) - n + mean)
    most = np.vectorize(poisson.most_disagreement)(n, 13.4, mean)
    assert (most >= law - 1e-10).all()
    near = abs(n - mean) < mean
    np.testing.assert_allclose(most[near], law[near], rtol=0.03, atol=1e-6)
    assert poisson.most_disagreement(1.0, 13.4, 0.0) == np.inf


def test_no_place_is_ruled_out_that_stands_out():
    limit, k, m = 9.2, 144.0, 13.4
    out = 0
    for here in np.geomspace(1e-4, 30, 60):
        for n in np.linspace(0, 6 * here + 3, 200):
            if quick_tests.place_stands_out(n, m, here, k, limit):
                out += 1
                mean = (k * here + m * n) / (k + m)
                far = (n - mean) ** 2 * m >= 1.5 * limit * mean
                may = quick_tests.place_may_stand_out(n, m, mean, here, limit)
                assert may == far
    assert out > 1000


def test_keys_are_put_in_order():
    keys = np.random.default_rng(42).permutation(SHAPE[0] * SHAPE[1])[:300]
    np.testing.assert_array_equal(keys[scan.in_order(keys, SHAPE)], np.sort(keys))
