"""The merged table and the map as NeXus files."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from diffuse_core.errors import InputError
from diffuse_core.grid import Grid
from diffuse_core.merge import COLUMNS, Merged
from diffuse_core.volume import Volume, machine_memory

INTENSITY_UNITS = "counts/s/sr"
CHUNK = 65_536
# Memory (bytes) per voxel of a merged table and the statistics of it.
TABLE_BYTES = 800


@contextmanager
def new_file(path: str | os.PathLike):
    """An h5py file that appears under its name when it is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(temporary, "w") as h5:
            yield h5
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def merged_file(path: str | os.PathLike, provenance: dict):
    """Yields append(part, outliers): a merged table written part by part.

    Each part is a `Merged`, and a dict of columns of observations that were left out.
    The file appears when all parts are in it: /entry/merged, /entry/outliers, one data
    set per column.
    """
    with new_file(path) as h5:

        def append(part: Merged, outliers: dict[str, np.ndarray] | None = None) -> None:
            if "entry" not in h5:
                _new_table(h5, part, provenance)
            else:
                _append(h5["entry/merged"], _table_columns(part))
            if outliers:
                group = h5["entry"].require_group("outliers")
                group.attrs["NX_class"] = "NXcollection"
                _append(group, outliers)

        yield append


def _append(group, columns: dict[str, np.ndarray], fast=()) -> None:
    """Adds rows to the data sets of a group; those named in `fast` are for h5py only,
    and compressed in a quarter of the time."""
    for name, values in columns.items():
        if name not in group:
            shape = values.shape[1:]
            group.create_dataset(
                name,
                shape=(0, *shape),
                maxshape=(None, *shape),
                dtype=values.dtype,
                chunks=(CHUNK, *shape),
                compression="lzf" if name in fast else "gzip",
                compression_opts=None if name in fast else 1,
                shuffle=True,
            )
        n = len(group[name])
        group[name].resize(n + len(values), axis=0)
        group[name][n:] = values


def _new_table(h5, part: Merged, provenance: dict) -> None:
    group = _group(_entry(h5, "merged", part, provenance), "merged", "NXdata")
    group.attrs["symmetry"] = part.symmetry
    group.attrs["estimator"] = part.estimator
    group.attrs["sums"] = list(part.sums)
    group.attrs["signal"] = "intensity"
    _append(group, _table_columns(part), part.sums)
    for name in part.grid.axes:
        group[name].attrs["units"] = part.grid.units
    for name in ("intensity", "sigma"):
        group[name].attrs["units"] = INTENSITY_UNITS
    group["exposure"].attrs["units"] = "s.sr"


def _table_columns(part: Merged) -> dict[str, np.ndarray]:
    centres = part.grid.centres(part.index)
    return {
        **{name: centres[:, i] for i, name in enumerate(part.grid.axes)},
        "index": part.index,
        **{name: getattr(part, name) for name in COLUMNS},
        **part.sums,
    }


def write_merged(path: str | os.PathLike, merged: Merged, provenance: dict) -> None:
    """Writes a merged table."""
    with merged_file(path, provenance) as append:
        append(merged)


def read_merged(path: str | os.PathLike, rows: slice = slice(None)) -> Merged:
    """A merged table.

    Args:
        path: The file.
        rows: Which rows, in order of voxel index.

    Raises:
        InputError: The file is missing or is not a merged table.
    """
    with _open(path, "merged", "merged table (dials.diffuse_merge)") as h5:
        group = h5["entry/merged"]
        names = group.attrs.get("sums", ())
        return Merged(
            grid=_grid(h5),
            index=group["index"][rows],
            symmetry=str(group.attrs["symmetry"]),
            estimator=str(group.attrs.get("estimator", "ratio")),
            sums={name: group[name][rows] for name in names},
            **{name: group[name][rows] for name in COLUMNS},
            **_crystal(h5),
        )


