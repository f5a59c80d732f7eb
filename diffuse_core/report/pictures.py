"""Pictures of the central sections of a map, and of the comparison of two, as PNG."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from diffuse_core.grid import Grid
from diffuse_core.report.sections import Section, draw, plane, whole, write_figure
from diffuse_core.statistics import SphericalAverage, spherical_average
from diffuse_core.volume import Volume

SAMPLE = 4_000_000
UNIT = "counts/s/sr"


def write_sections(volume: Volume, folder: str | os.PathLike) -> list[Path]:
    """Paths of the PNG pictures of the three central sections that were written.

    Each shows the intensity, and the intensity minus its spherical average. Voxels on
    lattice points count neither for the average nor for the range of the colours. A
    map that does not reach the origin along an axis is cut where it comes nearest.

    Args:
        volume: The map.
        folder: Where the pictures go; made if it does not exist.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    average = volume_average(volume)
    if average is None:
        return []
    paths = []
    for normal in (2, 1, 0):
        first = int(volume.lower[normal])
        last = first + volume.intensity.shape[normal] - 1
        level = min(max(0, first), last)
        values = np.take(volume.intensity, level - first, axis=normal)
        total = plane(
            volume.grid, volume.unit_cell, normal, level, values, volume.lower
        )
        index = np.zeros((*values.shape, 3), np.int64)
        x, y = (i for i in range(3) if i != normal)
        index[..., x] = volume.lower[x] + np.arange(values.shape[0])[:, None]
        index[..., y] = volume.lower[y] + np.arange(values.shape[1])
        index[..., normal] = level
        s = volume.grid.s_norm(index.reshape(-1, 3), volume.unit_cell)
        part = total.of(values - average(s).reshape(values.shape))
        path = folder / f"section_{_file_name(volume.grid, normal)}.png"
        write_figure(_two_panels(total.cropped(), part.cropped()), path)
        paths.append(path)
    return paths


def _file_name(grid: Grid, normal: int) -> str:
    return "".join("0" if i == normal else name for i, name in enumerate(grid.axes))


def volume_average(volume: Volume) -> SphericalAverage | None:
    """The spherical average of a map between the lattice points; None if it is empty.

    It is that of a random sample (seeded) where there are over 4 million voxels.
    """
    flat = volume.intensity.reshape(-1)
    if flat.size > SAMPLE:
        rows = np.random.default_rng(0).integers(0, flat.size, SAMPLE)
    else:
        rows = np.arange(flat.size)
    rows = rows[np.isfinite(flat[rows])]
    if not len(rows):
        return None
    shape = volume.intensity.shape
    index = np.stack(np.unravel_index(rows, shape), axis=-1) + volume.lower
    if volume.grid.frame == "hkl":
        between = ~whole(volume.grid.centres(index)).all(axis=1)
        if between.any():
            rows, index = rows[between], index[between]
    s = volume.grid.s_norm(index, volume.unit_cell)
    return spherical_average(s, flat[rows].astype(float))


def _two_panels(total: Section, part: Section) -> Figure:
    wide, high = total.inches()
    figure = Figure(figsize=(2 * wide + 2.4, high + 1.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw(left, total, UNIT)
    draw(right, part, UNIT, diverging=True)
    right.set_title(f"{part.title}, spherical\naverage subtracted")
    return figure
