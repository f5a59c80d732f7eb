"""Merged voxels as a three-dimensional array; NaN = not measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffuse_core.errors import ConfigError
from diffuse_core.grid import Grid
from diffuse_core.merge import Merged

LARGEST = 1_500_000_000
VOXEL_BYTES = 12


@dataclass(frozen=True, eq=False)
class Volume:
    """A map.

    Attributes:
        grid: The voxels.
        lower: (3,) int64: voxel index of element [0, 0, 0].
        intensity: (n0, n1, n2) float32: counts / (s sr) per unit flux; NaN = not
            measured.
        sigma: (n0, n1, n2) float32, > 0; NaN = not measured.
        multiplicity: (n0, n1, n2) int32: observations; 0 = not measured.
        unit_cell: a, b, c, alpha, beta, gamma (A, deg), or None.
        space_group: Hall symbol, or None.
    """

    grid: Grid
    lower: np.ndarray
    intensity: np.ndarray
    sigma: np.ndarray
    multiplicity: np.ndarray
    unit_cell: tuple[float, ...] | None = None
    space_group: str | None = None

    def axis(self, i: int) -> np.ndarray:
        """(n_i,) float64: coordinates of the voxels' centres along an axis."""
        n = self.intensity.shape[i]
        return (self.lower[i] + np.arange(n)) * self.grid.steps[i]


def expand(
    merged: Merged,
    operators: Sequence[np.ndarray] | None = None,
    d_min: float | None = None,
) -> Volume:
    """The map of a merged table, equivalents filled in.

    Args:
        merged: The table.
        operators: Operators R as (3, 3) integers, equivalents are index @ R; None where
            the table was not averaged.
        d_min: Leaves out voxels beyond this resolution (A).

    Raises:
        ConfigError: The map would not fit in memory.
    """
    if operators is None:
        operators = [np.eye(3, dtype=int)]
    operators = [np.asarray(r, np.int64) for r in operators]
    rows = slice(None)
    if d_min is not None:
        rows = merged.grid.s_norm(merged.index, merged.unit_cell) <= 1.0 / d_min
    index = merged.index[rows]
    lower, upper = _bounds(index, operators)
    shape = tuple(int(n) for n in upper - lower + 1)
    if np.prod(shape, dtype=float) > largest_map():
        raise ConfigError(_too_large(shape, merged, d_min))
    intensity = np.full(shape, np.nan, np.float32)
    sigma = np.full(shape, np.nan, np.float32)
    multiplicity = np.zeros(shape, np.int32)
    for r in operators:
        at = tuple((index @ r - lower).T)
        intensity[at] = merged.intensity[rows]
        sigma[at] = merged.sigma[rows]
        multiplicity[at] = merged.observations[rows]
    return Volume(
        merged.grid,
        lower,
        intensity,
        sigma,
        multiplicity,
        merged.unit_cell,
        merged.space_group,
    )


def largest_map() -> int:
    """Voxels that a map may have: it takes at most half of this machine's memory."""
    return min(LARGEST, machine_memory() // (2 * VOXEL_BYTES))


def machine_memory() -> int:
    """Bytes of memory of this machine; 2^62 where it can't be told."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**62


def _bounds(index: np.ndarray, operators) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest voxel index (3,) of all equivalents."""
    lower, upper = np.zeros(3, np.int64), np.zeros(3, np.int64)
    if len(index):
        lower = np.min([(index @ r).min(axis=0) for r in operators], axis=0)
        upper = np.max([(index @ r).max(axis=0) for r in operators], axis=0)
    return lower, upper


def _too_large(shape, merged: Merged, d_min: float | None) -> str:
    """The sentence that says so, with a resolution at which the map would do."""
    shown = " x ".join(map(str, shape))
    advice = "use larger voxels"
    basis = merged.grid.cartesian(np.eye(3, dtype=int), merged.unit_cell)
    if np.linalg.det(basis):
        reach = np.linalg.norm(np.linalg.inv(basis), axis=0)
        s = merged.grid.s_norm(merged.index, merged.unit_cell).max()
        tenths = int(10.0 * max(1.0 / s, d_min or 0.0))
        while np.prod(2.0 * np.floor(10.0 * reach / tenths) + 1.0) > largest_map():
            tenths += 1
        advice = f"set merging.map_d_min={tenths / 10:.1f} to leave out what is beyond"
    return (
        f"A map of {shown} voxels is too large to hold: {advice}, or set "
        "output.map=None."
    )
