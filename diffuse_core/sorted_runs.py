"""Rows on disk in sorted runs: the memory of sorting does not depend on their number.

A run is a file of rows sorted by key, one column after the other. Rows of a range of
keys are then a slice of every run, and the ranges can be chosen when all are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffuse_core.rows import DTYPES, Rows, rows_of

STRIDE = 1024


@dataclass(frozen=True, eq=False)
class SortedRun:
    """A file of rows.

    Attributes:
        path: The file.
        rows: How many.
        marks: (m,) int64: every `STRIDE`-th key.
    """

    path: Path
    rows: int
    marks: np.ndarray

    def place(self, key: int) -> int:
        """How many rows have smaller keys."""
        if not self.rows:
            return 0
        keys = np.memmap(self.path, np.int64, "r", 0, (self.rows,))
        return int(np.searchsorted(keys, key))

    def column(self, name: str, start: int, stop: int) -> np.ndarray:
        """A column of some rows."""
        offset = 0
        for other, dtype in DTYPES.items():
            size = np.dtype(dtype).itemsize
            if other == name:
                break
            offset += self.rows * size
        return np.fromfile(self.path, dtype, stop - start, offset=offset + start * size)


def write_run(path: Path, parts: Sequence[dict[str, np.ndarray]]) -> SortedRun:
    """Writes rows as one run; rows of equal key keep their order.

    Args:
        path: The new file.
        parts: Columns of `DTYPES`, one after the other.
    """
    key = np.concatenate([part["key"] for part in parts])
    order = np.argsort(key, kind="stable")
    key = key[order]
    with open(path, "wb") as file:
        for name, dtype in DTYPES.items():
            values = key
            if name != "key":
                values = np.concatenate([part[name] for part in parts])[order]
            values.astype(dtype, copy=False).tofile(file)
    return SortedRun(path, len(key), key[::STRIDE].copy())


def key_ranges(runs: Sequence[SortedRun], rows: int) -> list[tuple[int, int]]:
    """Ranges start <= key < stop that cover all keys, each of about `rows` rows.

    No voxel is divided, so a range may hold more rows where a voxel does.
    """
    return split_keys([run.marks for run in runs], rows)


def split_keys(marks: Sequence[np.ndarray], rows: int) -> list[tuple[int, int]]:
    """The same from every `STRIDE`-th key of sorted tables."""
    step = max(1, rows // STRIDE)
    inner = np.unique(np.sort(np.concatenate(marks))[step::step])
    info = np.iinfo(np.int64)
    edges = [info.min, *inner.tolist(), info.max]
    return list(zip(edges[:-1], edges[1:], strict=True))


def rows_between(runs: Sequence[SortedRun], start: int, stop: int) -> Rows:
    """All rows with start <= key < stop, in the order of the runs within a voxel."""
    places = [(run, run.place(start), run.place(stop)) for run in runs]
    columns, order = {}, None
    for name in DTYPES:
        values = np.concatenate([run.column(name, a, b) for run, a, b in places])
        if order is None:
            order = np.argsort(values, kind="stable")
        columns[name] = values[order]
    return rows_of(columns)
