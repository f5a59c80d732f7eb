"""Time of dials.diffuse_integrate against the time of reading, in one run.

    python bench/integration.py [n_images] [folder]

On a sweep of a Pilatus 6M (0.1 degree, 3 x 3 x 3 divisions), with one process and with
two, with all default models, and with the masks that need no look at the counts:

- reading: dxtbx's `get_raw_data` alone, before and after the command;
- steady state: per image, after the first block of each process; one process that may
  use two cores reads ahead in the second, so the efficiency of two processes is also
  told against one process on one core;
- whole command: start, geometry and compiled code from the cache included;
- kernel: the compiled loop alone, with the latter, against a copy of the same arrays.

The machine may be shared: the ratios count, and of repeated figures the best. The
folder keeps the images for the next run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sweep import sweep

from diffuse_core import boundary, config
from diffuse_core.compat import load_experiments
from diffuse_core.integrate import Integrator
from diffuse_core.models import RunInputs
from diffuse_core.panels import Models
from diffuse_core.plan import ImageSource, PanelCache, make_blocks
from diffuse_core.registry import Registry

READ = """
import sys, time
from diffuse_core.compat import load_experiments
images = load_experiments(sys.argv[1], check_format=True)[0].imageset
images.get_raw_data(0)
print("ready", flush=True)
sys.stdin.readline()
start, cpu = time.perf_counter(), time.process_time()
for index in range(int(sys.argv[2]), len(images), int(sys.argv[3])):
    images.get_raw_data(index)
print(time.perf_counter() - start, time.process_time() - cpu, flush=True)
"""
MASKS = "bragg+file+resolution+untrusted"
COMMAND = "from diffuse_core.command_line.diffuse_integrate import run; run()"


def models_of(run: RunInputs) -> Models:
    """`MASKS` and the models that a run without parameters selects."""
    registry = Registry.discover({})
    scope = config.master_scope(registry, (), config.INTEGRATE_KINDS)
    params = config.extract(scope, f"mask.models = {MASKS}")
    kinds = {
        kind: config.build_models(registry, params, run, kind)
        for kind in config.INTEGRATE_KINDS
    }
    return Models(
        kinds["mask"], kinds["correction"], kinds["background"], kinds["mapping"][0]
    )


@dataclass(frozen=True)
class Times:
    """Seconds an image."""

    wall: float
    cpu: float


def reading(path: Path, n_images: int, nproc: int) -> Times:
    """Processes that do nothing but read, all at once; CPU of all together."""
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READ, str(path), str(i), str(nproc)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(nproc)
    ]
    for reader in readers:
        reader.stdout.readline()
    for reader in readers:
        reader.stdin.write("\n")
        reader.stdin.flush()
    said = [reader.communicate()[0].split() for reader in readers]
    wall, cpu = np.array(said, float).T
    return Times(wall.max() / n_images, cpu.sum() / n_images)


def command(
    path: Path, n_images: int, *args: str, cores: Collection[int] | None = None
) -> tuple[Times, float, float]:
    """dials.diffuse_integrate: the whole; steady state (s an image); peak (GiB).

    Steady is the time between the block files: from the one that comes after the first
    of each process to the last. `cores`: those that it may use; None: all.
    """
    nproc = next((int(a.split("=")[1]) for a in args if "nproc" in a), 1)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(path), *args],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=cores and (lambda: os.sched_setaffinity(0, cores)),
        )
        _, status, usage = os.wait4(process.pid, 0)
        whole = time.perf_counter() - start
        if status:
            raise SystemExit(f"dials.diffuse_integrate failed for {path}")
        files = (Path(folder) / "diffuse_observations").glob("block_*.h5")
        times = sorted(file.stat().st_mtime for file in files)
    each = n_images / len(times)
    steady = (times[-1] - times[nproc - 1]) / (len(times) - nproc) / each
    cpu = usage.ru_utime + usage.ru_stime
    return Times(whole / n_images, cpu / n_images), steady, usage.ru_maxrss / 2**20


def kernel(path: Path) -> tuple[float, float]:
    """Seconds an image of the compiled loop, and of a copy of the raw values."""
    experiments = load_experiments(str(path), check_format=True)
    run = RunInputs(experiments, None, boundary.setups_of(experiments))
    models = models_of(run)
    integrator = Integrator(models, PanelCache(run, models))
    block = make_blocks(experiments, [0], 1.0)[0]
    ready = list(ImageSource(run, 1).exposures(block))
    raw = [e.image.counts[0] for e in ready]
    buffer = np.empty_like(raw[0])
    integrator.integrate_rows(0, ready)
    loop, copy = [], []
    for _ in range(5):
        start = time.thread_time()
        integrator.integrate_rows(0, ready)
        loop.append(time.thread_time() - start)
        start = time.thread_time()
        for values in raw:
            np.copyto(buffer, values)
        copy.append(time.thread_time() - start)
    return min(loop) / len(raw), min(copy) / len(raw)


def compared(folder: Path, n_images: int, nproc: int, *args: str) -> float:
    """Prints the command against reading; steady state, seconds an image."""
    path, short = sweep(folder, n_images), sweep(folder, n_images // 3)
    args = (f"parallel.nproc={nproc}", *args)
    reads = [reading(path, n_images, nproc)]
    less, _, _ = command(short, n_images // 3, *args)
    reads.append(reading(path, n_images, nproc))
    whole, steady, _ = command(path, n_images, *args)
    reads.append(reading(path, n_images, nproc))
    cpu = (whole.cpu - less.cpu / 3) * 1.5
    wall_read = np.median([read.wall for read in reads])
    cpu_read = np.median([read.cpu for read in reads])
    for name, wall, used in (
        ("reading alone", wall_read, cpu_read),
        ("steady state", steady, cpu),
        ("whole command", whole.wall, whole.cpu),
    ):
        print(
            f"  {name:14}{1000 * wall:8.1f} {wall / wall_read:6.2f}"
            f"{1000 * used:10.1f} {used / cpu_read:6.2f}",
            flush=True,
        )
    return steady


def main(n_images: int, folder: Path) -> None:
    """Prints milliseconds an image and ratios."""
    few = f"mask.models={MASKS}"
    command(sweep(folder, 30), 30)  # compiles
    for masks, args in (("default models", ()), (few, (few,))):
        steady = {}
        for nproc in (1, 2):
            print(
                f"{masks}, {nproc} process(es): wall clock, CPU; ms an image, times "
                "reading"
            )
            steady[nproc] = compared(folder, n_images, nproc, *args)
        print(f"efficiency of 2 processes: {steady[1] / steady[2] / 2:.2f}")
        one = {min(os.sched_getaffinity(0))}
        alone = ("parallel.nproc=1", *args)
        _, core, _ = command(sweep(folder, n_images), n_images, *alone, cores=one)
        print(
            f"one process on one core: {1000 * core:.1f} ms an image; efficiency of 2 "
            f"processes on two: {core / steady[2] / 2:.2f}"
        )
    loop, copy = kernel(sweep(folder, n_images))
    pixels = 2527 * 2463
    print(f"kernel alone     {1000 * loop:7.1f} ms, {pixels / loop / 1e6:.0f} Mpixel/s")
    print(f"copy of the raw  {1000 * copy:7.1f} ms, {4 * pixels / copy / 1e9:.1f} GB/s")
    print(f"kernel / copy    {loop / copy:7.1f}")


if __name__ == "__main__":
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 180
    with tempfile.TemporaryDirectory() as temporary:
        main(n, Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else Path(temporary))
