"""Shells, correlation, spherical average and the straight line."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core import statistics


@pytest.fixture
def rng():
    return np.random.default_rng(20240601)


def points_in_a_ball(rng, n, radius=0.8):
    """|s| of points that fill reciprocal space evenly."""
    return radius * np.cbrt(rng.random(n))


def test_shells_have_equal_volume():
    edges = statistics.shell_edges(0.1, 0.8, 7)
    assert edges[0] == pytest.approx(0.1)
    assert edges[-1] == pytest.approx(0.8)
    assert np.diff(edges**3) == pytest.approx(np.full(7, (0.8**3 - 0.1**3) / 7))


def test_shell_numbers_cover_both_ends():
    edges = np.array([0.1, 0.2, 0.4])
    s = np.array([0.05, 0.1, 0.15, 0.2, 0.4, 0.41])
    assert statistics.shell_numbers(s, edges).tolist() == [-1, 0, 0, 1, 1, -1]


def test_correlation_is_numpys(rng):
    a = rng.normal(size=500) + 100
    b = 0.3 * a + rng.normal(size=500)
    assert statistics.correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize("a", [[1.0, 2.0], [2.0, 2.0, 2.0]])
def test_correlation_without_meaning_is_nan(a):
    assert np.isnan(statistics.correlation(np.array(a), np.arange(len(a)) * 1.0))


def test_spherical_average_is_exact_for_a_straight_line(rng):
    s = points_in_a_ball(rng, 30_000)
    average = statistics.spherical_average(s, 5.0 - 3.0 * s)
    assert len(average.nodes) > 100
    assert average(s) == pytest.approx(5.0 - 3.0 * s, abs=1e-9)


def test_spherical_average_follows_a_ring(rng):
    """A ring like that of water: h^2/12 times the second derivative is the limit."""
    s = points_in_a_ball(rng, 100_000)
    ring = np.exp(-0.5 * ((s - 0.32) / 0.04) ** 2)
    rest = ring - statistics.spherical_average(s, ring)(s)
    width = np.ptp(s) / statistics.MOST_NODES
    assert np.abs(rest).max() < 2.0 * width**2 / 12 / 0.04**2
    assert rest.std() < 1e-3


def test_spherical_average_keeps_the_anisotropic_part(rng):
    """Few voxels in an interval must not follow their noise: n - nodes are left."""
    s = points_in_a_ball(rng, 4000)
    noise = rng.normal(size=4000)
    average = statistics.spherical_average(s, noise)
    assert len(average.nodes) <= 4000 / statistics.FEWEST_IN_INTERVAL + 1
    left = (noise - average(s)).var() * 4000 / (4000 - len(average.nodes))
    assert left == pytest.approx(1.0, abs=4 * np.sqrt(2 / 4000))


@pytest.mark.parametrize("n", [1, 2, 5, 90])
def test_spherical_average_of_few_voxels(rng, n):
    s = points_in_a_ball(rng, n)
    average = statistics.spherical_average(s, 2.0 + s)
    assert average(s) == pytest.approx(2.0 + s, abs=1e-6)


def test_spherical_average_of_equal_s():
    average = statistics.spherical_average(np.full(4, 0.3), np.array([1.0, 2, 3, 6]))
    assert average(np.array([0.1, 0.3])) == pytest.approx([3.0, 3.0])


def test_spherical_average_of_nothing():
    with pytest.raises(ValueError, match="at least one"):
        statistics.spherical_average(np.empty(0), np.empty(0))


def test_line_without_noise_in_x_is_weighted_least_squares(rng):
    x = rng.uniform(0, 10, 200)
    sigma = rng.uniform(0.5, 2, 200)
    y = 2.5 * x - 4 + sigma * rng.normal(size=200)
    line = statistics.fit_line(x, y, np.zeros(200), sigma**2)
    values, covariance = np.polyfit(x, y, 1, w=1 / sigma, cov="unscaled")
    assert (line.scale, line.offset) == pytest.approx(tuple(values), rel=1e-9)
    errors = np.sqrt(np.diag(covariance))
    assert (line.scale_error, line.offset_error) == pytest.approx(tuple(errors))


def test_line_of_pearson_and_york():
    """The published solution of the data of Pearson with the weights of York.

    D. York et al., Am. J. Phys. 72, 367 (2004), table II: slope -0.480533407(58),
    intercept 5.47991022(30).
    """
    x = np.array([0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4])
    y = np.array([5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5])
    weight_x = np.array([1000, 1000, 500, 800, 200, 80, 60, 20, 1.8, 1.0])
    weight_y = np.array([1, 1.8, 4, 8, 20, 20, 70, 70, 100, 500.0])
    line = statistics.fit_line(x, y, 1 / weight_x, 1 / weight_y)
    assert line.scale == pytest.approx(-0.480533407, abs=1e-8)
    assert line.offset == pytest.approx(5.47991022, abs=1e-7)
    assert line.scale_error == pytest.approx(0.0580, abs=1e-3)
    assert line.offset_error == pytest.approx(0.295, abs=5e-3)


@pytest.mark.parametrize("with_offset", [True, False])
def test_line_is_unbiased_and_its_errors_are_right(rng, with_offset):
    """Noise in x as large as its spread would halve the slope of least squares."""
    offset = 3.0 if with_offset else 0.0
    truth = rng.normal(5.0, 1.0, 2000)
    pulls = []
    for _ in range(200):
        x = truth + rng.normal(size=2000)
        y = 2.0 * truth + offset + 0.5 * rng.normal(size=2000)
        ones = np.ones(2000)
        line = statistics.fit_line(x, y, ones, 0.25 * ones, with_offset)
        pulls.append((line.scale - 2.0) / line.scale_error)
        if with_offset:
            pulls[-1] += 1j * (line.offset - offset) / line.offset_error
    parts = [np.real(pulls)] + [np.imag(pulls)] * with_offset
    for pull in parts:
        assert abs(pull.mean()) < 4 / np.sqrt(200)
        assert pull.std() == pytest.approx(1.0, abs=0.2)


def test_line_of_a_constant_is_nan():
    line = statistics.fit_line(np.ones(5), np.arange(5.0), np.zeros(5), np.ones(5))
    assert np.isnan(line.scale)


@pytest.mark.parametrize(("variance", "noise", "expected"), [(4, 1, 0.75), (1, 2, 0)])
def test_reliability(variance, noise, expected):
    assert statistics.reliability(variance, noise) == expected


def test_expected_correlation_is_that_of_a_simulation(rng):
    """sqrt(reliability_a reliability_b), with the variances of noisy values."""
    truth = rng.normal(10, 2.0, 200_000)
    a = truth + 1.5 * rng.normal(size=truth.size)
    b = 3 * truth + 8.0 * rng.normal(size=truth.size)
    expected = np.sqrt(
        statistics.reliability(a.var(), 1.5**2) * statistics.reliability(b.var(), 64.0)
    )
    analytic = np.sqrt(4 / (4 + 2.25) * 36 / (36 + 64))
    assert expected == pytest.approx(analytic, abs=0.01)
    assert statistics.correlation(a, b) == pytest.approx(expected, abs=0.01)
