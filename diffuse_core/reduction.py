"""Observations of whole voxels from any number of block files, in ranges of keys.

Few rows are read at once. Many are first written, symmetry applied, to sorted runs in a
temporary folder; ranges of keys are then read back one by one, by any number of
workers. Either way rows come in one order, so sums over them have the same bits.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffuse_core.collection import BlockFile, Collection, collect
from diffuse_core.errors import ConfigError, DiffuseError
from diffuse_core.grid import Grid
from diffuse_core.observations import read_observations
from diffuse_core.parallel import run_tasks
from diffuse_core.rows import DTYPES, ROW_BYTES, Rows, Source, rows_of
from diffuse_core.sorted_runs import SortedRun, key_ranges, rows_between, write_run
from diffuse_core.symmetry import UniqueVoxels

# Memory (bytes) per row while a range is reduced: rows twice, scales, sums, the table.
WORKING_BYTES = 400
PREFIX = ".diffuse_sorting_"


def no_progress(done: int, total: int) -> None:
    """Shows nothing."""


@dataclass(frozen=True, eq=False)
class _Reader:
    """Reads block files with reindexing and symmetry applied; goes to workers."""

    unique: UniqueVoxels
    reindex: tuple[np.ndarray | None, ...]

    def read(self, file: BlockFile, rows: slice = slice(None)) -> dict:
        columns = dict(read_observations(file.path, rows).columns)
        key, friedel = self.unique.keys(columns["key"], self.reindex[file.source])
        columns["key"], columns["friedel"] = key, friedel
        columns["source"] = np.full(len(key), file.source, np.int32)
        columns["block"] = np.full(len(key), file.block, np.int32)
        return columns

    def chosen(self, item: tuple) -> tuple[str, dict]:
        name, pieces, fraction, seed = item
        parts = []
        for file, rows in pieces:
            part = self.read(file, rows)
            keep = hash_of(part["key"], seed) < fraction
            parts.append({column: part[column][keep] for column in DTYPES})
        return name, _joined(parts)

    def write(self, batch: tuple[Path, list[tuple[BlockFile, slice]]]) -> SortedRun:
        path, pieces = batch
        return write_run(path, [self.read(file, rows) for file, rows in pieces])


class Reduction:
    """Every observation of some folders, one unique voxel after the other.

    Temporary files live until the object is closed, or collected.

    Args:
        folders: Folders of observations, or what `collect` made of them.
        unique: Symmetry; None keeps every voxel.
        reindex: Identifier of an experiment -> operator on Miller indices such as
            "k,h,-l", applied before symmetry.
        memory: Memory for rows (GiB), of all workers together.
        scratch: Where to make the temporary folder.

    Raises:
        InputError: The folders are incomplete or do not fit together.
        ConfigError: An operator is none, or does not map voxels to voxels.
    """

    def __init__(
        self,
        folders: Sequence[str] | Collection,
        unique: UniqueVoxels | None = None,
        reindex: Mapping[str, str] | None = None,
        memory: float = 2.0,
        scratch: str | Path = ".",
    ) -> None:
        self.collection = (
            folders if isinstance(folders, Collection) else collect(folders)
        )
        matrices = {
            identifier: _operator(text, self.collection.grid)
            for identifier, text in (reindex or {}).items()
        }
        self._reader = _Reader(
            unique or UniqueVoxels(),
            tuple(matrices.get(source.identifier) for source in self.sources),
        )
        self.memory = memory
        self.scratch = Path(scratch)
        self.rows = sum(file.rows for file in self.collection.files)
        self._folder: tempfile.TemporaryDirectory | None = None
        self._runs: list[SortedRun] = []

    @property
    def sources(self) -> list[Source]:
        """The experiments, in an order that is independent of that of the folders."""
        return self.collection.sources

    def __enter__(self) -> Reduction:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Removes the temporary files."""
        if self._folder is not None:
            self._folder.cleanup()
        self._folder, self._runs = None, []

    def ranges(self, nproc: int = 1) -> Iterator[Rows]:
        """All observations in ascending order of keys, in parts of bounded memory.

        Args:
            nproc: Processes that sort them.
        """
        if self._few(1):
            yield self._all()
            return
        self._sort(nproc, no_progress)
        for start, stop in key_ranges(self._runs, self._rows_at_once(1)):
            yield rows_between(self._runs, start, stop)

    def map(
        self,
        prepare: Callable[[Any], Any],
        task: Callable[[Any, Rows], Any],
        spec: Any,
        nproc: int = 1,
        progress: Callable[[int, int], None] = no_progress,
    ) -> Iterator[Any]:
        """Results of `task(prepare(spec), rows)` in ascending order of keys.

        Args:
            prepare: Called once in each worker; picklable, as all here.
            task: What to do with the rows of a range.
            spec: Argument of `prepare`.
            nproc: Processes.
            progress: Called with rows done and rows in all; every row counts twice,
                when it is sorted and when it is reduced.
        """
        total = 2 * self.rows
        if self._few(nproc):
            yield task(prepare(spec), self._all())
            progress(total, total)
            return
        self._sort(nproc, progress)
        ranges = key_ranges(self._runs, self._rows_at_once(nproc))
        items = list(enumerate(ranges))
        work = _RangeWork(self._runs, prepare, task, spec)
        done = run_tasks(
            _RangeWork.started, _RangeWork.reduce, work, items, nproc, name=_range_name
        )
        waiting: dict[int, Any] = {}
        seen = self.rows
        for number, result, rows in done:
            waiting[number] = result
            seen += rows
            progress(seen, total)
            while items and items[0][0] in waiting:
                yield waiting.pop(items.pop(0)[0])

    def sample(self, fraction: float, seed: int = 0, nproc: int = 1) -> Rows:
        """All observations of a part of the voxels, chosen by a hash of their keys.

        Args:
            fraction: Part of the voxels, 0 to 1.
            seed: Another seed chooses other voxels.
            nproc: Processes that read.
        """
        batches = self._batches(self._rows_at_once(nproc))
        items = [(name, pieces, fraction, seed) for name, pieces in batches]
        read = run_tasks(
            _same, _Reader.chosen, self._reader, items, nproc, name=_batch_name
        )
        found = dict(read)
        return rows_of(_joined([found[name] for name in sorted(found)]))

    def _few(self, nproc: int) -> bool:
        return not self._runs and self.rows <= self._rows_at_once(nproc)

    def _all(self) -> Rows:
        return rows_of(_joined([self._reader.read(f) for f in self.collection.files]))

    def _rows_at_once(self, nproc: int) -> int:
        return max(1, int(self.memory * 2**30 / WORKING_BYTES / nproc))

    def _batches(self, limit: int) -> Iterator[tuple[str, list]]:
        """Names and contents of runs: rows of files, in order, up to a limit."""
        pieces, room, number = [], limit, 0
        for file in self.collection.files:
            start = 0
            while start < file.rows:
                stop = min(file.rows, start + room)
                pieces.append((file, slice(start, stop)))
                room -= stop - start
                start = stop
                if not room:
                    yield f"run_{number:06d}", pieces
                    pieces, room, number = [], limit, number + 1
        if pieces:
            yield f"run_{number:06d}", pieces

    def _sort(self, nproc: int, progress: Callable[[int, int], None]) -> None:
        if self._runs:
            return
        self._make_folder()
        folder = Path(self._folder.name)
        batches = [(folder / n, p) for n, p in self._batches(self._rows_at_once(nproc))]
        runs, seen = {}, 0
        written = run_tasks(
            _same, _Reader.write, self._reader, batches, nproc, name=_batch_name
        )
        for run in written:
            runs[run.path] = run
            seen += run.rows
            progress(seen, 2 * self.rows)
        self._runs = [runs[path] for path, _ in batches]

    def _make_folder(self) -> None:
        need, free = self.rows * ROW_BYTES, shutil.disk_usage(self.scratch).free
        if need > free:
            raise DiffuseError(
                f"Sorting {self.rows} observations needs {need / 2**30:.1f} GiB in "
                f"{self.scratch.resolve()}, and {free / 2**30:.1f} GiB are free there: "
                "make room, or write the output to another disk."
            )
        _remove_orphans(self.scratch)
        self._folder = tempfile.TemporaryDirectory(
            prefix=f"{PREFIX}{socket.gethostname()}_{os.getpid()}_", dir=self.scratch
        )


