"""Pictures of all panels of a detector, as they are seen from the sample."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from diffuse_core.geometry import PanelGeometry
from diffuse_core.report.sections import NOT_MEASURED, write_figure

CELLS = 160
"""Cells along the longer side of a panel that are drawn; more are averaged."""

COLUMNS = 3
PERCENTILES = (0.5, 99.5)


def seen_from_sample(panel: PanelGeometry) -> tuple[np.ndarray, np.ndarray]:
    """(n_slow, n_fast) each: angle to the right and upwards (deg), along the beam.

    The azimuthal equidistant projection: the distance from 0 is two theta, the
    direction is that on a screen behind the sample. Up is y of the laboratory.
    """
    beam = np.array(panel.beam.s0) / np.linalg.norm(panel.beam.s0)
    up = np.array([0.0, 1.0, 0.0])
    if abs(beam @ up) > 0.9:
        up = np.array([1.0, 0.0, 0.0])
    up = up - (up @ beam) * beam
    up /= np.linalg.norm(up)
    right = np.cross(beam, up)
    x, y = panel.direction @ right, panel.direction @ up
    across = np.maximum(np.hypot(x, y), 1e-12)
    two_theta = np.degrees(np.arctan2(across, panel.direction @ beam))
    return two_theta * x / across, two_theta * y / across


def write_detector(
    path: str | os.PathLike,
    titles: Sequence[str],
    values: Sequence[Sequence[np.ndarray]],
    panels: Sequence[PanelGeometry],
    unit: str,
) -> None:
    """Writes a PNG picture with one view of the detector for each title.

    Args:
        path: The file; its folder is made if it does not exist.
        titles: One for each view.
        values: Per view, per panel (n_slow, n_fast).
        panels: The panels.
        unit: Of the values, for the colour bars.
    """
    columns = min(COLUMNS, len(titles))
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(5.4 * columns, 4.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    placed = [[_edges(c) for c in seen_from_sample(panel)] for panel in panels]
    for axes, title, of_panels in zip(grid, titles, values, strict=False):
        cells = [_blocks(np.asarray(v, float)) for v in of_panels]
        _draw(axes, placed, cells, unit)
        axes.set_title(title)
    for axes in grid[len(titles) :]:
        axes.remove()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(figure, path)


def _draw(axes, placed, cells, unit: str) -> None:
    seen = np.concatenate([c.ravel() for c in cells])
    seen = seen[np.isfinite(seen)]
    low, high = np.percentile(seen, PERCENTILES) if len(seen) else (0.0, 1.0)
    if unit == "kept":
        low, high = 0.0, 1.0
    elif high - low < 1e-9 * abs(high) or high == low:
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    for (x, y), values in zip(placed, cells, strict=True):
        mesh = axes.pcolormesh(
            x,
            y,
            np.ma.masked_invalid(values),
            cmap=matplotlib.colormaps["viridis"].with_extremes(bad=NOT_MEASURED),
            vmin=low,
            vmax=high,
            rasterized=True,
        )
    axes.set_aspect("equal")
    axes.set_facecolor(NOT_MEASURED)
    axes.set_xlabel("to the right, along the beam (deg)")
    axes.set_ylabel("up (deg)")
    axes.figure.colorbar(mesh, ax=axes, label=unit, shrink=0.8)


def _side(shape: tuple[int, ...]) -> int:
    """Pixels along the side of a block."""
    return -(-max(shape) // CELLS)


def _edges(centres: np.ndarray) -> np.ndarray:
    """Coordinates of the corners of the blocks, from those of the pixels' centres."""
    side = _side(centres.shape)
    for _ in range(2):
        n = len(centres)
        if n == 1:
            centres = np.concatenate([centres - 1e-3, centres + 1e-3])
        first, last = 1.5 * centres[:1], 1.5 * centres[-1:]
        first, last = first - 0.5 * centres[1:2], last - 0.5 * centres[-2:-1]
        inner = 0.5 * (centres[1:] + centres[:-1])
        corners = np.concatenate([first, inner, last])
        centres = corners[[*range(0, len(corners) - 1, side), -1]].T
    return centres


def _blocks(values: np.ndarray) -> np.ndarray:
    """Means over square blocks, so that no side has more than `CELLS`."""
    side = _side(values.shape)
    rows = [values[i : i + side].mean(axis=0) for i in range(0, len(values), side)]
    columns = np.array(rows).T
    columns = [columns[i : i + side].mean(axis=0) for i in range(0, len(columns), side)]
    return np.array(columns).T
