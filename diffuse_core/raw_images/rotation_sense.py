"""Whether a scan indexes better with its rotation axis reversed.

With the wrong sense of rotation the spots of neighbouring images don't form a lattice:
where few spots are indexed, the other sense is tried.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from dials.array_family import flex

from diffuse_core.errors import InputError
from diffuse_core.raw_images.steps import Step, StepError, Steps

FEW = 0.6
"""Below this part of indexed spots the reversed axis is tried."""
BETTER = 1.5
"""The reversed axis is right if it indexes so many times as many spots."""


def indexed_part(reflections: Path) -> float:
    """The part of the spots of a table that is indexed."""
    table = flex.reflection_table.from_file(str(reflections))
    return table.get_flags(table.flags.indexed).count(True) / max(len(table), 1)


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
    as_given = 0.0 if indexed is None else indexed_part(indexed)
    if as_given >= FEW:
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
    other = indexed_part(reflections)
    if other > max(BETTER * as_given, 0.3):
        raise InputError(
            f"The rotation axis is reversed: {100 * as_given:.0f} % of the spots can "
            f"be indexed as it is, {100 * other:.0f} % the other way round; repeat "
            "with dials.import.geometry.goniometer.invert_rotation_axis=True (or "
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
