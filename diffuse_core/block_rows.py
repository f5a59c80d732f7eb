"""The rows of one block while it is integrated, in bounded memory.

Most blocks fit into memory. With fine grids nearly every pixel of every image has a
voxel of its own: then sorted runs of rows go to temporary files, which are read again
by ranges of keys.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np

from diffuse_core.memory import ROWS, give_back_freed_memory
from diffuse_core.observations import columns_of, combine_rows
from diffuse_core.row_order import combined

STRIDE = 4096
"""Rows between the keys that tell how a run is distributed."""
RECORD = np.dtype([("key", np.int64), ("panel", np.int16), ("sums", np.float64, 9)])


class _Run:
    """Sorted rows in a file without a name, which goes when the process ends.

    Read piece by piece, as pages of a mapped file would count as memory.
    """

    def __init__(self, rows, folder: str | None) -> None:
        self._length = len(rows[0])
        self.sample = rows[0][::STRIDE].copy()
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        records = np.empty(self._length, RECORD)
        records["key"], records["panel"], records["sums"] = rows
        records.tofile(self._file)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Records of some rows."""
        self._file.seek(start * RECORD.itemsize)
        return np.fromfile(self._file, RECORD, stop - start)

    def place(self, key: int | None) -> int:
        """How many rows have smaller keys; None: all."""
        if key is None:
            return self._length
        after = int(np.searchsorted(self.sample, key))
        start = max(0, after - 1) * STRIDE
        near = self.read(start, min(self._length, after * STRIDE))
        return start + int(np.searchsorted(near["key"], key))


class BlockRows:
    """Collects rows; gives the columns of observations, sorted.

    Args:
        folder: For temporary files; None: the system's.
        limit: Rows in memory.
    """

    def __init__(self, folder: str | None = None, limit: int = ROWS) -> None:
        self._folder = folder
        self._limit = limit
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._n_waiting = 0
        self._runs: list[_Run] = []

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
                self._runs.append(_Run(rows, self._folder))
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
            self._runs.append(_Run(combined(*self._take()), self._folder))
        give_back_freed_memory()
        edges = self._edges()
        start = [0] * len(self._runs)
        for edge in (*edges, None):
            stop = [run.place(edge) for run in self._runs]
            rows = np.concatenate(
                [r.read(a, b) for r, a, b in zip(self._runs, start, stop, strict=True)]
            )
            start = stop
            yield columns_of(
                *combined(
                    np.ascontiguousarray(rows["key"]),
                    np.ascontiguousarray(rows["panel"]),
                    np.ascontiguousarray(rows["sums"]),
                )
            )
        del rows
        give_back_freed_memory()

    def _take(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows in memory, which are forgotten."""
        waiting, self._waiting, self._n_waiting = self._waiting, [], 0
        if not waiting:
            return np.empty(0, np.int64), np.empty(0, np.int16), np.empty((0, 9))
        return tuple(np.concatenate(part) for part in zip(*waiting, strict=True))

    def _edges(self) -> np.ndarray:
        """(n,) int64: keys that cut the runs into parts of `limit` rows at most."""
        sample = np.sort(np.concatenate([run.sample for run in self._runs]))
        step = max(1, self._limit // STRIDE - len(self._runs))
        return np.unique(sample[step::step])
