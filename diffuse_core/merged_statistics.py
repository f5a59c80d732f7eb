"""The statistics of a merged table, from the sums that it keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffuse_core.completeness import shells_of, unique_voxels
from diffuse_core.error_model import Spread
from diffuse_core.grid import Grid
from diffuse_core.merge import Merged
from diffuse_core.shell_statistics import Statistics, Voxels, statistics

SHELLS = 10


def tells_lattice_points(grid: Grid) -> bool:
    """Whether some voxels are at lattice points and others are not."""
    return grid.frame == "hkl" and min(grid.steps) < 1.0


def at_lattice_points(grid: Grid, index: np.ndarray) -> np.ndarray:
    """(n,) bool: the voxel (n, 3) is centred on a lattice point of reciprocal space.

    False where a voxel is a whole cell: it is not the lattice point that it measures.
    """
    if not tells_lattice_points(grid):
        return np.zeros(len(index), bool)
    centres = grid.centres(index)
    return (np.abs(centres - np.rint(centres)) < 1e-6).all(axis=1)


def voxels_of(merged: Merged) -> Voxels:
    """The rows of a merged table as the statistics read them."""
    spread = None
    if "weight_square" in merged.sums:
        weight = merged.sums["weight"]
        found, expected = merged.scatter()
        several = merged.observations > 1
        spread = Spread(
            np.where(several, found, 0.0),
            np.where(several, expected, 0.0),
            np.where(several, weight - merged.sums["weight_square"] / weight, 0.0),
        )
    return Voxels(
        merged.grid.s_norm(merged.index, merged.unit_cell),
        at_lattice_points(merged.grid, merged.index),
        merged.intensity,
        merged.sigma,
        merged.observations,
        {
            kind: np.stack([merged.half(kind, which)[0] for which in (0, 1)])
            for kind in merged.half_kinds
        },
        spread,
    )


def merged_statistics(
    merged: Merged, operators: Sequence[np.ndarray] | None, n_shells: int = SHELLS
) -> Statistics:
    """Every figure of a merged table, in shells of equal volume and overall.

    Completeness is exact where the grid has three dimensions.

    Args:
        merged: The table.
        operators: (3, 3) integer operators that were averaged over, or None.
        n_shells: Resolution shells.
    """
    voxels = voxels_of(merged)
    edges = shells_of(voxels.s, n_shells)
    unique = lattice_points = None
    if merged.grid.frame != "s":
        arguments = (merged.grid, merged.unit_cell, edges, operators)
        unique = unique_voxels(*arguments)
        lattice_points = np.zeros_like(unique)
        if tells_lattice_points(merged.grid):
            lattice_points = unique_voxels(*arguments, lattice_points=True)
    return statistics(voxels, edges, unique, lattice_points)
