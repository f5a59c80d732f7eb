"""Reads what image headers say of the scan, from a few images of each series."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

import dxtbx
from dials.array_family import flex
from dxtbx.model import Scan

from diffuse_core.compat import oscillation_width
from diffuse_core.errors import InputError
from diffuse_core.raw_images.routing import Series
from diffuse_core.raw_images.sources import template_of

ENDS = 3
"""So many images of a series are looked at, at its beginning and again at its end."""


def series_of(files: Sequence[str]) -> list[Series]:
    """The series among image files: one per template, or per file of many images.

    Raises:
        InputError: No image can be read.
    """
    groups: dict[str, dict[int, str]] = defaultdict(dict)
    for path in files:
        template, number = template_of(path)
        groups[template][-1 if number is None else number] = path
    problems: list[str] = []
    result = []
    for template, members in groups.items():
        found = _look_at(template, members, problems)
        if found is not None:
            result.append(found)
    if not result:
        raise InputError(
            f"None of the {len(files)} files can be read as an image ({problems[0]}): "
            "give files of a detector that DIALS knows (dials.show tells)."
        )
    return result


def _look_at(template: str, members: dict[int, str], problems: list) -> Series | None:
    """One series; unreadable images are passed over, their reasons collected."""
    numbers = sorted(members)
    sample: dict[int, tuple[float | None, float, int]] = {}
    for direction in (numbers, numbers[::-1]):
        seen = 0
        for number in direction:
            if seen == ENDS or number in sample:
                break
            try:
                sample[number] = _header(members[number])
            except Exception as error:
                problems.append(f"{members[number]}: {error or type(error).__name__}")
                continue
            seen += 1
    if not sample:
        return None
    widths = [width for width, _, _ in sample.values()]
    images = sum(n for *_, n in sample.values()) if -1 in sample else len(members)
    return Series(
        name=template,
        images=images,
        width=None if None in widths else max(widths, key=abs),
        starts={number: start for number, (_, start, _) in sample.items()},
    )


def _header(path: str) -> tuple[float | None, float, int]:
    """Rotation width (None: no scan), start (deg) and number of images of a file."""
    if not os.path.getsize(path):
        raise InputError("the file is empty")
    image = dxtbx.load(path)
    scan, goniometer = image.get_scan(), image.get_goniometer()
    n = image.get_num_images() if hasattr(image, "get_num_images") else 1
    if scan is None or goniometer is None:
        return None, 0.0, n
    width = oscillation_width(scan)
    start = scan.get_oscillation()[0] if _has_angles(scan) else 0.0
    return width, start, n


def exposure_of(path: str, number: int) -> float | None:
    """Exposure time of an image (s), as its header has it; None: it doesn't tell.

    Args:
        path: Image file.
        number: Of the image in the file, from 0.
    """
    scan = dxtbx.load(path).get_scan()
    times = [] if scan is None else list(scan.get_exposure_times())
    time = times[number] if number < len(times) else max(times, default=0.0)
    return time if time > 0 else None


def still_scan(exposure: float | None) -> Scan | None:
    """A scan without rotation that holds the exposure time of a still (s)."""
    if exposure is None:
        return None
    return Scan((1, 1), (0.0, 0.0), flex.double([exposure]), flex.double([0.0]))


def _has_angles(scan) -> bool:
    return not hasattr(scan, "has_property") or scan.has_property("oscillation")
