"""A map in electron units, without the scattering that its backgrounds describe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffuse_core.models import IntensityBackground
from diffuse_core.volume import Volume


def on_absolute_scale(
    volume: Volume, factor: float, backgrounds: Sequence[IntensityBackground] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Intensity K I - sum of the backgrounds, and its sigma, float64, as the map.

    NaN where the map has none. The variances of the backgrounds are added.

    Args:
        volume: The map, counts/s/sr per unit flux.
        factor: K, electron units per count/s/sr.
        backgrounds: Subtracted at the |s| of the centres of the voxels.
    """
    intensity = factor * volume.intensity.astype(float)
    variance = (factor * volume.sigma.astype(float)) ** 2
    for first in range(len(intensity)):
        measured = np.isfinite(intensity[first])
        index = np.argwhere(measured)
        index = np.column_stack([np.full(len(index), first), index]) + volume.lower
        s_norm = volume.grid.s_norm(index, volume.unit_cell)
        for background in backgrounds:
            mean, of_mean = background.intensity(s_norm)
            intensity[first][measured] -= mean
            variance[first][measured] += of_mean
    return intensity, np.sqrt(variance)