def read_outliers(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Observations that were left out of a merged table: columns as in `Rows`, "source"
    counting in the provenance's "sources", and bool "high"; empty if none was tested.

    Raises:
        InputError: The file is missing or is not a merged table.
    """
    with _open(path, "merged", "merged table (dials.diffuse_merge)") as h5:
        return {name: d[()] for name, d in h5["entry"].get("outliers", {}).items()}


def read_index(path: str | os.PathLike, rows: slice = slice(None)) -> np.ndarray:
    """(n, 3) int64: voxel indices of some rows of a merged table."""
    with _open(path, "merged", "merged table (dials.diffuse_merge)") as h5:
        return h5["entry/merged/index"][rows]


def number_of_voxels(path: str | os.PathLike) -> int:
    """Rows of a merged table."""
    with _open(path, "merged", "merged table (dials.diffuse_merge)") as h5:
        return len(h5["entry/merged/index"])


def check_size(path: str | os.PathLike) -> None:
    """Refuses a merged table of which statistics and a map can't be made in memory.

    Raises:
        InputError: It needs more than half of this machine's memory.
    """
    voxels, memory = number_of_voxels(path), machine_memory()
    if voxels * TABLE_BYTES > memory / 2:
        raise InputError(
            f"The merged table {path} is complete, but its {voxels} voxels are too "
            f"many for statistics and a map in {memory / 2**30:.0f} GiB of memory: "
            "read it in parts (docs/merging.md), or integrate with larger voxels or a "
            "larger mask.resolution.d_min."
        )


def write_map(path: str | os.PathLike, volume: Volume, provenance: dict) -> None:
    """Writes a map: /entry/map, NXdata with intensity, sigma, multiplicity."""
    with new_file(path) as h5:
        entry = _entry(h5, "map", volume, provenance)
        group = _group(entry, "map", "NXdata")
        group.attrs["signal"] = "intensity"
        group.attrs["axes"] = list(volume.grid.axes)
        group.attrs["lower"] = volume.lower
        for i, name in enumerate(volume.grid.axes):
            group.create_dataset(name, data=volume.axis(i))
            group[name].attrs["units"] = volume.grid.units
            group.attrs[f"{name}_indices"] = i
        for name in ("intensity", "sigma", "multiplicity"):
            values = getattr(volume, name)
            group.create_dataset(name, data=values, **_packed(values))
        group["intensity"].attrs["units"] = INTENSITY_UNITS
        group["intensity"].attrs["uncertainties"] = "sigma"
        group["sigma"].attrs["units"] = INTENSITY_UNITS


def read_map(path: str | os.PathLike) -> Volume:
    """A map.

    Raises:
        InputError: The file is missing or is not a map.
    """
    with _open(path, "map", "map (dials.diffuse_merge)") as h5:
        group = h5["entry/map"]
        return Volume(
            grid=_grid(h5),
            lower=np.asarray(group.attrs["lower"]),
            intensity=group["intensity"][()],
            sigma=group["sigma"][()],
            multiplicity=group["multiplicity"][()],
            **_crystal(h5),
        )


def read_provenance(path: str | os.PathLike) -> dict:
    """The record of `provenance.provenance` in one of our NeXus files."""
    with h5py.File(path, "r") as h5:
        return json.loads(h5["entry/process/provenance"][()])


def _group(parent, name: str, nexus_class: str):
    group = parent.create_group(name)
    group.attrs["NX_class"] = nexus_class
    return group


def _entry(h5, default: str, data: Merged | Volume, provenance: dict):
    h5.attrs["default"] = "entry"
    entry = _group(h5, "entry", "NXentry")
    entry.attrs["default"] = default
    entry["title"] = f"dials.diffuse {default}"
    process = _group(entry, "process", "NXprocess")
    process["program"] = provenance["program"]
    process["provenance"] = json.dumps(provenance)
    process["grid"] = json.dumps(data.grid.to_dict())
    if data.unit_cell is not None:
        crystal = _group(entry, "crystal", "NXcollection")
        crystal["unit_cell"] = np.array(data.unit_cell)
        if data.space_group is not None:
            crystal["space_group_hall"] = data.space_group
    return entry


def _packed(values: np.ndarray) -> dict:
    if values.size == 0:
        return {}
    return {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def _grid(h5) -> Grid:
    return Grid.from_dict(json.loads(h5["entry/process/grid"][()]))


def _crystal(h5) -> dict:
    crystal = h5.get("entry/crystal")
    if crystal is None:
        return {}
    hall = crystal.get("space_group_hall")
    return {
        "unit_cell": tuple(float(x) for x in crystal["unit_cell"][()]),
        "space_group": None if hall is None else hall[()].decode(),
    }


@contextmanager
def _open(path: str | os.PathLike, group: str, what: str):
    if not Path(path).exists():
        raise InputError(f"The file {path} does not exist.")
    try:
        h5 = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"The file {path} can't be read as HDF5 ({error}).") from error
    with h5:
        if f"entry/{group}" not in h5 or "entry/process/grid" not in h5:
            raise InputError(f"The file {path} is not a {what} of dials.diffuse.")
        yield h5
