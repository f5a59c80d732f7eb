"""Merging made-up observations: rows per second, peak memory, and whether both scale.

    python bench/merging.py [rows ...] [folder=.] [nproc=2] [memory=1]

For each number of rows (default 1e6 1e7 1e8) writes block files of 2 x 10^5 rows in a
temporary folder (70 bytes a row there, and as much again while they are sorted), then
merges them over mmm in a process of its own with all half sets. The machine may be
shared: CPU time and ratios count. Memory is the largest sum over all processes,
sampled.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from diffuse_core import config, merge_stage
from diffuse_core.grid import Grid, keys_of
from diffuse_core.io.files import number_of_voxels
from diffuse_core.observations import Observations, write_observations
from diffuse_core.registry import Registry

BLOCK = 200_000
MULTIPLICITY = 24


def make(folder: Path, rows: int) -> None:
    """Writes observations, about 24 of each unique voxel."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    extent = round(np.cbrt(rows / MULTIPLICITY))
    names = []
    for number in range(-(-rows // BLOCK)):
        n = min(BLOCK, rows - number * BLOCK)
        index = rng.integers(-extent, extent + 1, (n, 3))
        positions = {name: rng.random(n, np.float32) for name in ("x", "y", "s")}
        columns = {
            "key": np.sort(keys_of(index)),
            "panel": np.zeros(n, np.int16),
            "pixels": np.full(n, 4, np.float32),
            "counts": rng.poisson(2.0, n).astype(float),
            "exposure": rng.random(n) + 0.5,
            "background": rng.random(n),
            "background_variance": 0.01 * rng.random(n),
            "phi": np.full(n, number, np.float32),
            **positions,
        }
        meta = {
            "grid": Grid("hkl", (1 / 3,) * 3).to_dict(),
            "block": [number, 0, number, number + 1],
            "identifier": "made up",
            "still": False,
            "phi": [number, number],
            "unit_cell": [79.0, 80.0, 81.0, 90.0, 90.0, 90.0],
            "space_group": " P 2ac 2ab",
            "provenance": {"program": "bench"},
        }
        names.append(f"block_{number:06d}.h5")
        write_observations(folder / names[-1], Observations(columns, meta))
    (folder / "run.json").write_text(json.dumps({"files": names}))


def merge(folder: str, path: str, nproc: int, memory: float, pipe) -> None:
    """Merges in this process; sends seconds, CPU seconds, peak memory (GiB)."""
    scope = config.master_scope(Registry.discover({}), ("merging",), ())
    merging = config.extract(scope, f"merging.memory = {memory}").merging
    peak, stop = [0.0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(peak, stop))
    watcher.start()
    start = time.perf_counter()
    merge_stage.merge_folders([folder], merging, path, nproc)
    seconds = time.perf_counter() - start
    stop.set()
    watcher.join()
    usage = [
        resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    cpu = sum(u.ru_utime + u.ru_stime for u in usage)
    pipe.send((seconds, cpu, peak[0]))


def _watch(peak: list[float], stop: threading.Event) -> None:
    while not stop.wait(0.2):
        ids = [os.getpid(), *(p.pid for p in multiprocessing.active_children())]
        peak[0] = max(peak[0], sum(map(_resident, ids)))


def _resident(pid: int) -> float:
    """Resident memory (GiB) without pages of files."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(x.split()[1]) for x in lines if x.startswith("RssAnon")) / 2**20


def main(arguments: list[str]) -> None:
    """Prints a line for each number of rows."""
    options = dict(a.split("=") for a in arguments if "=" in a)
    sizes = [int(float(a)) for a in arguments if "=" not in a] or [10**6, 10**7, 10**8]
    nproc, memory = int(options.get("nproc", 2)), float(options.get("memory", 1))
    print("      rows     voxels  seconds  CPU s  us CPU/row  rows/s    GiB")
    with tempfile.TemporaryDirectory(dir=options.get("folder", ".")) as place:
        for rows in sizes:
            folder, path = Path(place) / f"{rows}", f"{place}/{rows}.nxs"
            make(folder, rows)
            context = multiprocessing.get_context("spawn")
            here, there = context.Pipe()
            job = context.Process(
                target=merge, args=(str(folder), path, nproc, memory, there)
            )
            job.start()
            seconds, cpu, peak = here.recv()
            job.join()
            print(
                f"{rows:10d} {number_of_voxels(path):10d} {seconds:8.1f} {cpu:6.1f} "
                f"{1e6 * cpu / rows:11.3f} {rows / seconds:7.3g} {peak:6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
