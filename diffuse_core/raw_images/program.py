"""Runs one program of DIALS in a process of its own, as a job file says.

    python -m diffuse_core.raw_images.program JOB.json FD

The job has the program's name, its input files and three PHIL texts: `defaults` (used
as far as this version of the program has the parameters), `user` and `fixed`, each
stronger than the one before. What the program gets is written to a .phil file beside
the job.
FD is the reading end of a pipe: when it closes, since the caller has died, this process
and all that it started end too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from iotbx.phil import parse

from diffuse_core.raw_images import programs


def main(job_path: str, alive: int) -> None:
    """Runs the job in the current folder."""
    threading.Thread(target=_end_with_caller, args=(alive,), daemon=True).start()
    job = json.loads(Path(job_path).read_text())
    module = programs.load(job["program"])
    master = programs.scope_of(module)
    sources = [parse(job[kind]) for kind in ("defaults", "user", "fixed")]
    _, unused = master.fetch(sources[-1], track_unused_definitions=True)
    if unused:
        names = ", ".join(str(item.path) for item in unused)
        raise ValueError(f"this version of DIALS has no parameter {names}")
    phil = Path(job_path).with_suffix(".phil")
    phil.write_text(master.fetch_diff(master.fetch(sources=sources)).as_str())
    arguments = [*job["inputs"], str(phil)]
    sys.argv = [f"dials.{job['program']}", *arguments]
    print(" ".join(sys.argv), flush=True)
    module.run(arguments)


def _end_with_caller(alive: int) -> None:
    os.read(alive, 1)
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
