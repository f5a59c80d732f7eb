"""What the crystallography came to: validation in the log, pictures, summary.json."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from diffuse_core.inputs import load
from diffuse_core.raw_images import validation
from diffuse_core.raw_images.rotation import Pair
from diffuse_core.raw_images.routing import Route
from diffuse_core.raw_images.stills import Tally

logger = logging.getLogger("dials.diffuse")

MOVED = 2.0
"""Smallest shift of the beam centre by refinement that is reported, pixels."""
STRETCHED = 0.01
"""Smallest relative change of the distance by refinement that is reported."""


def validate(
    folder: Path, imported: Path, seen: Pair, tally: Tally | None
) -> list[str]:
    """Sentences about a poor geometry; table, spread and pictures go to the log.

    Args:
        folder: For pictures.
        imported: Models as the headers have them.
        seen: Crystals and the reflections whose spots were seen.
        tally: Of stills.

    Raises:
        InputError: The geometry is no good.
    """
    experiments, table = load([str(seen[0])], [str(seen[1])])
    before, _ = load([str(imported)], (), check_format=False)
    found = validation.residuals(experiments, table)
    logger.info("Observed against predicted:\n%s", validation.table_text(found))
    if tally is not None and tally.cells is not None:
        logger.info("Unit cells: %s", cell_text(tally))
    elif len(experiments) > 1:
        spread = validation.orientation_spread(experiments)
        logger.info("Orientations of the sweeps agree to %.3f degrees (rms)", spread)
    told = validation.judge(found, len(experiments))
    told += moved(before[0], experiments[0])
    for sentence in told:
        logger.warning("%s", sentence)
    try:
        from diffuse_core.report.spots import write_spot_pictures

        pictures = write_spot_pictures(experiments, table, folder / "pictures")
        logger.info("Pictures: %s", ", ".join(map(os.path.relpath, pictures)))
    except Exception as error:
        logger.warning("The pictures of spots can't be made (%s).", error)
    return told


def cell_text(tally: Tally) -> str:
    """Median cell of the stills with its spread."""
    cells = tally.cells
    values = zip(cells.median, cells.spread, strict=True)
    return ", ".join(f"{m:.2f} ({s:.2f})" for m, s in values)


def moved(before, after) -> list[str]:
    """Sentences about beam centre and distance that refinement moved far.

    Args:
        before: Experiment as the headers have it.
        after: Refined experiment with the same detector.
    """
    told = []
    s0, new = before.beam.get_s0(), after.beam.get_s0()
    panel = before.detector.get_panel_intersection(s0)
    panel = max(panel, 0)
    old_centre = np.array(before.detector[panel].get_beam_centre_px(s0))
    new_centre = np.array(after.detector[panel].get_beam_centre_px(new))
    shift = new_centre - old_centre
    if np.hypot(*shift) > MOVED:
        told.append(
            "The beam centre of the headers is off: refinement moved it by "
            f"{shift[0]:+.1f}, {shift[1]:+.1f} pixels (fast, slow) to "
            f"{new_centre[0]:.1f}, {new_centre[1]:.1f}."
        )
    distances = [abs(e.detector[panel].get_distance()) for e in (before, after)]
    if abs(distances[1] / distances[0] - 1) > STRETCHED:
        told.append(
            "The distance of the headers is off, or the cell: refinement moved it from "
            f"{distances[0]:.2f} to {distances[1]:.2f} mm."
        )
    return told


def write(
    folder: Path, route: Route, tally: Tally | None, sentences: list[str]
) -> None:
    """Writes summary.json: route, stills that were lost and why, what is wrong."""
    content = {"route": asdict(route), "warnings": sentences}
    if tally is not None:
        content["stills"] = {"images": tally.images, "left_out": tally.lost}
    path = folder / "summary.json"
    temporary = folder / f".summary.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(content, indent=1))
    os.replace(temporary, path)
