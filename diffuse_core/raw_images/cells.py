"""Unit cells of many crystals: which belong together, and how they spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CellSpread:
    """Cells of the crystals that belong together.

    Attributes:
        same: (n,) bool: the crystal belongs to the largest group.
        median: (6,) A and deg, of that group.
        spread: (6,) 1.4826 x median absolute deviation of the group, A and deg.
    """

    same: np.ndarray
    median: np.ndarray
    spread: np.ndarray


def largest_group(
    cells: np.ndarray, length_tolerance: float, angle_tolerance: float
) -> CellSpread:
    """The largest group of similar cells.

    The group of a cell is all cells within the tolerances of it; of equally large
    groups the one with the smallest distances is taken. Then the group is drawn again
    about its median, so that it doesn't depend on which cell it was found from.

    Args:
        cells: (n, 6) float64: a, b, c (A), alpha, beta, gamma (deg).
        length_tolerance: Largest relative difference of an edge.
        angle_tolerance: Largest difference of an angle, deg.
    """
    cells = np.asarray(cells, float).reshape(-1, 6)
    scaled = np.array(
        [_distances(cells, c, length_tolerance, angle_tolerance) for c in cells]
    )
    near = scaled <= 1
    closeness = np.where(near, scaled, 0).sum(axis=1) / near.sum(axis=1)
    best = np.lexsort((closeness, -near.sum(axis=1)))[0]
    middle = np.median(cells[near[best]], axis=0)
    same = _distances(cells, middle, length_tolerance, angle_tolerance) <= 1
    if not same.any():
        same = near[best]
    group = cells[same]
    median = np.median(group, axis=0)
    spread = 1.4826 * np.median(np.abs(group - median), axis=0)
    return CellSpread(same, median, spread)


def _distances(cells, centre, length_tolerance, angle_tolerance) -> np.ndarray:
    """(n,) largest difference from a cell, in tolerances."""
    lengths = np.abs(cells[:, :3] / centre[:3] - 1) / length_tolerance
    angles = np.abs(cells[:, 3:] - centre[3:]) / angle_tolerance
    return np.hstack([lengths, angles]).max(axis=1)
