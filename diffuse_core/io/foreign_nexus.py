"""Maps in NeXus files: the merged table and the map of dials.diffuse, and mdx2's.

mdx2 (github.com/ando-lab/mdx2, mdx2/data.py and mdx2/geometry.py) writes objects
below /entry, each with an attribute mdx2_class: HKLTable is a group with the columns
h, k, l, ndiv and e.g. intensity, intensity_error, count; GridData is an NXdata group
with a signal on the axes h, k, l.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from diffuse_core.errors import InputError
from diffuse_core.io.files import read_map, read_merged
from diffuse_core.merge import Merged
from diffuse_core.volume import Volume
from diffuse_core.voxel_list import Voxels, from_axes, from_points

OURS = (("merged", read_merged), ("map", read_map))


def read_nexus(path: Path) -> Voxels:
    """The voxels of a NeXus file of dials.diffuse or mdx2.

    Raises:
        InputError: It can't be read, or holds no table and no map.
    """
    try:
        with h5py.File(path, "r") as h5:
            entry = h5.get("entry")
            names = list(entry) if isinstance(entry, h5py.Group) else []
            classes = {
                name: _text(entry[name].attrs.get("mdx2_class", "")) for name in names
            }
            for kind, reader in (("HKLTable", _table), ("GridData", _grid)):
                found = [name for name in names if classes[name] == kind]
                if found:
                    best = "intensity" if "intensity" in found else found[0]
                    return reader(str(path), entry[best], _crystal(entry))
    except OSError as error:
        raise InputError(f"The file {path} can't be read as HDF5 ({error}).") from error
    for name, reader in OURS:
        if name in names:
            data = reader(path)
            if name == "merged":
                return voxels_of_merged(str(path), data)
            return voxels_of_map(str(path), data)
    raise InputError(
        f"The file {path} holds no merged table and no map of dials.diffuse or mdx2."
    )


def voxels_of_merged(name: str, merged: Merged) -> Voxels:
    """The voxels of a merged table, with the exposures."""
    return from_points(
        name,
        merged.grid.centres(merged.index),
        merged.intensity,
        np.asarray(merged.grid.steps),
        frame=merged.grid.frame,
        sigma=merged.sigma,
        exposure=merged.exposure,
        unit_cell=merged.unit_cell,
        space_group=merged.space_group,
        asymmetric=merged.symmetry == "laue",
    )


def voxels_of_map(name: str, volume: Volume) -> Voxels:
    """The voxels of a map that were measured."""
    measured = np.nonzero(np.isfinite(volume.intensity))
    index = np.stack(measured, axis=-1) + volume.lower
    return from_points(
        name,
        volume.grid.centres(index),
        volume.intensity[measured],
        np.asarray(volume.grid.steps),
        frame=volume.grid.frame,
        sigma=volume.sigma[measured],
        observations=volume.multiplicity[measured],
        unit_cell=volume.unit_cell,
        space_group=volume.space_group,
    )


def _table(name: str, group, unit_cell) -> Voxels:
    wanted = ("h", "k", "l", "intensity")
    missing = [column for column in wanted if column not in group]
    if missing:
        raise InputError(
            f"The table of mdx2 in {name} has no column {missing[0]}: give the file of "
            "mdx2.merge."
        )
    points = np.stack([group[axis][()] for axis in "hkl"], axis=-1)
    steps = 1.0 / np.asarray(group["ndiv"][()], float) if "ndiv" in group else None
    optional = {"sigma": "intensity_error", "observations": "count"}
    return from_points(
        name,
        points,
        group["intensity"][()],
        steps,
        unit_cell=unit_cell,
        **{ours: group[its][()] for ours, its in optional.items() if its in group},
    )


def _grid(name: str, group, unit_cell) -> Voxels:
    axes = [_text(axis) for axis in np.atleast_1d(group.attrs.get("axes", []))]
    if axes != ["h", "k", "l"]:
        raise InputError(
            f"The array of mdx2 in {name} has the axes {', '.join(axes) or 'none'}, "
            "not h, k, l: give the file of mdx2.map."
        )
    values = group[_text(group.attrs["signal"])][()]
    return from_axes(name, [group[a][()] for a in axes], values, unit_cell=unit_cell)


def _crystal(entry) -> tuple[float, ...] | None:
    cell = entry.get("crystal/unit_cell")
    return None if cell is None else tuple(float(x) for x in cell[()])


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
