"""Observations to one intensity per unique voxel: the ratio of sums.

    I = sum (n - b) / sum e ,   variance = (sum n + variance of b) / (sum e)^2

Unbiased for any counts, zeros included (physics page, section 3): nothing is weighted
by an observed count, and counts, exposure and background are divided once, here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from diffuse_core.grid import Grid, indices_of, keys_of
from diffuse_core.observations import Observations

SUMS = ("counts", "exposure", "background", "background_variance", "pixels")


@dataclass(frozen=True, eq=False)
class Merged:
    """One row per unique voxel that was measured, sorted by voxel index.

    Attributes:
        grid: The voxels.
        index: (n, 3) int64: voxel indices; coordinates are `grid.centres(index)`.
        intensity: (n,) float64: counts / (s sr) per unit flux.
        sigma: (n,) float64, > 0.
        observations: (n,) int64: rows merged.
        pixels: (n,) float64: pixels merged.
        counts, exposure, background, background_variance: (n,) float64 sums, so two
            merged tables of disjoint data combine exactly.
        unit_cell: a, b, c, alpha, beta, gamma (A, deg), or None.
        space_group: Hall symbol, or None.
        symmetry: "laue" or "P1": what the rows were averaged over.
    """

    grid: Grid
    index: np.ndarray
    intensity: np.ndarray
    sigma: np.ndarray
    observations: np.ndarray
    pixels: np.ndarray
    counts: np.ndarray
    exposure: np.ndarray
    background: np.ndarray
    background_variance: np.ndarray
    unit_cell: tuple[float, ...] | None = None
    space_group: str | None = None
    symmetry: str = "P1"

    def __len__(self) -> int:
        return len(self.index)


def ratio_of_sums(
    counts: np.ndarray,
    exposure: np.ndarray,
    background: np.ndarray,
    background_variance: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Intensity and sigma of sums over observations.

    Where no photon at all was counted the variance is that of one photon: a sigma of
    0 would claim that nothing is known to be exactly nothing.

    Args:
        counts, exposure, background, background_variance: (n,) float64.
    """
    intensity = (counts - background) / exposure
    variance = np.maximum(counts, 1.0) + background_variance
    return intensity, np.sqrt(variance) / exposure


class Merger:
    """Adds observations to unique voxels, in bounded batches.

    Args:
        unique: (n, 3) voxel indices -> (n, 3) indices of their representatives, or
            None to keep every voxel.
    """

    _BATCH = 5_000_000

    def __init__(self, unique: Callable[[np.ndarray], np.ndarray] | None) -> None:
        self._unique = unique
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting = 0
        self._merged = 0

    def add(self, table: Observations) -> None:
        """Takes in one block."""
        columns = table.columns
        key = columns["key"]
        if self._unique is not None and len(key):
            key = keys_of(self._unique(indices_of(key)))
        sums = np.stack(
            [*(columns[name].astype(float) for name in SUMS), np.ones(len(key))]
        )
        self._parts.append(_reduce(key, sums))
        self._waiting += len(self._parts[-1][0])
        if self._waiting > self._merged + self._BATCH:
            self._collapse()

    def _collapse(self) -> None:
        keys = np.concatenate([k for k, _ in self._parts])
        sums = np.concatenate([s for _, s in self._parts], axis=1)
        self._parts = [_reduce(keys, sums)]
        self._merged = self._waiting = len(self._parts[0][0])

    def result(self, grid: Grid, min_pixels: int = 1, **about) -> Merged:
        """The merged table.

        Args:
            grid: The voxels.
            min_pixels: Voxels with fewer pixels are left out.
            **about: unit_cell, space_group, symmetry of `Merged`.
        """
        if self._parts:
            self._collapse()
            keys, sums = self._parts[0]
        else:
            keys, sums = np.empty(0, np.int64), np.empty((len(SUMS) + 1, 0))
        named = dict(zip((*SUMS, "observations"), sums, strict=True))
        good = (named["pixels"] >= min_pixels) & (named["exposure"] > 0)
        named = {name: values[good] for name, values in named.items()}
        intensity, sigma = ratio_of_sums(
            named["counts"],
            named["exposure"],
            named["background"],
            named["background_variance"],
        )
        named["observations"] = named["observations"].astype(np.int64)
        return Merged(
            grid=grid,
            index=indices_of(keys[good]),
            intensity=intensity,
            sigma=sigma,
            **named,
            **about,
        )


def merge_observations(
    tables: Iterable[Observations],
    grid: Grid,
    unique: Callable[[np.ndarray], np.ndarray] | None = None,
    min_pixels: int = 1,
    **about,
) -> Merged:
    """One row per unique voxel of all tables; see `Merger`."""
    merger = Merger(unique)
    for table in tables:
        merger.add(table)
    return merger.result(grid, min_pixels, **about)


def _reduce(key: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unique keys, sorted, and the sums of their columns; sums is (m, n)."""
    if not len(key):
        return key, sums
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(key) != 0]))
    return key[starts], np.add.reduceat(sums[:, order], starts, axis=1)
