"""Merged voxels as a three-dimensional array; NaN = not measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffuse_core.errors import ConfigError
from diffuse_core.grid import Grid
from diffuse_core.merge import Merged

LARGEST = 1_500_000_000


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


def expand(merged: Merged, operators: Sequence[np.ndarray] | None = None) -> Volume:
    """The map of a merged table, equivalents filled in.

    Args:
        merged: The table.
        operators: Laue operators R as (3, 3) integers, equivalents are index @ R;
            None where the table was not averaged.

    Raises:
        ConfigError: The map would not fit in memory.
    """
    if operators is None:
        operators = [np.eye(3, dtype=int)]
    equivalents = [merged.index @ np.asarray(r, np.int64) for r in operators]
    if len(merged):
        lower = np.min([e.min(axis=0) for e in equivalents], axis=0)
        upper = np.max([e.max(axis=0) for e in equivalents], axis=0)
    else:
        lower, upper = np.zeros(3, np.int64), np.zeros(3, np.int64)
    shape = tuple(int(n) for n in upper - lower + 1)
    if np.prod(shape, dtype=float) > LARGEST:
        raise ConfigError(
            f"A map of {shape[0]} x {shape[1]} x {shape[2]} voxels is too large to "
            "hold: use larger voxels, a larger d_min, or set output.map=None."
        )
    intensity = np.full(shape, np.nan, np.float32)
    sigma = np.full(shape, np.nan, np.float32)
    multiplicity = np.zeros(shape, np.int32)
    for e in equivalents:
        at = tuple((e - lower).T)
        intensity[at] = merged.intensity
        sigma[at] = merged.sigma
        multiplicity[at] = merged.observations
    return Volume(
        merged.grid,
        lower,
        intensity,
        sigma,
        multiplicity,
        merged.unit_cell,
        merged.space_group,
    )
