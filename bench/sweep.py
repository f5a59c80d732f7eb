"""A sweep of images of a Pilatus 6M for the benchmarks: few that differ, linked often.

    python bench/sweep.py folder [n_images]

Simulates `DISTINCT` images (half a minute or more) unless the folder holds them, and
prints the path of an .expt file of n_images.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

DISTINCT = 11
"""No divisor of what lies between the images of a first pass: they differ."""
RECIPE = f"""
detector {{
  name = pilatus_6m
  distance = 300
}}
scan.width = 0.1
scan.n_images = {DISTINCT}
crystal {{
  unit_cell = 79 79 38 90 90 90
  space_group = P43212
}}
"""


def sweep(folder: Path, n_images: int, cell: float = 1.0, width: float = 0.1) -> Path:
    """Path of an .expt file of n_images, each of them one of `DISTINCT`.

    Args:
        folder: Where the images are, or will be.
        n_images: Images.
        cell: Factor on the cell of the crystal.
        width: Rotation of an image (deg).
    """
    source = folder / "distinct" / "simulated.expt"
    if not source.is_file():
        from diffuse_core.simulate import run_simulation

        run_simulation(RECIPE, source.parent)
    target = folder / f"{n_images}_images_{cell:g}_{width:g}"
    target.mkdir(exist_ok=True)
    for i in range(n_images):
        link = target / f"image_{i + 1:05d}.cbf"
        if not link.exists():
            os.link(source.parent / f"simulated_{i % DISTINCT + 1:05d}.cbf", link)
    document = json.loads(source.read_text())
    document["imageset"][0]["template"] = str(target / "image_#####.cbf")
    document["scan"][0].update(
        image_range=[1, n_images],
        oscillation=[0.0, width],
        exposure_time=[1.0] * n_images,
        epochs=[float(i) for i in range(n_images)],
    )
    for axis in "abc":
        name = f"real_space_{axis}"
        vector = document["crystal"][0][name]
        document["crystal"][0][name] = [cell * v for v in vector]
    path = target / "sweep.expt"
    path.write_text(json.dumps(document))
    return path


if __name__ == "__main__" and len(sys.argv) > 1:
    n = int(sys.argv[2]) if len(sys.argv) > 2 else DISTINCT
    print(sweep(Path(sys.argv[1]).resolve(), n))
