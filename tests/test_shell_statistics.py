"""The figures by shell, against the values that made-up data must have."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core.completeness import shells_of
from diffuse_core.error_model import Spread
from diffuse_core.shell_statistics import Voxels, statistics

RADIUS = 0.6


@pytest.fixture
def rng():
    return np.random.default_rng(20240713)


def made_up(rng, n=120_000, aniso=1.0, noise=2.0, lattice=0.0, end=None):
    """Voxels in a ball: 30 - 20 s, an anisotropic part, noise, lattice points."""
    s = RADIUS * np.cbrt(rng.random(n))
    at_lattice = rng.random(n) < lattice
    size = aniso if end is None else aniso * np.exp(-0.5 * (s / end) ** 2 * np.log(2))
    truth = 30.0 - 20.0 * s + size * rng.normal(size=n)
    truth[at_lattice] += 200.0
    halves = truth + rng.normal(0.0, noise, (2, n))
    return truth, Voxels(
        s,
        at_lattice,
        halves.mean(axis=0),
        np.full(n, noise / np.sqrt(2)),
        rng.integers(2, 9, n),
        {"random": halves},
    )


def near(estimate, truth, widths=4.0):
    error = 0.5 * (estimate.high - estimate.low)
    return abs(estimate.value - truth) < widths * error


def test_all_figures_of_gaussian_data(rng):
    truth, voxels = made_up(rng)
    found = statistics(voxels, shells_of(voxels.s, 8))
    assert len(found.shells) == 8
    assert sum(row.voxels for row in found.shells) == found.overall.voxels == 120_000
    for row in (*found.shells, found.overall):
        here = (voxels.s > row.s_low) & (voxels.s <= row.s_high)
        half = row.all["random"]
        assert half.voxels == row.voxels == here.sum()
        assert near(half.cc_half_anisotropic, 1.0 / (1.0 + 4.0))
        assert near(half.cc_star_anisotropic, np.sqrt(1.0 / (1.0 + 2.0)))
        variance = truth[here].var()
        assert near(half.cc_half, variance / (variance + 4.0))
        split = np.sqrt(2 / np.pi) * 2.0 / truth[here].mean()
        assert near(half.r_split, split)
        assert near(row.multiplicity, 5.0)
        assert near(row.intensity, truth[here].mean())
        assert near(row.i_over_sigma, truth[here].mean() / np.sqrt(2))
        assert row.sigma == pytest.approx(np.sqrt(2))
        assert row.chi_squared is None and row.completeness is None
    isotropic = found.overall.all["random"]
    assert isotropic.cc_half.value > 2 * isotropic.cc_half_anisotropic.value
    assert found.error_model is None


def test_cc_star_is_the_correlation_with_the_truth(rng):
    truth, voxels = made_up(rng)
    overall = statistics(voxels, shells_of(voxels.s, 5)).overall
    real = np.corrcoef(truth, voxels.intensity)[0, 1]
    assert overall.all["random"].cc_star.value == pytest.approx(real, abs=0.003)
    rest = truth - (30 - 20 * voxels.s), voxels.intensity - (30 - 20 * voxels.s)
    real = np.corrcoef(*rest)[0, 1]
    star = overall.all["random"].cc_star_anisotropic
    assert star.value == pytest.approx(real, abs=0.005)


def test_lattice_points_feign_agreement_and_are_left_out(rng):
    _, voxels = made_up(rng, lattice=0.01)
    overall = statistics(voxels, shells_of(voxels.s, 5)).overall
    assert overall.all["random"].cc_half_anisotropic.value > 0.9
    assert near(overall.between["random"].cc_half_anisotropic, 0.2)
    n = int((~voxels.lattice_point).sum())
    assert overall.between["random"].voxels == overall.voxels_between == n


def test_halves_with_holes_use_common_voxels(rng):
    _, voxels = made_up(rng, n=20_000)
    voxels.halves["random"][0, ::3] = np.nan
    voxels.halves["friedel"] = np.full((2, 20_000), np.nan)
    overall = statistics(voxels, shells_of(voxels.s, 4)).overall
    assert overall.all["random"].voxels == 20_000 - len(voxels.s[::3])
    assert near(overall.all["random"].cc_half_anisotropic, 0.2)
    nothing = overall.all["friedel"]
    assert nothing.voxels == 0 and np.isnan(nothing.cc_half.value)


def test_each_half_loses_its_own_average(rng):
    """Halves that differ by a scale and a smooth offset agree in the rest."""
    _, voxels = made_up(rng, noise=0.01)
    voxels.halves["random"][1] *= 3.0
    voxels.halves["random"][1] += 50.0 * voxels.s
    overall = statistics(voxels, shells_of(voxels.s, 4)).overall
    assert overall.all["random"].cc_half_anisotropic.value > 0.999


def test_completeness_counts_both_kinds(rng):
    _, voxels = made_up(rng, n=10_000, lattice=0.1)
    edges = shells_of(voxels.s, 4)
    rows = statistics(
        voxels, edges, np.array([4000, 4000, 5000, 6000]), np.full(4, 400)
    )
    measured = [row.voxels for row in rows.shells]
    assert [row.completeness for row in rows.shells] == pytest.approx(
        np.array(measured) / [4000, 4000, 5000, 6000]
    )
    assert rows.overall.completeness == pytest.approx(10_000 / 19_000)
    between = (~voxels.lattice_point).sum()
    assert rows.overall.completeness_between == pytest.approx(between / 17_400)


def test_chi_squared_and_error_model_come_from_the_spread(rng):
    _, voxels = made_up(rng, n=40_000)
    expected = rng.integers(1, 6, 40_000).astype(float)
    size = np.where(voxels.lattice_point, 50.0, 1.44)
    spread = Spread(size * rng.chisquare(expected), expected, expected / 2.0)
    voxels = Voxels(**{**vars(voxels), "spread": spread})
    found = statistics(voxels, shells_of(voxels.s, 5))
    for row in (*found.shells, found.overall):
        assert near(row.chi_squared, 1.44)
    assert found.error_model.sigma_scale.value == pytest.approx(1.2, rel=0.01)


def test_the_resolution_of_the_anisotropic_signal(rng):
    """Signal variance V(s) over noise N: CC1/2 = 0.3 where V/N = 3/7."""
    noise, end = 0.8, 0.25
    _, voxels = made_up(rng, aniso=1.0, noise=noise, end=end)
    found = statistics(voxels, shells_of(voxels.s, 10)).limit
    truth = end * np.sqrt(-np.log(3 / 7 * noise**2) / np.log(2))
    assert found.reaches == "crossing"
    assert found.s.value == pytest.approx(truth, abs=0.01)
    assert found.s.low < found.s.value < found.s.high
    assert found.s.high - found.s.low < 0.02


def test_an_empty_shell_and_few_voxels(rng):
    _, voxels = made_up(rng, n=25)
    found = statistics(voxels, np.array([0.0, 0.01, RADIUS]))
    assert found.shells[0].voxels == 0 and np.isnan(found.shells[0].sigma)
    assert np.isnan(found.shells[0].intensity.value)
    assert found.limit is None
