"""Pictures of the central sections of a map, and of the comparison of two, as PNG."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from diffuse_core.compare import ANISOTROPIC, Comparison
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
        across = np.delete(volume.intensity.shape, normal)
        if min(across) == 1 and max(volume.intensity.shape) > 1:
            continue
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


def write_comparison(
    path: str | os.PathLike,
    names: tuple[str, str],
    comparison: Comparison,
    grid: Grid,
    unit_cell: tuple[float, ...] | None,
    operators: list[np.ndarray] | None = None,
) -> None:
    """Writes the picture of a comparison as PNG.

    Above: anisotropic part of b against that of a (numbers of voxels), and correlation
    by shell, with what the noise allows. Below: the central section that holds most
    voxels, anisotropic parts of a (scaled to b) and of b, and their difference.

    Args:
        path: The file.
        names: What a and b are.
        comparison: The figures.
        grid: The common voxels.
        unit_cell: a, b, c, alpha, beta, gamma (A, deg); needed for frame "hkl".
        operators: Laue operators R that fill the section, equivalents are index @ R.
    """
    a, b = comparison.anisotropic
    scale = comparison.fit(ANISOTROPIC).scale
    scaled = scale * a if np.isfinite(scale) else a
    panels = [scaled, b, b - scaled]
    titles = [f"{names[0]}, times {scale:.4g}", names[1], "difference"]
    parts = central_section(comparison.pair.index, panels, grid, unit_cell, operators)
    parts = [part.cropped() for part in parts]
    wide, high = parts[1].inches()
    figure = Figure(figsize=(3 * wide + 3.5, high + 5.8), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(5.0, high + 0.8))
    left, right = upper.subplots(1, 2)
    _draw_histogram(left, a, b, scale, names)
    _draw_shells(right, comparison)
    limit = np.percentile(np.abs(parts[1].between_lattice_points()), 99.0) or 1.0
    for axes, part, title in zip(lower.subplots(1, 3), parts, titles, strict=True):
        draw(axes, part, "anisotropic part", diverging=True, limit=limit)
        axes.set_title(f"{title}\n{part.title}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(figure, path)


def central_section(index, columns, grid, unit_cell, operators) -> list[Section]:
    """Sections through 0 of columns (n,) at index (n, 3), across the best axis.

    The axis is the one with most voxels in the plane; without any at 0, the layer that
    is nearest to 0.
    """
    operators = [np.eye(3, dtype=int)] if operators is None else operators

    def rows_at(normal: int, level: int) -> list[np.ndarray]:
        return [np.flatnonzero(index @ r[:, normal] == level) for r in operators]

    counts = [sum(map(len, rows_at(normal, 0))) for normal in range(3)]
    normal = 2 if counts[2] == max(counts) else int(np.argmax(counts))
    level = 0 if max(counts) else int(index[np.argmin(np.abs(index[:, 2])), 2])
    rows = rows_at(normal, level)
    points = np.concatenate(
        [index[w] @ r for w, r in zip(rows, operators, strict=True)]
    )
    rows = np.concatenate(rows)
    x, y = (i for i in range(3) if i != normal)
    lower = points.min(axis=0)
    at = tuple((points - lower)[:, [x, y]].T)
    shape = tuple(np.ptp(points, axis=0)[[x, y]] + 1)
    sections = []
    for column in columns:
        values = np.full(shape, np.nan)
        values[at] = column[rows]
        sections.append(plane(grid, unit_cell, normal, level, values, lower))
    return sections


def _draw_histogram(axes, a, b, scale: float, names) -> None:
    limits = [np.percentile(v, (0.2, 99.8)) for v in (a, b)]
    limits = [(low, high) if high > low else (low - 1, low + 1) for low, high in limits]
    bins = int(np.clip(np.sqrt(len(a)) / 2, 25, 150))
    _, _, _, image = axes.hist2d(
        a, b, bins=bins, range=limits, cmap="viridis", norm=LogNorm(), cmin=1
    )
    axes.figure.colorbar(image, ax=axes, label="voxels")
    ends = np.array(limits[0])
    axes.plot(ends, scale * ends, color="tab:red", lw=1, label=f"slope {scale:.4g}")
    axes.set_ylim(limits[1])
    axes.legend(loc="upper left")
    axes.set_xlabel(f"anisotropic part, {names[0]}")
    axes.set_ylabel(f"anisotropic part, {names[1]}")


def _draw_shells(axes, comparison: Comparison) -> None:
    shells = comparison.shells
    low = np.array([0.0 if np.isinf(r.d_max) else 1.0 / r.d_max for r in shells])
    middle = 0.5 * (low + np.array([1.0 / r.d_min for r in shells]))
    for name, colour, label in (
        ("cc", "tab:blue", "intensity"),
        ("cc_anisotropic", "tab:orange", "anisotropic part"),
    ):
        found = [getattr(r, name) for r in shells]
        allowed = [getattr(r, f"{name}_allowed") for r in shells]
        axes.plot(middle, found, "o-", color=colour, label=f"CC, {label}")
        if np.isfinite(allowed).any():
            axes.plot(middle, allowed, "--", color=colour, label="what noise allows")
    axes.axhline(0.0, color="0.7", lw=0.8)
    axes.set_ylim(min(0.0, *axes.get_ylim()), 1.05)
    axes.set_xlabel("|s| = 1/d (1/A)")
    axes.set_ylabel("correlation")
    axes.legend()
