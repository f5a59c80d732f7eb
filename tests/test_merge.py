"""Merging is unbiased at any count, its errors are right, its bookkeeping exact."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core.grid import Grid, indices_of, keys_of
from diffuse_core.merge import Merger, merge_observations, ratio_of_sums
from diffuse_core.observations import (
    DTYPES,
    Observations,
    combine_rows,
    read_meta,
    read_observations,
    write_observations,
)

GRID = Grid("hkl", (0.5, 0.5, 0.5))


def table(index, counts, exposure, background=0.0, variance=0.0):
    n = len(index)
    columns = {name: np.zeros(n, dtype) for name, dtype in DTYPES.items()}
    columns["key"] = keys_of(index)
    columns["pixels"][:] = 3
    columns["counts"][:] = counts
    columns["exposure"][:] = exposure
    columns["background"][:] = background
    columns["background_variance"][:] = variance
    return Observations(columns, {})


@pytest.mark.parametrize("mean", [0.1, 0.5, 2.0, 10.0, 100.0])
def test_no_bias_and_right_errors_at_any_count(mean):
    """50 observations of unequal exposure and background per voxel; zeros count."""
    rng = np.random.default_rng(20261122)
    n_voxels, n_observations = 20_000, 50
    index = np.stack([np.arange(n_voxels), *[np.zeros(n_voxels, int)] * 2], axis=1)
    truth = 7.0
    merger = Merger(None)
    for _ in range(n_observations):
        exposure = rng.uniform(0.3, 1.7, n_voxels) * mean / truth
        background = rng.uniform(0.0, 0.6, n_voxels) * mean
        counts = rng.poisson(exposure * truth + background)
        merger.add(table(index, counts, exposure, background))
    merged = merger.result(GRID)
    assert len(merged) == n_voxels
    assert merged.observations.tolist() == [n_observations] * n_voxels
    weighted = np.average(merged.intensity, weights=merged.exposure)
    standard = np.sqrt(merged.counts.sum()) / merged.exposure.sum()
    assert abs(weighted - truth) < 4 * standard
    assert abs(merged.intensity.mean() / truth - 1) < max(0.005, 4 * standard / truth)
    assert abs(weighted / truth - 1) < 0.005
    pull = (merged.intensity - truth) / merged.sigma
    if mean >= 2:
        assert 0.95 < pull.std() < 1.05
        assert abs(pull.mean()) < 0.15


def test_voxel_without_photons_has_the_sigma_of_one():
    intensity, sigma = ratio_of_sums(*np.array([[0.0], [2.0], [0.0], [0.0]]))
    assert intensity == 0
    assert sigma == 0.5


def test_background_and_its_variance_reach_the_result():
    intensity, sigma = ratio_of_sums(*np.array([[100.0], [2.0], [40.0], [44.0]]))
    assert intensity == 30.0
    assert sigma == np.sqrt(144.0) / 2


def test_merging_in_parts_and_in_any_order_is_the_same(monkeypatch):
    rng = np.random.default_rng(5)
    tables = []
    for _ in range(12):
        index = np.unique(rng.integers(-6, 6, (300, 3)), axis=0)
        tables.append(table(index, rng.poisson(2, len(index)), 0.25, 0.5, 0.125))
    whole = merge_observations(tables, GRID)
    backwards = merge_observations(tables[::-1], GRID)
    monkeypatch.setattr(Merger, "_BATCH", 100)
    parts = merge_observations(tables, GRID)
    for other in (backwards, parts):
        for name in ("index", "intensity", "sigma", "counts", "observations"):
            assert np.array_equal(getattr(other, name), getattr(whole, name))
    assert whole.counts.sum() == sum(t.columns["counts"].sum() for t in tables)


def test_disjoint_data_combine_exactly():
    """Sums are kept, so two merged tables give what all the data give."""
    rng = np.random.default_rng(6)
    index = np.unique(rng.integers(-3, 3, (80, 3)), axis=0)
    tables = [table(index, rng.poisson(3, len(index)), 0.5, 0.25) for _ in range(4)]
    one = merge_observations(tables[:2], GRID)
    two = merge_observations(tables[2:], GRID)
    whole = merge_observations(tables, GRID)
    names = ("counts", "exposure", "background", "background_variance")
    sums = [getattr(one, n) + getattr(two, n) for n in names]
    assert np.array_equal(ratio_of_sums(*sums)[0], whole.intensity)


def test_equivalents_are_averaged_and_few_pixels_left_out():
    index = np.array([[1, 2, 3], [-1, -2, -3], [4, 0, 0]])
    merged = merge_observations(
        [table(index, [6.0, 2.0, 5.0], 2.0)], GRID, unique=np.abs, min_pixels=4
    )
    assert merged.index.tolist() == [[1, 2, 3]]
    assert merged.intensity.tolist() == [2.0]
    assert merged.observations.tolist() == [2]
    assert merged.pixels.tolist() == [6.0]


def test_keys_hold_negative_indices_and_sort_like_them():
    rng = np.random.default_rng(7)
    index = rng.integers(-(1 << 19), 1 << 19, (1000, 3))
    keys = keys_of(index)
    assert np.array_equal(indices_of(keys), index)
    order = np.lexsort(index.T[::-1])
    assert np.all(np.diff(keys[order]) >= 0)


def test_rows_of_one_voxel_add_up_but_panels_stay_apart():
    sums = np.array([[1.0, 1, 2, 0, 0, 10, 1, 2, 3], [3.0, 3, 4, 1, 2, 90, 9, 6, 3]])
    both = combine_rows(np.array([5, 5]), np.array([0, 0]), sums)
    assert both["counts"].tolist() == [4.0]
    assert both["phi"].tolist() == [25.0]
    assert both["x"].tolist() == [2.5]
    apart = combine_rows(np.array([5, 5]), np.array([1, 0]), sums)
    assert apart["panel"].tolist() == [0, 1]
    assert apart["counts"].tolist() == [3.0, 1.0]


def test_observations_file_round_trip(tmp_path):
    whole = table(np.array([[1, 2, 3], [2, 0, 0]]), [6.0, 2.0], 2.0)
    whole.meta.update(unit_cell=[1.5, 2.5], block=[0, 0, 0, 3])
    path = tmp_path / "block_000000.h5"
    write_observations(path, whole)
    again = read_observations(path)
    assert read_meta(path) == whole.meta == again.meta
    for name, values in whole.columns.items():
        assert np.array_equal(again.columns[name], values)
        assert again.columns[name].dtype == DTYPES[name]
    assert [p.name for p in tmp_path.iterdir()] == ["block_000000.h5"]
