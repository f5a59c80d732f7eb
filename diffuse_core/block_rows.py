"""The rows of one block while it is integrated, in bounded memory.

Most blocks fit into memory. With fine grids nearly every pixel of every image has a
voxel of its own: then sorted runs of rows go to temporary files, which are read again
by ranges of keys.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np

from diffuse_core.observations import columns_of, combine_rows
from diffuse_core.row_order import combined

LIMIT = 1_000_000
"""Rows that are held in memory."""
STRIDE = 4096
"""Rows between the keys that tell how a run is distributed."""
RECORD = np.dtype([("key", np.int64), ("panel", np.int16), ("sums", np.float64, 9)])


class BlockRows:
    """Collects rows; gives the columns of observations, sorted.

    Args:
        folder: For temporary files; None: the system's.
        limit: Rows in memory.
    """

    def __init__(self, folder: str | None = None, limit: int = LIMIT) -> None:
        self._folder = folder
        self._limit = limit
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._n_waiting = 0
        self._runs: list[np.memmap] = []

    def add(self, key: np.ndarray, panel: int, sums: np.ndarray) -> None:
        """Takes rows of one panel.

        Args:
            key: (n,) int64; a key may come several times.
            panel: Index of the panel.
            sums: (n, 9) float64, `kernels.COLUMNS`.
        """
        if not len(key):
            return
        self._waiting.append((key, np.full(len(key), panel, np.int16), sums))
        self._n_waiting += len(key)
        if self._n_waiting > self._limit:
            rows = combined(*self._take())
            if 2 * len(rows[0]) > self._limit:
                self._runs.append(self._written(rows))
            else:
                self._waiting, self._n_waiting = [rows], len(rows[0])

    def columns(self) -> dict[str, np.ndarray]:
        """All columns at once."""
        parts = list(self.parts())
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def parts(self) -> Iterator[dict[str, np.ndarray]]:
        """Columns of ascending ranges of keys, at least one; to be called once."""
        if not self._runs:
            yield combine_rows(*self._take())
            return
        if self._n_waiting:
            self._runs.append(self._written(combined(*self._take())))
        edges = self._edges()
        places = [np.searchsorted(run["key"], edges) for run in self._runs]
        for i in range(len(edges) + 1):
            found = [
                run[(at[i - 1] if i else 0) : (at[i] if i < len(edges) else len(run))]
                for run, at in zip(self._runs, places, strict=True)
            ]
            rows = np.concatenate(found)
            yield columns_of(
                *combined(
                    np.ascontiguousarray(rows["key"]),
                    np.ascontiguousarray(rows["panel"]),
                    np.ascontiguousarray(rows["sums"]),
                )
            )

    def _take(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows in memory, which are forgotten."""
        waiting, self._waiting, self._n_waiting = self._waiting, [], 0
        if not waiting:
            return np.empty(0, np.int64), np.empty(0, np.int16), np.empty((0, 9))
        return tuple(np.concatenate(part) for part in zip(*waiting, strict=True))

    def _written(self, rows) -> np.memmap:
        """Rows in a file without a name, which goes when the process ends."""
        records = np.empty(len(rows[0]), RECORD)
        records["key"], records["panel"], records["sums"] = rows
        with tempfile.TemporaryFile(dir=self._folder) as file:
            records.tofile(file)
            file.flush()
            return np.memmap(file, RECORD, "r")

    def _edges(self) -> np.ndarray:
        """(n,) int64: keys that cut the runs into parts of `limit` rows at most."""
        sample = np.sort(np.concatenate([run["key"][::STRIDE] for run in self._runs]))
        step = max(1, self._limit // STRIDE - len(self._runs))
        return np.unique(sample[step::step])
