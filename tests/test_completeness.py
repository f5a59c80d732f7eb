"""Unique voxels of a shell, against counting them one by one."""

from __future__ import annotations

import time

import numpy as np
import pytest

from cctbx import sgtbx

from diffuse_core import boundary
from diffuse_core.completeness import shells_of, unique_voxels
from diffuse_core.grid import Grid
from diffuse_core.statistics import shell_numbers

CELLS = {
    "P 1": (11.0, 13.0, 17.0, 82.0, 97.0, 105.0),
    "P 1 21 1": (11.0, 13.0, 17.0, 90.0, 109.0, 90.0),
    "C 2 2 21": (11.0, 13.0, 17.0, 90.0, 90.0, 90.0),
    "P 41": (15.0, 15.0, 11.0, 90.0, 90.0, 90.0),
    "P 43 21 2": (15.0, 15.0, 11.0, 90.0, 90.0, 90.0),
    "R 3 :R": (14.0, 14.0, 14.0, 77.0, 77.0, 77.0),
    "P 31 2 1": (14.0, 14.0, 19.0, 90.0, 90.0, 120.0),
    "P 6": (14.0, 14.0, 19.0, 90.0, 90.0, 120.0),
    "F 4 3 2": (18.0, 18.0, 18.0, 90.0, 90.0, 90.0),
}
EDGES = np.array([-1.0, 0.1001, 0.2003, 0.25031, 0.3017])


def one_by_one(grid, cell, edges, operators, lattice_points):
    """Unique voxels of each shell: the least of each voxel's equivalents, counted."""
    n = 1 + int(np.ceil(edges[-1] * max(cell[:3]) / min(grid.steps)))
    axis = np.arange(-n, n + 1)
    index = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    s = grid.s_norm(index, cell)
    index = index[s < edges[-1] * (1 + 1e-6)]
    if lattice_points:
        at = grid.centres(index)
        index = index[(np.abs(at - np.rint(at)) < 1e-9).all(axis=1)]
    numbers = (np.array([1 << 40, 1 << 20, 1]), 1 << 19)
    least = np.min(
        [
            ((index @ np.rint(r).astype(int)) + numbers[1]) @ numbers[0]
            for r in operators
        ],
        axis=0,
    )
    _, first = np.unique(least, return_index=True)
    shell = shell_numbers(grid.s_norm(index[first], cell), edges)
    return np.bincount(shell[shell >= 0], minlength=len(edges) - 1)


@pytest.mark.parametrize("lattice_points", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_every_laue_group(name, lattice_points):
    group = sgtbx.space_group_info(name).group()
    operators = boundary.laue_operators(group)
    grid = Grid("hkl", (1 / 3, 1 / 3, 1 / 3))
    found = unique_voxels(grid, CELLS[name], EDGES, operators, lattice_points)
    expected = one_by_one(grid, CELLS[name], EDGES, operators, lattice_points)
    np.testing.assert_array_equal(found, expected)
    assert expected.min() > 0


def test_unequal_steps_and_no_symmetry():
    grid = Grid("hkl", (0.5, 1.0, 0.2))
    cell = CELLS["P 1"]
    identity = [np.eye(3)]
    for whole in (False, True):
        np.testing.assert_array_equal(
            unique_voxels(grid, cell, EDGES, None, whole),
            one_by_one(grid, cell, EDGES, identity, whole),
        )


def test_a_cartesian_grid():
    grid = Grid("q", (0.02, 0.03, 0.025), ("x", "y", "z"), "1/A")
    edges = np.array([-1.0, 0.1001, 0.2003])
    found = unique_voxels(grid, None, edges, None)
    expected = one_by_one(grid, (1.0, 1.0, 1.0), edges, [np.eye(3)], False)
    np.testing.assert_array_equal(found, expected)
    volume = 4 / 3 * np.pi * 0.2003**3 / (0.02 * 0.03 * 0.025)
    assert found.sum() == pytest.approx(volume, rel=0.01)


def test_shells_split_no_equivalents():
    """Edges that come from the voxels themselves: nothing falls between them."""
    group = sgtbx.space_group_info("P 4").group()
    operators = boundary.laue_operators(group)
    cell = (15.0, 15.0, 15.0, 90.0, 90.0, 90.0)
    grid = Grid("hkl", (1.0, 1.0, 1.0))
    axis = np.arange(-4, 5)
    index = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    s = grid.s_norm(index, cell)
    s = s[s <= 4.0 / 15.0 + 1e-9]
    edges = shells_of(s, 5)
    assert edges[0] < 0 and (shell_numbers(s, edges) >= 0).all()
    np.testing.assert_array_equal(
        unique_voxels(grid, cell, edges, operators),
        one_by_one(grid, cell, edges, operators, False),
    )


def test_a_billion_voxels_take_seconds():
    grid = Grid("hkl", (0.1, 0.1, 0.1))
    cell = (60.0, 60.0, 60.0, 90.0, 90.0, 90.0)
    edges = np.cbrt(np.linspace(0.0, 1.0, 11))
    started = time.process_time()
    total = unique_voxels(grid, cell, edges, None).sum()
    assert total == pytest.approx(4 / 3 * np.pi * 600**3, rel=3e-5)
    assert time.process_time() - started < 10.0
