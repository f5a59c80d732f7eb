"""Bias of merged intensities from 0.2 to 500 counts an observation, fit included.

    python bench/scale_bias.py [counts ...] [photons=1.5e6]

Made-up observations (`diffuse_core.testing.made_up_four`) of one scan. Scales are
fitted to the first million rows with smoothness chosen by held-out data; all rows are
merged with them. Prints, in per cent, the mean of the intensities against the truth
(without an offset, since mates do not tell its isotropic part) for all voxels and for
the thirds that are weakest and strongest beside their spherical average (mates do not
tell a factor that depends on |s| alone), and with an offset the size of the anisotropic
part, each with its standard error.
"""

from __future__ import annotations

import os
import sys

import numpy as np

from diffuse_core.plugins.scaling.absorption.model import Absorption
from diffuse_core.plugins.scaling.detector import DetectorScale
from diffuse_core.plugins.scaling.offset import Offset
from diffuse_core.plugins.scaling.smooth_scale import SmoothScale
from diffuse_core.scaling import fit_scales
from diffuse_core.statistics import spherical_average
from diffuse_core.testing.made_up import FRAME, SIZE
from diffuse_core.testing.made_up_four import four_parts
from diffuse_core.testing.made_up_merged import (
    MergedVoxels,
    anisotropic,
    joined,
    mean_error,
    merge_rows,
)

PART = 1_000_000
FEWEST = 300_000


def merged(counts: float, rows: int, offset: bool) -> MergedVoxels:
    """Voxels of all rows, brought to the level of the truth."""
    _, parts = four_parts(counts, rows, max(1, round(rows / PART)), offset=offset)
    components = [
        ("smooth_scale", SmoothScale()),
        *([("offset", Offset())] if offset else []),
        ("absorption", Absorption([FRAME], [0])),
        ("detector", DetectorScale([[(SIZE, SIZE)]], [0], (4, 4))),
    ]
    model, level, found = None, 1.0, []
    for made in parts:
        first = model is None
        if first:
            model = fit_scales(made.rows, made.sources, components).model
        scales = model.evaluate(made.rows)
        if first:
            level = np.mean(scales.crystal * scales.path)
            level /= np.mean(made.crystal * made.path)
        part = merge_rows(made.rows, scales, model.expected, made.intensity)
        found.append(part)
    voxels = joined(found)
    voxels.intensity[:] *= level
    voxels.sigma[:] *= level
    return voxels


def slope(voxels: MergedVoxels) -> str:
    """Size of the anisotropic part against the truth, less 1, in per cent."""
    truth = anisotropic(voxels.s, voxels.true)
    values = anisotropic(voxels.s, voxels.intensity)
    w = voxels.weight
    total = np.sum(w * truth**2)
    error = np.sqrt(np.sum((w * truth * voxels.sigma) ** 2)) / total
    return said_of(np.sum(w * truth * values) / total - 1.0, error)


def said_of(value: float, error: float) -> str:
    """In per cent."""
    return f"{100 * value:+.2f} +- {100 * error:.2f}"


def main(arguments: list[str]) -> None:
    """Prints a line for each number of counts."""
    options = dict(a.split("=") for a in arguments if "=" in a)
    levels = [float(a) for a in arguments if "=" not in a] or [0.2, 1, 5, 50, 500]
    photons = float(options.get("photons", 1.5e6))
    print("counts     rows  all            weakest        strongest      anisotropic")
    for counts in levels:
        rows = int(max(FEWEST, photons / counts))
        voxels = merged(counts, rows, False)
        ratio = voxels.true / spherical_average(voxels.s, voxels.true)(voxels.s)
        low, high = np.quantile(ratio, [1 / 3, 2 / 3])
        thirds = (np.ones(len(ratio), bool), ratio < low, ratio > high)
        said = [said_of(*mean_error(voxels, use)) for use in thirds]
        said.append(slope(merged(counts, rows, True)))
        print(f"{counts:6g} {rows:8d}  " + "  ".join(f"{s:13s}" for s in said))
        sys.stdout.flush()


if __name__ == "__main__":
    os.nice(5)
    main(sys.argv[1:])
