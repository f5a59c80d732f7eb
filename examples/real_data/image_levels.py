"""Mean level of each image of an .expt file, as a file for correction.exposure.

    python image_levels.py refined.expt levels.txt

The mean runs over the usable pixels between 4 and 2 A, the same for all images, over
its mean for all images. It takes the place of a monitor where none was recorded: good
enough to take out the decay of a beam, and no more exact than the assumption that the
crystal's own scattering doesn't change in the mean.
"""

from __future__ import annotations

import sys

import numpy as np

from diffuse_core import boundary
from diffuse_core.compat import load_experiments


def levels(experiment) -> np.ndarray:
    """(n_images,) float64: mean of the usable pixels of each image."""
    panels = [
        boundary.panel_geometry(experiment, 0, i)
        for i in range(len(experiment.detector))
    ]
    ring = [(1 / 4 < p.s_norm) & (p.s_norm < 1 / 2) for p in panels]
    result = []
    for index in range(len(experiment.imageset)):
        raw, usable = boundary.read_image(experiment, index)
        parts = zip(raw, usable, ring, strict=True)
        result.append(np.concatenate([r[u & i] for r, u, i in parts]).mean())
    return np.array(result)


def main(expt: str, output: str) -> None:
    """Writes experiment, image number and relative level, one line an image."""
    rows = []
    for number, experiment in enumerate(load_experiments(expt, check_format=True)):
        first = experiment.scan.get_image_range()[0] if experiment.scan else 1
        rows += [
            (number, first + i, value) for i, value in enumerate(levels(experiment))
        ]
    table = np.array(rows)
    table[:, 2] /= table[:, 2].mean()
    np.savetxt(output, table, fmt=("%d", "%d", "%.6f"))


if __name__ == "__main__":
    main(*sys.argv[1:])
