"""Time and memory of dials.diffuse_scale with b, c, a, d on made-up observations.

    python bench/scale_fit.py [rows ...] [folder=.] [nproc=2] [name=value ...]

For each number of rows (default 2e6 2e7) writes a folder of observations of one scan
of 120 degrees with known B, C, G and module factors in a temporary folder (70 bytes a
row), then runs the command on it in a process of its own. Parameters with a dot in
their name go to the command. Prints wall and CPU seconds, the peak memory of the
process and all its children (GiB, sampled, without pages of files), and rms errors
against the truth. The machine may be shared: CPU time and ratios count.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from diffuse_core.scale_model import ScaleModel
from diffuse_core.testing.made_up_files import write_folder
from diffuse_core.testing.made_up_four import four_parts, recovered

COUNTS = 20.0
PHIL = [
    "scaling.components=smooth_scale+offset+absorption+detector",
    "detector.modules=4,4",
]


def make(folder: Path, rows: int) -> int:
    """Writes about as many observations; how many they are."""
    cell, parts = four_parts(COUNTS, rows, max(1, rows // 1_000_000))
    return write_folder(parts, folder, cell, 120)


def run(folder: Path, nproc: int, extra: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak memory (GiB) of the command."""
    command = [
        sys.executable,
        "-m",
        "diffuse_core.command_line.diffuse_scale",
        str(folder),
        f"parallel.nproc={nproc}",
        "output.html=None",
        *PHIL,
        *extra,
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start, peak = time.monotonic(), 0.0
    job = subprocess.Popen(command, cwd=folder.parent, stdout=subprocess.DEVNULL)
    while job.poll() is None:
        peak = max(peak, sum(map(_resident, _family(job.pid))))
        time.sleep(0.1)
    if job.returncode:
        raise SystemExit("dials.diffuse_scale failed")
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, peak


def _family(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for parent in found:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, path.read_text().split())
            except OSError:
                continue
    return found


def _resident(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(x.split()[1]) for x in lines if x.startswith("RssAnon")) / 2**20


def main(arguments: list[str]) -> None:
    """Prints a line for each number of rows."""
    extra = [a for a in arguments if "." in a.split("=")[0] and "=" in a]
    options = dict(a.split("=") for a in arguments if "=" in a and a not in extra)
    sizes = [int(float(a)) for a in arguments if "=" not in a] or [2 * 10**6, 2 * 10**7]
    with tempfile.TemporaryDirectory(dir=options.get("folder", ".")) as place:
        for rows in sizes:
            folder = Path(place).resolve() / f"{rows}"
            rows = make(folder, rows)
            wall, cpu, peak = run(folder, int(options.get("nproc", 2)), extra)
            print(f"{rows} rows: {wall:.1f} s, {cpu:.1f} s of CPU, {peak:.2f} GiB")
            model = ScaleModel.read(folder.parent / "diffuse_scales.json")
            for name, error in recovered(model).items():
                print(f"  {name}: {100 * error:.2f} %")
            print(f"  {json.dumps(model.figures['chi_squared'])}", flush=True)


if __name__ == "__main__":
    os.nice(5)
    main(sys.argv[1:])
