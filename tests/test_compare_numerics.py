"""Comparison of maps: against simulated maps with known scale, offset and noise."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core import compare, statistics, voxel_list
from diffuse_core.errors import InputError

CELL = (40.0, 50.0, 60.0, 90.0, 90.0, 90.0)
EDGES = statistics.shell_edges(0.0, 0.35, 6)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def smooth(hkl):
    """Intensity with an isotropic and an anisotropic part, mean about 20."""
    s = voxel_list.s_norm(CELL, hkl)
    waves = np.cos(0.9 * hkl[:, 0]) * np.cos(0.7 * hkl[:, 1] + 0.4 * hkl[:, 2])
    return 30 * np.exp(-3 * s) * (1 + 0.3 * waves)


def grid(step=0.5, reach=10):
    axis = np.arange(-round(reach / step), round(reach / step) + 1)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)


def map_of(index, intensity, sigma=None, step=0.5, **about):
    return voxel_list.Voxels(
        "map", "hkl", np.full(3, step), index, intensity, sigma, **about
    )


def truth_of(index, step=0.5):
    zeros = np.zeros(len(index))
    return map_of(index, smooth(index * step), zeros, step, exact=True)


def compared(a, b):
    return compare.compare(compare.pair_up(a, b, CELL), EDGES)


def test_s_norm_is_cctbx():
    uctbx = pytest.importorskip("cctbx.uctbx")
    cell = (31.0, 42.0, 53.0, 71.0, 88.0, 103.0)
    hkl = np.array([[1, 2, 3], [-4, 5, -6], [7, 0, 0]])
    expected = [1 / uctbx.unit_cell(cell).d(tuple(int(x) for x in h)) for h in hkl]
    assert voxel_list.s_norm(cell, hkl) == pytest.approx(expected, rel=1e-9)


def test_a_map_agrees_with_itself():
    index = grid()
    values = smooth(index * 0.5)
    a = map_of(index, values, 0.1 * np.sqrt(values))
    result = compared(a, a)
    assert result.overall.cc == pytest.approx(1.0)
    assert result.overall.cc_anisotropic == pytest.approx(1.0)
    for fit in result.fits:
        assert fit.scale == pytest.approx(1.0)
        assert fit.offset == pytest.approx(0.0, abs=1e-9)
        assert fit.reduced_chi_squared == pytest.approx(0.0, abs=1e-12)
    assert sum(shell.voxels for shell in result.shells) == result.overall.voxels


@pytest.mark.parametrize("noisy_a", [False, True])
def test_scale_offset_and_noise_come_back(rng, noisy_a):
    """b = 2.5 a - 7, with sigmas that differ from voxel to voxel."""
    index = grid()
    truth = smooth(index * 0.5)
    sigma_a = rng.uniform(0.5, 3, len(index)) * noisy_a
    sigma_b = rng.uniform(0.5, 6, len(index))
    a = map_of(index, truth + sigma_a * rng.normal(size=len(index)), sigma_a)
    a = voxel_list.replace(a, exact=not noisy_a)
    noise = sigma_b * rng.normal(size=len(index))
    b = map_of(index, 2.5 * truth - 7 + noise, sigma_b)
    result = compared(a, b)
    fit = result.fit(compare.SCALE_AND_OFFSET)
    assert abs(fit.scale - 2.5) < 4 * fit.scale_error < 0.05
    assert abs(fit.offset + 7) < 4 * fit.offset_error < 0.5
    spread = 4 * np.sqrt(2 / result.overall.voxels)
    assert fit.reduced_chi_squared == pytest.approx(1.0, abs=spread)
    assert fit.pull_width == pytest.approx(1.0, abs=spread)
    assert abs(fit.mean_pull) < spread
    part = result.fit(compare.ANISOTROPIC)
    assert abs(part.scale - 2.5) < 4 * part.scale_error
    for figures in (result.overall, *result.shells):
        limit = 5 / np.sqrt(figures.voxels)
        assert figures.cc == pytest.approx(figures.cc_allowed, abs=limit)
        expected = figures.cc_anisotropic_allowed
        assert figures.cc_anisotropic == pytest.approx(expected, abs=limit)
        assert figures.reduced_chi_squared == pytest.approx(
            1.0, abs=5 * np.sqrt(2 / figures.voxels)
        )


def test_allowed_correlation_is_the_stated_formula(rng):
    """sqrt(var_t / (var_t + mean sigma^2)) against a truth, times the scale."""
    index = grid()
    truth = truth_of(index)
    b = map_of(
        index,
        3 * truth.intensity + 4 * rng.normal(size=len(index)),
        np.full(len(index), 4.0),
    )
    overall = compared(truth, b).overall
    inside = voxel_list.s_norm(CELL, index * 0.5) <= EDGES[-1]
    variance = 9 * truth.intensity[inside].var()
    expected = np.sqrt(variance / (variance + 16))
    assert overall.cc_allowed == pytest.approx(expected, rel=1e-3)
    assert compared(b, truth).overall.cc_allowed == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("with_exposure", [True, False])
@pytest.mark.parametrize("noisy", [False, True])
def test_few_counts_do_not_bias_the_scale(rng, noisy, with_exposure):
    """Sigmas from about 6 counts: weights of 1/sigma^2 would give about 0.8."""
    index = grid()
    truth = truth_of(index)
    exposure = 6 / truth.intensity.mean() * rng.uniform(0.7, 1.3, len(index))

    def counted():
        counts = rng.poisson(exposure * truth.intensity)
        return map_of(
            index,
            counts / exposure,
            np.sqrt(np.maximum(counts, 1)) / exposure,
            exposure=exposure if with_exposure else None,
        )

    b = counted()
    naive = statistics.fit_line(truth.intensity, b.intensity, 0, b.sigma**2)
    assert naive.scale + naive.offset / truth.intensity.mean() < 0.9
    result = compared(counted() if noisy else truth, b)
    limit = 0.01 if with_exposure else 0.03
    alone = result.fit(compare.SCALE)
    assert alone.scale == pytest.approx(1.0, abs=limit)
    fit = result.fit(compare.SCALE_AND_OFFSET)
    assert fit.scale == pytest.approx(1.0, abs=4 * fit.scale_error + limit)
    assert fit.reduced_chi_squared == pytest.approx(1.0, abs=0.05)
    assert fit.pull_width == pytest.approx(1.0, abs=0.05)


def test_without_sigmas_there_is_still_a_line(rng):
    index = grid(step=1.0)
    truth = smooth(index)
    a = map_of(index, truth, step=1.0)
    b = map_of(index, 2 * truth + 1 + 0.5 * rng.normal(size=len(index)), step=1.0)
    result = compared(a, b)
    fit = result.fit(compare.SCALE_AND_OFFSET)
    assert abs(fit.scale - 2) < 4 * fit.scale_error < 0.05
    assert np.isnan(fit.reduced_chi_squared)
    assert np.isnan(result.overall.cc_allowed)
    assert result.overall.cc > 0.95


def test_a_radial_difference_leaves_the_anisotropic_part(rng):
    index = grid()
    a = map_of(index, smooth(index * 0.5))
    s = voxel_list.s_norm(CELL, index * 0.5)
    b = map_of(index, a.intensity + 100 * np.exp(-0.5 * ((s - 0.2) / 0.05) ** 2))
    result = compared(a, b)
    assert result.overall.cc < 0.6
    assert result.overall.cc_anisotropic > 0.999


def test_limits_of_resolution():
    a = map_of(grid(step=1.0), smooth(grid(step=1.0)), step=1.0)
    pair = compare.pair_up(a, a, CELL)
    result = compare.compare(pair, statistics.shell_edges(0.1, 0.2, 2))
    expected = ((pair.s >= 0.1) & (pair.s <= 0.2)).sum()
    assert result.overall.voxels == expected
    with pytest.raises(InputError, match="within the limits"):
        compare.compare(pair, statistics.shell_edges(2.0, 3.0, 2))


def test_no_common_voxel():
    a = map_of(np.array([[0, 0, 1]]), np.ones(1))
    b = map_of(np.array([[0, 0, 2]]), np.ones(1))
    with pytest.raises(InputError, match="no voxel in common"):
        compare.pair_up(a, b, CELL)


def test_lattice_points_are_known():
    index = grid()
    a = map_of(index, smooth(index * 0.5))
    assert compare.pair_up(a, a, CELL).lattice_point.sum() == 21**3
