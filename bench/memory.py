"""Peak memory of a worker, and whether the time an image grows with their number.

    python bench/memory.py [n_images] [folder]

A sweep of a Pilatus 6M with n_images / 10 and with n_images (600): images of 0.1 degree
on 3 x 3 x 3 divisions of a cell of 79 A, then images of 0.01 degree on 8 x 8 x 8
divisions of a cell of 300 A, where nearly every pixel has a voxel of its own (a degree
makes 2 GB of rows, which need room in the folder). One process, masks that need no look
at the counts. The time of blocks is that of all but the first, which also makes the
geometry.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from integration import MASKS
from sweep import sweep

TIMED = """
import json, sys, time
from diffuse_core.command_line.diffuse_integrate import run
from diffuse_core.run import Run

blocks, original = [], Run.integrate_all

def timed(self, items):
    start = time.process_time()
    result = original(self, items)
    images = sum(block.stop - block.start for block in items)
    blocks.append((images, time.process_time() - start))
    return result

Run.integrate_all = timed
run()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak = int(status["VmHWM"].split()[0]) / 2**20
print("figures", json.dumps([blocks, time.process_time(), peak]))
"""


def measured(path: Path, *args: str) -> tuple[float, float, float, float]:
    """CPU seconds of an image, all and blocks only; peak, and bound before (GiB)."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        said = subprocess.run(
            [sys.executable, "-c", TIMED, str(path), "parallel.nproc=1", *args],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    bound = float(re.search(r"Memory: at most ([0-9.]+) GB", said).group(1))
    blocks, cpu, peak = json.loads(said.rpartition("figures ")[2])
    images, seconds = (sum(column) for column in zip(*blocks[1:], strict=True))
    n_images = images + blocks[0][0]
    return cpu / n_images, seconds / images, peak, bound * 1e9 / 2**30


def main(n_images: int, folder: Path) -> None:
    """Prints GiB and milliseconds of CPU an image."""
    masks = f"mask.models={MASKS}"
    measured(sweep(folder, 10), masks, "block.width=0.5")  # compiles
    for cell, width, divisions, block in (
        (1.0, 0.1, 3, 1.0),
        (300 / 79, 0.01, 8, 0.3),
    ):
        each = []
        for n in (n_images // 10, n_images):
            path = sweep(folder, n, cell, width)
            grid = f"mapping.hkl_grid.divisions={divisions},{divisions},{divisions}"
            whole, steady, peak, bound = measured(
                path, masks, grid, f"block.width={block}"
            )
            each.append((whole, steady))
            print(
                f"{divisions} divisions of {79 * cell:.0f} A, {n:4d} images: peak "
                f"{peak:.2f} GiB, said {bound:.2f}; ms of CPU an image: "
                f"{1000 * whole:.1f}, blocks {1000 * steady:.1f}",
                flush=True,
            )
        ratios = [many / few for few, many in zip(*each, strict=True)]
        print(f"  many / few: {ratios[0]:.3f}, blocks {ratios[1]:.3f}", flush=True)


if __name__ == "__main__":
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    with tempfile.TemporaryDirectory() as temporary:
        main(n, Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else Path(temporary))
