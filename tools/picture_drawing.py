"""Axes and files of the pictures of docs/models.md."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image as PillowImage

from diffuse_core.report.detector import seen_from_sample

matplotlib.rcParams.update(
    {"font.family": "DejaVu Sans", "font.size": 11, "axes.titlesize": 11}
)
DPI = 100
COLOURS = 64
LEVELS = (0, 1, 2, 4, 8, 16, 32, 64)
"""Limits of the shades of grey of counts."""
LEFT_OUT = "#e6550d"
CURVES = ("#1f77b4", "#e6550d", "#2ca02c", "#555555")


def figure(width: float = 6.4, height: float = 3.6) -> Figure:
    """An empty figure of this size (inches; 100 pixels each)."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def save(drawn: Figure, path: Path) -> None:
    """Writes a PNG with a palette, the same bytes for the same figure."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    with PillowImage.open(buffer) as picture:
        small = picture.convert("RGB").quantize(
            COLOURS, kmeans=4, dither=PillowImage.Dither.NONE
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    small.save(path, optimize=True)


def detector(axes, panels, values, label, cmap="viridis", limits=None):
    """Values of all panels as they are seen from the sample, with a colour bar.

    Args:
        axes: Where to draw.
        panels: Geometry of the panels.
        values: Per panel (n_slow, n_fast).
        label: Quantity and unit, for the colour bar.
        cmap: Name of the colours.
        limits: Lowest and highest value; default: of the values.
    """
    low, high = limits or (
        min(float(np.nanmin(v)) for v in values),
        max(float(np.nanmax(v)) for v in values),
    )
    mesh = _panels(axes, panels, values, norm=Normalize(low, high), cmap=cmap)
    axes.figure.colorbar(mesh, ax=axes, label=label, shrink=0.9, pad=0.02)


def left_out(axes, panels, keep, counts, title):
    """One image in grey, what a mask leaves out of it in orange.

    Args:
        axes: Where to draw.
        panels: Geometry of the panels.
        keep: Per panel, bool.
        counts: Per panel, counts; means of 2 x 2 pixels are shown.
        title: What was done.
    """
    mesh = _panels(axes, panels, [_means(c) for c in counts], **grey())
    axes.figure.colorbar(mesh, ax=axes, label="counts", shrink=0.9, pad=0.02)
    masked = [np.ma.masked_where(one, np.ones(one.shape)) for one in keep]
    _panels(axes, panels, masked, cmap=ListedColormap([LEFT_OUT]))
    axes.set_title(title)
    share(axes, keep)


def grey() -> dict:
    """Shades of grey for counts."""
    norm = BoundaryNorm(LEVELS, 256, extend="max")
    return {"cmap": "gray_r", "norm": norm}


def share(axes, keep) -> None:
    """A legend with the share that is left out."""
    part = 1 - np.mean([np.mean(k) for k in keep])
    axes.legend(
        handles=[Patch(color=LEFT_OUT, label=f"left out: {100 * part:.1f} %")],
        loc="lower left",
        framealpha=0.9,
    )


def _panels(axes, panels, values, **more):
    for panel, value in zip(panels, values, strict=True):
        x, y = (_means(c, len(value)) for c in seen_from_sample(panel))
        mesh = axes.pcolormesh(x, y, value, shading="nearest", rasterized=True, **more)
    axes.set_aspect("equal")
    axes.set_xlabel("angle to the right of the beam (deg)")
    axes.set_ylabel("angle upwards (deg)")
    return mesh


def _means(values, rows=None):
    """Means over 2 x 2 pixels, unless there are `rows` rows already."""
    if rows == len(values):
        return values
    n, m = values.shape
    return values.reshape(n // 2, 2, m // 2, 2).mean(axis=(1, 3))


def curves(axes, x, named, x_label, y_label):
    """Curves with a legend.

    Args:
        axes: Where to draw.
        x: (n,) abscissa.
        named: Name -> (n,) values.
        x_label, y_label: Quantities with units.
    """
    for (name, y), colour in zip(named.items(), CURVES, strict=False):
        axes.plot(x, y, color=colour, label=name, lw=1.8)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if len(named) > 1:
        axes.legend(framealpha=0.9)
    axes.grid(alpha=0.3)


def plane(axes, x, y, values, label, limits=None, cmap="viridis"):
    """Values on a regular plane; what was not measured stays grey.

    Args:
        axes: Where to draw.
        x, y: (nx,), (ny,): coordinates of the cells' centres.
        values: (nx, ny), NaN = not measured.
        label: Quantity and unit, for the colour bar.
        limits: Lowest and highest value; default: the 1 and 99 % quantiles.
        cmap: Name of the colours.
    """
    low, high = limits or np.nanpercentile(values, (1, 99))
    axes.set_facecolor("0.85")
    mesh = axes.pcolormesh(
        x,
        y,
        np.ma.masked_invalid(values.T),
        vmin=low,
        vmax=high,
        cmap=cmap,
        shading="nearest",
        rasterized=True,
    )
    axes.figure.colorbar(mesh, ax=axes, label=label, shrink=0.9, pad=0.02)
