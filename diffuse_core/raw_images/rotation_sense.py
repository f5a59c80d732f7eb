"""Whether a scan indexes better with its rotation axis reversed.

With the wrong sense of rotation the spots of neighbouring images don't form a lattice:
where few spots are indexed, the other sense is tried. In a narrow wedge most may be
indexed all the same, but not where they were seen: then it is tried too.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from dials.array_family import flex
from dxtbx import flumpy

from diffuse_core.errors import InputError
from diffuse_core.raw_images.steps import Step, StepError, Steps

FEW = 0.6
"""Below this part of indexed spots the reversed axis is tried."""
BETTER = 1.5
"""The reversed axis is right if it indexes so many times as many spots."""
ASTRAY = 0.7
"""Median distance of a spot from its place, pixels, from which it is tried too; it is
right if it indexes as many spots at half the distance."""


def indexed_part(reflections: Path) -> tuple[float, float]:
    """The part of the spots that is indexed; their median distance from their places.

    The distance is in pixels, on the detector.
    """
    table = flex.reflection_table.from_file(str(reflections))
    indexed = table.select(table.get_flags(table.flags.indexed))
    if not len(indexed):
        return 0.0, np.inf
    astray = flumpy.to_numpy(indexed["xyzcal.px"] - indexed["xyzobs.px.value"])
    median = float(np.median(np.hypot(astray[:, 0], astray[:, 1])))
    return len(indexed) / len(table), median


def check(
    steps: Steps, imported: Path, spots: Path, phil: str, indexed: Path | None
) -> None:
    """Refuses a scan that indexes much better the other way round.

    Args:
        steps: The runner.
        imported: Experiments without crystals.
        spots: Strong spots.
        phil: Parameters of dials.index.
        indexed: Reflections as indexed with the axis as it is; None: indexing failed.

    Raises:
        InputError: The axis is to be reversed.
    """
    as_given, astray = (0.0, np.inf) if indexed is None else indexed_part(indexed)
    if as_given >= FEW and astray < ASTRAY:
        return
    reversed_path = steps.folder / "reversed.expt"
    steps.once(
        "reverse",
        [imported],
        [reversed_path],
        lambda: _reverse(imported, reversed_path),
    )
    outputs = {
        "output.experiments": "indexed_reversed.expt",
        "output.reflections": "indexed_reversed.refl",
    }
    step = Step(
        "index_reversed", "index", [reversed_path, spots], outputs, phil, optional=True
    )
    try:
        _, reflections = steps.run(step)
    except StepError:
        return
    other, nearer = indexed_part(reflections)
    more = other > max(BETTER * as_given, 0.3)
    if more or (other >= max(as_given, 0.3) and nearer < 0.5 * astray):
        raise InputError(
            f"The rotation axis is reversed: {100 * as_given:.0f} % of the spots can "
            f"be indexed as it is, {100 * other:.0f} % the other way round, "
            f"{nearer:.2f} instead of {astray:.2f} pixels from where they should be; "
            "repeat with "
            "dials.import.geometry.goniometer.invert_rotation_axis=True (or "
            "without it, where it was given)."
        )


def _reverse(imported: Path, target: Path) -> None:
    """Writes the experiments with every goniometer turning the other way."""
    document = json.loads(imported.read_text())
    for goniometer in document["goniometer"]:
        if "axes" in goniometer:
            n = goniometer["scan_axis"]
            goniometer["axes"][n] = [-x for x in goniometer["axes"][n]]
        else:
            goniometer["rotation_axis"] = [-x for x in goniometer["rotation_axis"]]
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(document))
    os.replace(temporary, target)
