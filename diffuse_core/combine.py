"""Merged tables of disjoint data to one: their sums add up.

Nothing is averaged again, so the result is that of merging all observations at once, to
the rounding of additions. Voxels with fewer than `merging.min_pixels` pixels in one
table are lost to it: set it for the last step only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffuse_core import boundary
from diffuse_core.errors import InputError
from diffuse_core.estimator import half_columns
from diffuse_core.grid import keys_of
from diffuse_core.half_sets import experiment_halves
from diffuse_core.io.files import (
    merged_file,
    number_of_voxels,
    read_index,
    read_merged,
    read_outliers,
    read_provenance,
)
from diffuse_core.merge import Merged, combine, finish, sums_of
from diffuse_core.rows import Source
from diffuse_core.sorted_runs import STRIDE, split_keys

# Memory (bytes) per voxel while a range is combined: all sums, four times.
WORKING_BYTES = 1200


@dataclass(frozen=True, eq=False)
class Table:
    """A merged table as a file.

    Attributes:
        path: The file.
        rows: How many voxels.
        head: The table without voxels: what it is about.
        provenance: Of the file.
        marks: Every `STRIDE`-th key.
    """

    path: Path
    rows: int
    head: Merged
    provenance: dict
    marks: np.ndarray

    @classmethod
    def open(cls, path: str | Path) -> Table:
        """Raises InputError if the file is no merged table that keeps its sums."""
        head = read_merged(path, slice(0, 0))
        if "weight" not in head.sums:
            raise InputError(
                f"The merged table {path} was made by an earlier version and can't be "
                "combined: merge its observations again."
            )
        marks = keys_of(read_index(path, slice(None, None, STRIDE)))
        rows = number_of_voxels(path)
        return cls(Path(path), rows, head, read_provenance(path), marks)

    @property
    def sources(self) -> list[dict]:
        """Records of the experiments."""
        return self.provenance["sources"]

    def place(self, key: int) -> int:
        """How many voxels have smaller keys."""
        block = max(int(np.searchsorted(self.marks, key)) - 1, 0) * STRIDE
        index = read_index(self.path, slice(block, block + STRIDE))
        return block + int(np.searchsorted(keys_of(index), key))


def combine_files(
    paths: Sequence[str | Path],
    path: str | Path,
    min_pixels: int = 1,
    seed: int = 0,
    memory: float = 1.0,
    notes: dict | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Merged, dict]:
    """Combines merged tables into one file.

    Args:
        paths: The tables; one alone is copied.
        path: The table to write.
        min_pixels: Voxels with fewer pixels are left out.
        seed: Of the halves of experiments.
        memory: Roughly how much to use (GiB).
        notes: Goes into the provenance.
        progress: Called with voxels read and voxels in all.

    Returns:
        The table without voxels, and its provenance.

    Raises:
        InputError: The tables don't fit together.
    """
    tables = [Table.open(p) for p in paths]
    for table in tables[1:]:
        _check(tables[0], table)
    _check_disjoint(tables)
    records = sorted(
        (record for table in tables for record in table.sources),
        key=lambda r: (r["identifier"], r["folder"], r["number"]),
    )
    provenance = {**tables[0].provenance, **(notes or {}), "sources": records}
    provenance["combined"] = [str(table.path.resolve()) for table in tables]
    head = tables[0].head
    about = {
        "estimator": head.estimator,
        "symmetry": head.symmetry,
        "space_group": head.space_group,
        "unit_cell": _mean_cell(tables),
    }
    halves = _halves_of_experiments(tables, seed)
    total, done = sum(table.rows for table in tables), 0
    with merged_file(path, provenance) as append:
        for parts in _ranges(tables, int(memory * 2**30 / WORKING_BYTES)):
            key, sums = combine(
                [
                    (keys_of(part.index), _sums(part, half))
                    for part, half in zip(parts, halves, strict=True)
                ]
            )
            append(finish(key, sums, head.grid, min_pixels, **about))
            done += sum(map(len, parts))
            progress(done, total)
        for table in tables:
            append(table.head, _outliers(table, records))
    return read_merged(path, slice(0, 0)), provenance


def _check(first: Table, other: Table) -> None:
    for what, name in (
        ("grid", "grid"),
        ("symmetry", "symmetry"),
        ("space_group", "space group"),
        ("estimator", "kind of scaling"),
    ):
        if getattr(first.head, what) != getattr(other.head, what):
            raise InputError(
                f"The merged tables {first.path} and {other.path} differ in their "
                f"{name}: merge the observations of both in the same way."
            )
    scales = [(t.provenance.get("scales") or {}).get("sha256") for t in (first, other)]
    if scales[0] != scales[1]:
        raise InputError(
            f"The merged tables {first.path} and {other.path} were scaled by different "
            "fits: scale their observations together (dials.diffuse_scale)."
        )


def _check_disjoint(tables: Sequence[Table]) -> None:
    seen: list[tuple[dict, Table]] = []
    for table in tables:
        for record in table.sources:
            for other, where in seen:
                if where is not table and _overlap(record, other):
                    name = record["identifier"] or record["folder"]
                    raise InputError(
                        f"The merged tables {where.path} and {table.path} both hold "
                        f"images of the experiment {name}: their data would count "
                        "twice."
                    )
        seen += [(record, table) for record in table.sources]


def _overlap(a: dict, b: dict) -> bool:
    same = "identifier" if a["identifier"] else "folder"
    if a[same] != b[same] or (same == "folder" and a["number"] != b["number"]):
        return False
    return a["images"][0] < b["images"][1] and b["images"][0] < a["images"][1]


def _mean_cell(tables: Sequence[Table]) -> tuple[float, ...] | None:
    """The mean over blocks, as if all had been merged at once."""
    cells = [table.head.unit_cell for table in tables]
    if any(cell is None for cell in cells) or len(set(cells)) == 1:
        return cells[0]
    weights = [sum(r["blocks"] for r in table.sources) for table in tables]
    mean = np.average(cells, axis=0, weights=weights)
    group = boundary.space_group_of_hall(tables[0].head.space_group)
    return boundary.mean_cell([mean], group)


def _halves_of_experiments(tables: Sequence[Table], seed: int) -> list[int | None]:
    """For each table the half to which its only experiment belongs.

    None leaves its halves as they are, which is so for all if one has several.
    """
    if any(len(table.sources) != 1 for table in tables):
        return [None] * len(tables)
    names = ("identifier", "folder", "number", "still", "phi")
    sources = [Source(*(t.sources[0][n] for n in names)) for t in tables]
    return experiment_halves(sources, seed).tolist()


def _ranges(tables: Sequence[Table], rows: int) -> Iterator[list[Merged]]:
    """The tables' voxels, range of keys by range."""
    for start, stop in split_keys([table.marks for table in tables], rows):
        yield [
            read_merged(t.path, slice(t.place(start), t.place(stop))) for t in tables
        ]


def _sums(part: Merged, half: int | None) -> dict[str, np.ndarray]:
    sums = sums_of(part)
    if half is not None and "experiment" in part.half_kinds:
        whole = (sums["weight"], sums["weighted"], sums["observations"].astype(float))
        for name, values in zip(half_columns("experiment"), whole, strict=True):
            sums[name] = values * half
    return sums


def _outliers(table: Table, records: list[dict]) -> dict[str, np.ndarray]:
    """The table's outliers, their "source" counting in the combined records."""
    found = read_outliers(table.path)
    if found:
        places = np.array([records.index(r) for r in table.sources], np.int32)
        found["source"] = places[found["source"]]
    return found
