"""Pictures of images with the spots that were seen and those that are predicted."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from dials.array_family import flex  # noqa: F401  (registers the flex types)
from dxtbx import flumpy

from diffuse_core import boundary

LARGEST = 1600
"""Largest edge of a picture in pixels of the image; larger images are cut."""


def write_spot_pictures(experiments, table, folder: Path, n: int = 3) -> list[Path]:
    """A picture for each of a few images: circles observed, crosses predicted.

    Args:
        experiments: ExperimentList whose images can be read.
        table: Reflections with `xyzobs.px.value` and `xyzcal.px`.
        folder: Where the pictures go.
        n: Number of pictures, spread evenly over all images.
    """
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    places = [(e, k) for e, one in enumerate(experiments) for k in _indices(one)]
    chosen = [places[i] for i in np.linspace(0, len(places) - 1, n + 2).astype(int)]
    return [
        _write(experiments[e], e, k, table, folder)
        for e, k in dict.fromkeys(chosen[1:-1] or chosen)
    ]


def _indices(experiment) -> range:
    if boundary.is_still(experiment):
        return range(1)
    return range(len(experiment.imageset))


def _write(experiment, number: int, index: int, table, folder: Path) -> Path:
    from matplotlib.figure import Figure

    raw = experiment.imageset.get_raw_data(index)
    usable = experiment.imageset.get_mask(index)
    observed, predicted, panels = _spots(experiment, number, index, table)
    panel = int(np.bincount(panels).argmax()) if len(panels) else 0
    image = np.where(
        flumpy.to_numpy(usable[panel]), flumpy.to_numpy(raw[panel]), np.nan
    ).astype(float)
    extent = [min(n, LARGEST) for n in image.shape]
    y0, x0 = ((n - e) // 2 for n, e in zip(image.shape, extent, strict=True))
    ceiling = np.nanpercentile(image, 99.5)
    figure = Figure(figsize=(9, 9 * extent[0] / extent[1] + 0.5))
    axes = figure.add_axes((0.05, 0.04, 0.93, 0.9))
    axes.imshow(
        np.sqrt(np.clip(image, 0, ceiling)),
        cmap="gray_r",
        extent=(0, image.shape[1], image.shape[0], 0),
        interpolation="nearest",
    )
    here = panels == panel
    axes.plot(
        *observed[here].T, "o", mfc="none", mec="tab:blue", ms=9, label="observed"
    )
    axes.plot(*predicted[here].T, "x", color="tab:red", ms=5, label="predicted")
    axes.set_xlim(x0, x0 + extent[1])
    axes.set_ylim(y0 + extent[0], y0)
    axes.set_title(
        f"{os.path.basename(experiment.imageset.get_path(index))}, panel {panel}: "
        f"{here.sum()} spots"
    )
    axes.legend(loc="upper right")
    path = folder / f"spots_{number:04d}_{index + 1:05d}.png"
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    figure.savefig(temporary, dpi=110, format="png")
    os.replace(temporary, path)
    return path


def _spots(experiment, number: int, index: int, table):
    """Observed and predicted (n, 2) positions in pixels, and (n,) panels."""
    use = flumpy.to_numpy(table["id"]) == number
    xyz = flumpy.to_numpy(table["xyzobs.px.value"])
    strong = flumpy.to_numpy(table.get_flags(table.flags.strong))
    strong |= flumpy.to_numpy(table.get_flags(table.flags.indexed))
    use &= strong
    if not boundary.is_still(experiment):
        first = experiment.scan.get_array_range()[0]
        use &= np.abs(xyz[:, 2] - (first + index + 0.5)) < 1.0
    panels = flumpy.to_numpy(table["panel"]).astype(int)
    calculated = flumpy.to_numpy(table["xyzcal.px"])
    return xyz[use, :2], calculated[use, :2], panels[use]
