"""Images that can't be read to the last pixel, found before anything is done.

One truncated file among thousands of stills, or one damaged image in a file of many,
would stop a program of DIALS.
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

Image = tuple[str, int]
"""Path of a file, and number of the image in it, from 0."""

EMPTY, UNKNOWN, DAMAGED = "empty file", "no image of a known format", "damaged image"


def unreadable(
    files: Sequence[str],
    nproc: int,
    memory: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str | Image, str]:
    """Path, or path and number -> what is wrong, for files and images in them.

    Args:
        files: Image files.
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
        path: (known[path]["problem"], known[path]["images"])
        for path in files
        if path in known
        and "images" in known[path]
        and known[path]["record"] == records[path]
    }
    waiting = [path for path in files if path not in results]
    found = run_tasks(_nothing, _look, None, waiting, nproc)
    for done, (path, *problem) in enumerate(found, 1):
        results[path] = problem
        progress(done, len(waiting))
    if waiting:
        content = {
            path: dict(zip(("problem", "images"), results[path], strict=True))
            | {"record": records[path]}
            for path in files
        }
        temporary = memory.with_name(f".{memory.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(content))
        os.replace(temporary, memory)
    problems: dict[str | Image, str] = {}
    for path in files:
        problem, numbers = results[path]
        if problem:
            problems[path] = problem
        problems |= {(path, number): DAMAGED for number in numbers}
    return problems


def _nothing(spec: None) -> None:
    return None


def _look(prepared: None, path: str) -> tuple[str, str | None, list[int]]:
    return path, *problems_in(path)


def problem_with(path: str) -> str | None:
    """What is wrong with an image file; None: its images, or some of them, are good."""
    return problems_in(path)[0]


def problems_in(path: str) -> tuple[str | None, list[int]]:
    """What is wrong with a file as a whole, and the numbers of its damaged images."""
    if not os.path.getsize(path):
        return EMPTY, []
    try:
        image = dxtbx.load(path)
    except Exception:
        return UNKNOWN, []
    many = getattr(image, "get_num_images", lambda: 1)()
    damaged = []
    for number in range(many):
        try:
            image.get_raw_data(number) if many > 1 else image.get_raw_data()
            image.get_detector()
        except Exception:
            damaged.append(number)
    return (DAMAGED, []) if len(damaged) == many else (None, damaged)
