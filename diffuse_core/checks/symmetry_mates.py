"""How well symmetry mates agree in a rough map of a few images.

With the wrong orientation of the images, as from a rotation axis that points the wrong
way, they do not agree. No spot is needed, and nothing has to be indexed again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DIVISIONS = 3
"""Voxels of the rough map for an index."""
CLIP = 2.0
"""Intensities are clipped at so many times the mean, since spots would count alone."""


def agreement(
    hkl: np.ndarray,
    intensity: np.ndarray,
    place: np.ndarray,
    operators: Sequence[np.ndarray],
) -> tuple[float, int]:
    """Correlation of the mates of voxels, and the number of voxels with mates.

    Intensities are taken relative to the mean of all that were seen at the same place
    of the detector, so that polarisation and shadows don't count. The mates of a voxel
    fall in two halves by the operator that maps them to one of them.

    Args:
        hkl: (n, 3) float64, fractional Miller indices.
        intensity: (n,) float64.
        place: (n,) int, number of the place on the detector, from 0.
        operators: (3, 3) int: the point operators of the Laue group.
    """
    mean = np.bincount(place, intensity) / np.maximum(np.bincount(place), 1)
    relative = np.minimum(intensity / np.maximum(mean[place], 1e-12), CLIP)
    voxel = np.rint(hkl * DIVISIONS).astype(np.int64)
    keys = np.stack([_key(voxel @ operator) for operator in np.asarray(operators)])
    _, number = np.unique(keys.max(axis=0), return_inverse=True)
    number = number.ravel()
    half = keys.argmax(axis=0) % 2 == 1
    n, total = number.max() + 1, []
    for mine in (half, ~half):
        count = np.bincount(number[mine], minlength=n)
        total.append(
            np.bincount(number[mine], relative[mine], n) / np.maximum(count, 1)
        )
        total[-1][count == 0] = np.nan
    both = np.isfinite(total).all(axis=0)
    if both.sum() < 3:
        return np.nan, int(both.sum())
    first, second = (values[both] for values in total)
    return float(np.corrcoef(first, second)[0, 1]), int(both.sum())


def _key(voxel: np.ndarray) -> np.ndarray:
    """One number for three indices of less than 2^20."""
    return ((voxel[:, 0] << 42) + (voxel[:, 1] << 21)) + voxel[:, 2]
