"""Voxels brought onto one grid: widths, symmetry, indices, Cartesian maps."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core import compare, regrid, statistics, voxel_list
from diffuse_core.errors import ConfigError, InputError

HALL_P41 = "P 4w"
STEPS = np.full(3, 1.0 / 3.0)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def cube(n):
    axis = np.arange(-n, n + 1)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)


def map_of(index, intensity, sigma=None, steps=STEPS, **about):
    return voxel_list.Voxels(
        "m", "hkl", np.asarray(steps, float), index, intensity, sigma, **about
    )


def representative_of(hall):
    boundary = pytest.importorskip("diffuse_core.boundary")
    group = boundary.space_group_of_hall(hall)
    return lambda index: boundary.to_asymmetric_unit(group, index)


def symmetric(hkl):
    """Invariant under 4/m."""
    h, k, m = np.asarray(hkl, float).T
    return 20 + (h**2 - k**2) ** 2 * 1e-3 + np.cos(h * k / 9) ** 2 * np.cos(m)


@pytest.mark.parametrize("ratio", [(3, 3, 3), (2, 2, 2), (4, 1, 3)])
def test_coarser_voxels_hold_the_mean_of_a_linear_function(ratio):
    """Also for even ratios, where half of the outermost layers belongs in."""
    index = cube(12)
    linear = 100 + index @ np.array([1.0, -2.0, 0.5])
    target = STEPS * ratio
    coarse = regrid.resampled(map_of(index, linear), target)
    expected = 100 + (coarse.index * ratio) @ np.array([1.0, -2.0, 0.5])
    assert coarse.intensity == pytest.approx(expected)
    assert coarse.steps == pytest.approx(target)
    full = np.prod([2 * ((12 - r // 2) // r) + 1 for r in ratio])
    assert len(coarse) == full


def test_the_noise_of_coarser_voxels_is_right(rng):
    index = cube(20)
    sigma = rng.uniform(1, 2, len(index))
    noise = map_of(index, sigma * rng.normal(size=len(index)), sigma)
    coarse = regrid.resampled(noise, STEPS * 2)
    pulls = coarse.intensity / coarse.sigma
    assert pulls.std() == pytest.approx(1.0, abs=0.05)
    inner = coarse.sigma.mean() / np.sqrt((sigma**2).mean())
    assert inner == pytest.approx((3 / 8) ** 1.5, rel=0.02)


def test_coarser_voxels_that_are_not_covered_are_left_out():
    index = cube(1)
    values = np.ones(27)
    target = STEPS * 3
    assert len(regrid.resampled(map_of(index, values), target)) == 1
    holes = map_of(index[2:], values[2:])
    assert len(regrid.resampled(holes, target, min_coverage=0.95)) == 0
    assert len(regrid.resampled(holes, target, min_coverage=0.9)) == 1


def test_widths_that_do_not_fit():
    with pytest.raises(ConfigError, match="1.5, 1.5, 1.5 times as wide"):
        regrid.resampled(map_of(cube(3), np.ones(343)), STEPS * 1.5)


def test_the_asymmetric_unit_is_that_of_the_whole_map():
    """Folding a map, and resampling what was folded, against the whole map."""
    fold = representative_of(HALL_P41)
    index = cube(10)
    whole = map_of(index, symmetric(index))
    folded = regrid.folded(whole, fold)
    assert len(folded) < len(whole) / 6
    assert folded.intensity == pytest.approx(symmetric(folded.index))
    assert (fold(folded.index) == folded.index).all()
    coarse = regrid.resampled(folded, STEPS * 3, fold)
    direct = regrid.resampled(whole, STEPS * 3)
    pair = compare.pair_up(coarse, direct, (40, 40, 60, 90, 90, 90))
    assert len(pair) == len(coarse)
    assert pair.a == pytest.approx(pair.b)


def test_independent_equivalents_are_averaged(rng):
    fold = representative_of(HALL_P41)
    index = cube(14)
    exposure = rng.uniform(1, 9, len(index))
    sigma = 1 / np.sqrt(exposure)
    values = 5 + sigma * rng.normal(size=len(index))
    folded = regrid.folded(map_of(index, values, sigma, exposure=exposure), fold)
    pulls = (folded.intensity - 5) / folded.sigma
    assert pulls.std() == pytest.approx(1.0, abs=0.06)
    assert folded.sigma == pytest.approx(1 / np.sqrt(folded.exposure))
    assert folded.exposure.sum() == pytest.approx(exposure.sum())


def test_copies_of_one_measurement_keep_their_sigma():
    fold = representative_of(HALL_P41)
    index = cube(6)
    sigma = np.sqrt(symmetric(index)).astype(np.float32)
    folded = regrid.folded(map_of(index, symmetric(fold(index)), sigma), fold)
    assert folded.sigma == pytest.approx(np.sqrt(symmetric(folded.index)), rel=1e-6)


def test_resampling_counts_a_voxel_and_its_equivalent_as_one(rng):
    """On the mirror plane of 4/m the finer voxels at l and -l are one measurement."""
    fold = representative_of(HALL_P41)
    index = np.unique(fold(cube(1)), axis=0)
    folded = map_of(index, np.ones(len(index)), np.ones(len(index)))
    coarse = regrid.resampled(folded, STEPS * 3, fold)
    row = coarse.index.tolist().index([0, 0, 0])
    counts = np.unique(fold(cube(1)), axis=0, return_counts=True)[1]
    assert coarse.sigma[row] == pytest.approx(np.sqrt((counts**2).sum()) / 27)


def test_reindexing_is_that_of_cctbx():
    sgtbx = pytest.importorskip("cctbx.sgtbx")
    operator = sgtbx.change_of_basis_op("k,h,-l")
    index = np.array([[1, 2, 3], [-4, 0, 6]])
    a = map_of(index, np.arange(2.0), steps=(0.5, 0.5, 0.25))
    moved = regrid.reindexed(a, np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]]))
    expected = [operator.apply(tuple(int(x) for x in h)) for h in index]
    assert moved.index.tolist() == [list(h) for h in expected]


def test_reindexing_moves_the_widths():
    a = map_of(np.array([[1, 2, 3]]), np.ones(1), steps=(0.5, 0.25, 1.0))
    moved = regrid.reindexed(a, np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]))
    assert moved.centres.tolist() == [[3.0, 0.5, 0.5]]
    with pytest.raises(ConfigError, match="mixes axes"):
        regrid.reindexed(a, np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1]]))
    with pytest.raises(ConfigError, match="fractional"):
        regrid.reindexed(a, np.diag([0.5, 1, 1]))


def test_a_cartesian_map_lands_on_the_right_voxels():
    """A fine grid of 1/A in voxels of hkl, for a cell and orientation at random."""
    step = 0.002
    index = cube(40)
    basis = np.array([[0.03, 0.002, 0.0], [-0.004, 0.028, 0.003], [0.0, 0.001, 0.02]])
    matrix = np.linalg.inv(basis)
    q = index * step
    values = 10 + (q @ matrix.T) @ np.array([1.0, 2.0, -1.0])
    cartesian = voxel_list.Voxels("c", "lab", np.full(3, step), index, values)
    binned = regrid.binned(cartesian, matrix, np.full(3, 0.5))
    expected = 10 + binned.centres @ np.array([1.0, 2.0, -1.0])
    difference = binned.intensity - expected
    inside = np.abs(binned.centres @ basis.T).max(axis=1) < 0.05
    assert np.abs(difference[inside]).max() < 0.15
    assert statistics.correlation(binned.intensity[inside], expected[inside]) > 0.999
    with pytest.raises(ConfigError, match="finer grid"):
        regrid.binned(cartesian, matrix, np.full(3, 0.04))


@pytest.mark.parametrize("digits", [2, 3, 6])
def test_widths_of_a_table_are_found(digits):
    index = cube(6)
    points = np.round(index / 3, digits)
    v = voxel_list.from_points("t", points, np.ones(len(index)))
    assert v.steps == pytest.approx(STEPS)
    assert (v.index == index).all()


def test_tables_that_make_no_sense():
    with pytest.raises(InputError, match="holds no measured voxel"):
        voxel_list.from_points("t", np.zeros((1, 3)), [np.nan], [1, 1, 1])
    with pytest.raises(InputError, match="2 voxels more than once"):
        voxel_list.from_points("t", np.zeros((3, 3)), np.ones(3), [1, 1, 1])
    with pytest.raises(InputError, match="single layer"):
        voxel_list.from_points("t", np.zeros((1, 3)), np.ones(1))
    with pytest.raises(InputError, match="not multiples"):
        voxel_list.from_points("t", cube(2) + 0.5, np.ones(125))
    with pytest.raises(InputError, match="shape"):
        voxel_list.from_axes("t", [np.arange(3)] * 3, np.ones((3, 3, 4)))
