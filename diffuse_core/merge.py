"""Observations to one intensity per unique voxel.

Counts, exposure and background are summed over the observations of a voxel and divided
once, here (`diffuse_core.estimator`): unbiased for any counts, zeros included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields

import numpy as np

from diffuse_core.estimator import (
    RAW,
    WEIGHTED,
    half_columns,
    ratio_of_sums,
    scatter,
    voxel_sums,
    weighted_mean,
)
from diffuse_core.grid import Grid, indices_of, keys_of
from diffuse_core.observations import Observations

ESTIMATORS = {"ratio": ratio_of_sums, "weighted": weighted_mean}


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
        symmetry: "laue", "anomalous" or "P1": what the rows were averaged over.
        estimator: "ratio" (of sums), or "weighted" by predicted variances.
        sums: Further sums, name -> (n,) float64: those of `estimator.WEIGHTED`, and of
            `estimator.half_columns` for each kind of half sets. Empty if unknown.
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
    estimator: str = "ratio"
    sums: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def half_kinds(self) -> tuple[str, ...]:
        """The kinds of half sets that the table holds."""
        names = [n for n in self.sums if n.startswith("half_")]
        return tuple(n[5 : -len("_weighted")] for n in names if n.endswith("_weighted"))

    def half(self, kind: str, which: int) -> tuple[np.ndarray, np.ndarray]:
        """Intensity and sigma, (n,) each, of one half of the data.

        NaN where that half has no observation. The sigma is that of all data, larger
        by the square root of how much smaller the sum of weights is.

        Args:
            kind: One of `half_kinds`.
            which: 0 or 1.
        """
        weight, weighted, observations = (self.sums[c] for c in half_columns(kind))
        if which == 0:
            weight = self.sums["weight"] - weight
            weighted = self.sums["weighted"] - weighted
            observations = self.observations - observations
        weight = np.where((observations > 0) & (weight > 0), weight, np.nan)
        return weighted / weight, self.sigma * np.sqrt(self.sums["weight"] / weight)

    def scatter(self) -> tuple[np.ndarray, np.ndarray]:
        """Weighted squares about the mean, found and expected; `estimator.scatter`."""
        return scatter(self.sums)


INFORMATION = ("unit_cell", "space_group", "symmetry", "estimator")
COLUMNS = tuple(
    f.name
    for f in fields(Merged)
    if f.name not in ("grid", "index", "sums", *INFORMATION)
)


def sums_of(merged: Merged) -> dict[str, np.ndarray]:
    """All sums of a table, name -> (n,): those that add up over disjoint data."""
    return {**{name: getattr(merged, name) for name in RAW}, **merged.sums}


def add_up(
    key: np.ndarray, sums: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Unique keys, sorted, and the sums of rows with equal keys, in their order."""
    if not len(key):
        return key, sums
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    return key[starts], {
        name: np.add.reduceat(values[order], starts) for name, values in sums.items()
    }


def finish(
    key: np.ndarray,
    sums: dict[str, np.ndarray],
    grid: Grid,
    min_pixels: int = 1,
    estimator: str = "ratio",
    **about,
) -> Merged:
    """The merged table of sums over observations.

    Args:
        key: (n,) int64, ascending.
        sums: name -> (n,): `RAW`, and what else is known.
        grid: The voxels.
        min_pixels: Voxels with fewer pixels are left out.
        estimator: One of `ESTIMATORS`.
        **about: unit_cell, space_group, symmetry of `Merged`.
    """
    good = (sums["pixels"] >= min_pixels) & (sums["exposure"] > 0)
    if "weight" in sums:
        good &= sums["weight"] > 0
    sums = {name: values[good] for name, values in sums.items()}
    if estimator == "ratio":
        intensity, sigma = ratio_of_sums(*(sums[name] for name in RAW[:4]))
    else:
        intensity, sigma = weighted_mean(sums)
    raw = {name: sums.pop(name) for name in RAW}
    raw["observations"] = raw["observations"].astype(np.int64)
    return Merged(
        grid=grid,
        index=indices_of(key[good]),
        intensity=intensity,
        sigma=sigma,
        **raw,
        estimator=estimator,
        sums=sums,
        **about,
    )


class Merger:
    """Adds tables of observations to unique voxels, in bounded batches.

    Args:
        unique: (n, 3) voxel indices -> (n, 3) indices of their representatives, or
            None to keep every voxel.
    """

    _BATCH = 5_000_000

    def __init__(self, unique: Callable[[np.ndarray], np.ndarray] | None) -> None:
        self._unique = unique
        self._parts: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
        self._waiting = 0
        self._merged = 0

    def add(self, table: Observations) -> None:
        """Takes in one block."""
        columns = table.columns
        key = columns["key"]
        if self._unique is not None and len(key):
            key = keys_of(self._unique(indices_of(key)))
        raw = tuple(columns[name] for name in RAW[:5])
        self._parts.append(add_up(key, voxel_sums(np.arange(len(key) + 1), raw)))
        self._waiting += len(self._parts[-1][0])
        if self._waiting > self._merged + self._BATCH:
            self._collapse()

    def _collapse(self) -> None:
        self._parts = [combine(self._parts)]
        self._merged = self._waiting = len(self._parts[0][0])

    def result(self, grid: Grid, min_pixels: int = 1, **about) -> Merged:
        """The merged table; arguments as those of `finish`."""
        if self._parts:
            self._collapse()
            key, sums = self._parts[0]
        else:
            key, sums = np.empty(0, np.int64), dict.fromkeys([*RAW, *WEIGHTED], EMPTY)
        return finish(key, sums, grid, min_pixels, **about)


EMPTY = np.empty(0)


def combine(
    parts: list[tuple[np.ndarray, dict[str, np.ndarray]]],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Sums of several parts (keys, sums), added up; sums that all of them have."""
    names = [n for n in parts[0][1] if all(n in sums for _, sums in parts)]
    key = np.concatenate([key for key, _ in parts])
    return add_up(
        key, {n: np.concatenate([sums[n] for _, sums in parts]) for n in names}
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
