"""Planes of voxels, drawn true to the reciprocal cell.

Both lengths and the angle between the axes are right. The ticks along the lower edge
and at the left are indices of the two axes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D

from diffuse_core.grid import Grid, reciprocal_basis

NOT_MEASURED = "0.85"
PERCENTILES = (1.0, 99.0)
LARGEST_SIDE = 1000
DPI = 130


@dataclass(frozen=True, eq=False)
class Section:
    """A plane of voxels of a map.

    Attributes:
        values: (n_x, n_y): NaN = not measured.
        lower: (2,) voxel index of values[0, 0].
        steps: (2,) width of a voxel along both axes.
        axes: Names of the two axes.
        lengths: (2,) 1/A per unit of the axes.
        angle: Between the axes (deg).
        title: What is shown, for example "hk0".
        unit: Unit of the axes, "" for indices.
        lattice: Whether the plane holds lattice points.
    """

    values: np.ndarray
    lower: np.ndarray
    steps: np.ndarray
    axes: tuple[str, str]
    lengths: tuple[float, float]
    angle: float
    title: str
    unit: str
    lattice: bool

    def of(self, values: np.ndarray) -> Section:
        """The same plane with other values (n_x, n_y)."""
        return replace(self, values=values)

    def cropped(self) -> Section:
        """The smallest rectangle of the plane that holds everything measured."""
        measured = np.isfinite(self.values)
        if not measured.any():
            return self
        low, high = [], []
        for axis in (1, 0):
            hit = np.flatnonzero(measured.any(axis=axis))
            low.append(hit[0])
            high.append(hit[-1] + 1)
        values = self.values[low[0] : high[0], low[1] : high[1]]
        return replace(self, values=values, lower=self.lower + low)

    def inches(self) -> tuple[float, float]:
        """Inches of a panel, 5 along the longer side."""
        _, corners = _placement(self)
        extent = np.ptp(corners, axis=0)
        return tuple(np.maximum(5.0 * extent / extent.max(), 1.8))

    def between_lattice_points(self) -> np.ndarray:
        """(m,): what was measured off the lattice points; all if nothing was."""
        measured = np.isfinite(self.values)
        if self.lattice:
            on = [
                whole((self.lower[i] + np.arange(n)) * self.steps[i])
                for i, n in enumerate(self.values.shape)
            ]
            between = measured & ~(on[0][:, None] & on[1])
            if between.any():
                measured = between
        return self.values[measured]


def plane(grid: Grid, unit_cell, normal: int, level: int, values, lower) -> Section:
    """A section across one axis of a grid.

    Args:
        grid: The voxels.
        unit_cell: a, b, c, alpha, beta, gamma (A, deg); needed for frame "hkl".
        normal: The axis that is constant.
        level: Its voxel index.
        values: (n_x, n_y) along the other two axes.
        lower: (3,) or (2,) voxel index of values[0, 0].
    """
    x, y = (i for i in range(3) if i != normal)
    basis = reciprocal_basis(unit_cell) if grid.frame == "hkl" else np.eye(3)
    lengths = np.linalg.norm(basis, axis=0)
    cosine = basis[:, x] @ basis[:, y] / (lengths[x] * lengths[y])
    names, unit = list(grid.axes), grid.units
    if grid.frame == "s":  # the axes have nothing in common: a square
        lengths[[x, y]] = 1.0 / (np.shape(values) * np.asarray(grid.steps)[[x, y]])
        names, unit = [f"s ({unit})" if n == "s" else n for n in names], ""
    axes = (names[x], names[y])
    names[normal] = f"{level * grid.steps[normal]:.4g}"
    if grid.frame != "hkl":
        names[normal] = f"{grid.axes[normal]} = {names[normal]}"
    lower = np.asarray(lower)
    return Section(
        values=np.asarray(values),
        lower=lower[[x, y]] if len(lower) == 3 else lower,
        steps=np.asarray(grid.steps)[[x, y]],
        axes=axes,
        lengths=(lengths[x], lengths[y]),
        angle=float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
        title=("" if grid.frame == "hkl" else ", ").join(names),
        unit=unit,
        lattice=grid.frame == "hkl" and bool(whole(level * grid.steps[normal])),
    )


def whole(coordinate: np.ndarray) -> np.ndarray:
    """Whether coordinates are whole numbers."""
    return np.abs(coordinate - np.rint(coordinate)) < 1e-6


def draw(axes, section: Section, unit: str, diverging: bool = False, limit=None):
    """Draws a section with its colour bar; returns the image.

    Args:
        axes: matplotlib axes.
        section: The plane.
        unit: Unit of the values, for the colour bar.
        diverging: Colours with 0 in the middle.
        limit: Value at the end of the diverging colours; None takes the 99th
            percentile.
    """
    values, blocks = _smaller(section.values)
    measured = section.between_lattice_points()
    if not len(measured):
        measured = np.zeros(1)
    if diverging:
        if limit is None:
            limit = np.percentile(np.abs(measured), PERCENTILES[1]) or 1.0
        low, high, name = -limit, limit, "RdBu_r"
    else:
        low, high = np.percentile(measured, PERCENTILES)
        name = "viridis"
    transform, corners = _placement(section)
    low_edge = (section.lower - 0.5) * section.steps
    high_edge = low_edge + np.array(section.values.shape) * section.steps
    end = low_edge + np.array(values.shape) * blocks * section.steps
    image = axes.imshow(
        values.T,
        origin="lower",
        extent=(low_edge[0], end[0], low_edge[1], end[1]),
        interpolation="nearest",
        cmap=matplotlib.colormaps[name].with_extremes(bad=NOT_MEASURED),
        vmin=low,
        vmax=high if high > low else low + 1.0,
    )
    image.set_transform(transform + axes.transData)
    axes.set_xlim(corners[:, 0].min(), corners[:, 0].max())
    axes.set_ylim(corners[:, 1].min(), corners[:, 1].max())
    axes.set_aspect("equal")
    lower_edge = low_edge[1]
    x_ticks = _ticks(low_edge[0], high_edge[0])
    y_ticks = _ticks(low_edge[1], high_edge[1])
    on_edge = np.column_stack([x_ticks, np.full(len(x_ticks), lower_edge)])
    axes.set_xticks(transform.transform(on_edge)[:, 0], [f"{t:g}" for t in x_ticks])
    upright = np.column_stack([np.zeros(len(y_ticks)), y_ticks])
    axes.set_yticks(transform.transform(upright)[:, 1], [f"{t:g}" for t in y_ticks])
    unit_of_axes = f" ({section.unit})" if section.unit else ""
    axes.set_xlabel(section.axes[0] + unit_of_axes)
    axes.set_ylabel(section.axes[1] + unit_of_axes)
    axes.set_title(section.title)
    axes.figure.colorbar(image, ax=axes, label=unit, shrink=0.8, extend="both")
    return image


def _ticks(low: float, high: float) -> np.ndarray:
    ticks = MaxNLocator(nbins=6, steps=[1, 2, 5, 10]).tick_values(low, high)
    return ticks[(ticks >= low) & (ticks <= high)]


def _smaller(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over blocks, so that neither side is longer than 1000; size of a block."""
    blocks = np.array([-(-n // LARGEST_SIDE) for n in values.shape])
    if max(blocks) == 1:
        return values, blocks
    padding = [(0, -n % k) for n, k in zip(values.shape, blocks, strict=True)]
    padded = np.pad(values, padding, constant_values=np.nan)
    shape = (padded.shape[0] // blocks[0], blocks[0], -1, blocks[1])
    padded = padded.reshape(shape)
    counts = np.isfinite(padded).sum(axis=(1, 3))
    means = np.nansum(padded, axis=(1, 3)) / np.maximum(counts, 1)
    return np.where(counts, means, np.nan), blocks


def _placement(section: Section):
    """The transform of array edges (voxel index, 2) to 1/A, and the four corners."""
    a, b = section.lengths
    angle = np.radians(section.angle)
    skew = np.array([[a, b * np.cos(angle), 0], [0, b * np.sin(angle), 0], [0, 0, 1]])
    low = (section.lower - 0.5) * section.steps
    high = low + np.array(section.values.shape) * section.steps
    edges = np.array([[x, y] for y in (low[1], high[1]) for x in (low[0], high[0])])
    transform = Affine2D(skew)
    return transform, transform.transform(edges)


def write_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG picture whole or not at all."""
    FigureCanvasAgg(figure)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(temporary, format="png", dpi=DPI, bbox_inches="tight")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
