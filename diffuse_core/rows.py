"""Observations of whole unique voxels: what scaling, merging and statistics read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Source:
    """One experiment of one folder of observations.

    Attributes:
        identifier: The experiment's identifier; may be empty.
        folder: The folder of observations.
        number: Index of the experiment in its run.
        still: Whether its images are stills.
        phi: Lowest and highest rotation angle (deg) of its rows; (0, 0) for a still.
    """

    identifier: str
    folder: str
    number: int
    still: bool
    phi: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Rows:
    """Observations of complete unique voxels, sorted by key.

    Every observation of a voxel is in one `Rows`. Rows of one voxel are in the order of
    their sources, their blocks, and their place in the block's file, so sums over them
    have the same bits whatever the order of folders was.

    Attributes:
        key: (n,) int64: key (`diffuse_core.grid`) of the unique voxel, reindexing and
            symmetry applied.
        starts: (m + 1,) int64: rows starts[i]:starts[i + 1] are voxel i.
        friedel: (n,) bool: only an operator with inversion maps the voxel that was
            seen to its representative.
        source: (n,) int32: index into `Reduction.sources`.
        block: (n,) int32: number of the block in its run.
        panel: (n,) int16.
        counts, exposure, background, background_variance: (n,) float64, as in
            `Observations`.
        pixels, phi, x, y, s: (n,) float32, as in `Observations`.
    """

    key: np.ndarray
    starts: np.ndarray
    friedel: np.ndarray
    source: np.ndarray
    block: np.ndarray
    panel: np.ndarray
    counts: np.ndarray
    exposure: np.ndarray
    background: np.ndarray
    background_variance: np.ndarray
    pixels: np.ndarray
    phi: np.ndarray
    x: np.ndarray
    y: np.ndarray
    s: np.ndarray

    def __len__(self) -> int:
        return len(self.key)

    @property
    def voxel(self) -> np.ndarray:
        """(n,) int64: number of the voxel, 0 to m - 1, of each row."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


DTYPES = {
    "key": np.int64,
    "friedel": np.bool_,
    "source": np.int32,
    "block": np.int32,
    "panel": np.int16,
    "counts": np.float64,
    "exposure": np.float64,
    "background": np.float64,
    "background_variance": np.float64,
    "pixels": np.float32,
    "phi": np.float32,
    "x": np.float32,
    "y": np.float32,
    "s": np.float32,
}
ROW_BYTES = sum(np.dtype(dtype).itemsize for dtype in DTYPES.values())


def rows_of(columns: dict[str, np.ndarray]) -> Rows:
    """Rows sorted by key; those of one voxel keep their order.

    Args:
        columns: name -> (n,) array for every name of `DTYPES`.
    """
    key = columns["key"]
    if (key[1:] < key[:-1]).any():
        order = np.argsort(key, kind="stable")
        columns = {name: values[order] for name, values in columns.items()}
        key = columns["key"]
    new = np.concatenate([np.ones(min(len(key), 1), bool), key[1:] != key[:-1]])
    starts = np.append(np.flatnonzero(new), len(key)).astype(np.int64)
    return Rows(starts=starts, **columns)


def select_rows(rows: Rows, keep: np.ndarray) -> Rows:
    """The rows where keep (n,) bool is True; voxels without any are left out."""
    return rows_of({name: getattr(rows, name)[keep] for name in DTYPES})
