"""Time and memory of a fit with b, c, a, d, and whether they are linear.

python bench/scaling.py [observations ...]
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from diffuse_core.plugins.scaling.absorption.model import Absorption
from diffuse_core.plugins.scaling.detector import DetectorScale
from diffuse_core.plugins.scaling.offset import Offset
from diffuse_core.plugins.scaling.smooth_scale import SmoothScale
from diffuse_core.scaling import fit_scales
from diffuse_core.testing.made_up import DISTANCE, PIXEL, SIZE, make_rows

PANEL = {
    "origin": [-SIZE * PIXEL / 2, -SIZE * PIXEL / 2, -DISTANCE],
    "fast": [1, 0, 0],
    "slow": [0, 1, 0],
    "pixel": [PIXEL, PIXEL],
    "size": [SIZE, SIZE],
}


def main(numbers: list[int]) -> None:
    """Prints observations, CPU and wall time, peak memory."""
    for number in numbers:
        cell = 65.0 * np.cbrt(number / 60_000)
        made = make_rows(
            20.0,
            cell=(cell, 1.1 * cell, 1.2 * cell),
            crystal=lambda source, phi: 1.0 + 0.3 * np.sin(phi / 20.0),
        )
        components = [
            ("b", SmoothScale(2.0)),
            ("c", Offset()),
            ("a", Absorption([{"s0": [0, 0, -1.0], "panels": [PANEL]}], [0])),
            ("d", DetectorScale([[(SIZE, SIZE)]], [0], (4, 4))),
        ]
        cpu, wall = time.process_time(), time.monotonic()
        fit_scales(made.rows, made.sources, components)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{len(made.rows):9d} observations  {cpu:7.1f} s CPU  {wall:7.1f} s  "
            f"{peak:.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main([int(float(n)) for n in sys.argv[1:]] or [100_000, 300_000, 1_000_000])
