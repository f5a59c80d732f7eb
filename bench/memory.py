"""Peak memory of a worker, and whether the time an image grows with their number.

    python bench/memory.py [n_images] [folder]

A sweep of a Pilatus 6M, with n_images / 10 and with n_images (600): 3 x 3 x 3
divisions of a cell of 79 A. Then 8 x 8 x 8 divisions of a cell of 300 A, where nearly
every pixel of every image has a voxel of its own, with 10 and 30 images (a block of ten
makes 2 GB of rows).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from integration import MASKS, command
from sweep import sweep


def main(n_images: int, folder: Path) -> None:
    """Prints GiB and milliseconds an image."""
    fine = "mapping.hkl_grid.divisions=8,8,8"
    command(sweep(folder, 10), 10, "block.width=0.5")
    for cell, args, numbers in (
        (1.0, (), (n_images // 10, n_images)),
        (300 / 79, (fine,), (10, 30)),
    ):
        for n in numbers:
            path = sweep(folder, n, cell)
            narrow = ("block.width=0.5",) if n == 10 else ()
            masks = f"mask.models={MASKS}"
            whole, steady, peak = command(
                path, n, "parallel.nproc=1", masks, *args, *narrow
            )
            print(
                f"cell {79 * cell:.0f} A {' '.join(args):32} {n:4d} images: "
                f"{peak:.2f} GiB, {1000 * whole.cpu:.0f} ms CPU an image, "
                f"{1000 * steady:.0f} ms in the steady state",
                flush=True,
            )


if __name__ == "__main__":
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    with tempfile.TemporaryDirectory() as temporary:
        main(n, Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else Path(temporary))