@dataclass(frozen=True, eq=False)
class _RangeWork:
    """What a worker needs to reduce ranges of keys."""

    runs: list[SortedRun]
    prepare: Callable
    task: Callable
    spec: Any

    def started(self) -> tuple[_RangeWork, Any]:
        return self, self.prepare(self.spec)

    @staticmethod
    def reduce(started: tuple[_RangeWork, Any], item: tuple) -> tuple[int, Any, int]:
        work, state = started
        number, (start, stop) = item
        rows = rows_between(work.runs, start, stop)
        return number, work.task(state, rows), len(rows)


def _remove_orphans(scratch: Path) -> None:
    """Removes the temporary folders of processes of this machine that were killed."""
    mine = f"{PREFIX}{socket.gethostname()}_"
    for folder in scratch.glob(f"{mine}*"):
        pid = folder.name.removeprefix(mine).split("_")[0]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (OSError, ValueError):
            continue


def _operator(text: str, grid: Grid) -> np.ndarray:
    from diffuse_core.boundary import index_operator

    matrix = index_operator(text)
    for i, j in np.argwhere(matrix).tolist():
        if grid.frame != "hkl" or grid.steps[i] != grid.steps[j]:
            raise ConfigError(
                f"The operator {text} turns axis {grid.axes[j]} into {grid.axes[i]}, "
                "but the voxels are not of one width along both: integrate with equal "
                "mapping.hkl_grid.divisions on the axes that it mixes."
            )
    return matrix


def _same(reader: _Reader) -> _Reader:
    return reader


def _range_name(item: tuple) -> str:
    return f"range {item[0]} of the voxels"


def _batch_name(item: tuple) -> str:
    first, last = item[1][0][0].path, item[1][-1][0].path
    return f"the rows of {first}" + (f" to {last.name}" if last != first else "")


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if not parts:
        return {name: np.empty(0, dtype) for name, dtype in DTYPES.items()}
    return {name: np.concatenate([part[name] for part in parts]) for name in DTYPES}


def hash_of(key: np.ndarray, seed: int) -> np.ndarray:
    """(n,) float64 in [0, 1): splitmix64 of (n,) int64 keys; the same everywhere.

    G. Steele, D. Lea, C. Flood, OOPSLA 2014, fig. 17.
    """
    z = key.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)) / 2.0**53
