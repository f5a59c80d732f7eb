"""Image files that can't be read to the last pixel, found before anything is done.

One truncated file among thousands of stills would stop a program of DIALS.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import dxtbx
from dials.array_family import flex  # noqa: F401  (registers the flex types)

from diffuse_core.io.provenance import file_record
from diffuse_core.parallel import run_tasks

EMPTY, UNKNOWN, DAMAGED = "empty file", "no image of a known format", "damaged image"


def unreadable(
    files: Sequence[str],
    nproc: int,
    memory: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, str]:
    """Path -> what is wrong, for the files that can't be read.

    Args:
        files: Image files. Of a file with many images the first is read.
        nproc: Processes that read.
        memory: JSON file with the results of earlier runs; files that have not changed
            since are not read again.
        progress: Called with (files looked at, files to look at).
    """
    try:
        known = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    records = {path: file_record(path) for path in files}
    results = {
        path: known[path]["problem"]
        for path in files
        if path in known and known[path]["record"] == records[path]
    }
    waiting = [path for path in files if path not in results]
    found = run_tasks(_nothing, _look, None, waiting, nproc)
    for done, (path, problem) in enumerate(found, 1):
        results[path] = problem
        progress(done, len(waiting))
    if waiting:
        content = {
            path: {"record": records[path], "problem": results[path]} for path in files
        }
        temporary = memory.with_name(f".{memory.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(content))
        os.replace(temporary, memory)
    return {path: results[path] for path in files if results[path]}


def _nothing(spec: None) -> None:
    return None


def _look(prepared: None, path: str) -> tuple[str, str | None]:
    return path, problem_with(path)


def problem_with(path: str) -> str | None:
    """What is wrong with an image file; None: it can be read."""
    if not os.path.getsize(path):
        return EMPTY
    try:
        image = dxtbx.load(path)
    except Exception:
        return UNKNOWN
    try:
        many = getattr(image, "get_num_images", lambda: 1)() > 1
        image.get_raw_data(0) if many else image.get_raw_data()
        image.get_detector()
    except Exception:
        return DAMAGED
    return None
