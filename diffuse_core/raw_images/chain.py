"""Images to indexed experiments: the DIALS part of `dials.diffuse`, in order."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffuse_core.errors import InputError
from diffuse_core.inputs import EXPERIMENT_FILES
from diffuse_core.raw_images import rotation, sources
from diffuse_core.raw_images.phil import user_parameters
from diffuse_core.raw_images.rotation import Known
from diffuse_core.raw_images.routing import (
    ROTATION,
    STILL_SCAN,
    STILLS,
    Route,
    Series,
    choose,
)
from diffuse_core.raw_images.steps import Step, Steps

logger = logging.getLogger("dials.diffuse")


def models_of(files: Sequence[str], params: Any, working) -> list[str]:
    """The .expt and .refl files for the diffuse chain.

    Files that hold crystals are returned as they are; images, and experiments without
    crystals, are reduced.

    Args:
        files: Arguments of the command: images, folders, templates, .expt, .refl.
        params: Extracted working PHIL with `mode`, `crystal`, `parallel`, `output`.
        working: The working PHIL.

    Raises:
        DiffuseError: The images can't be reduced.
    """
    models = [name for name in files if sources.names_models(name)]
    if len(models) == len(files) and not _lack_crystals(models):
        return models
    steps = Steps(params.output.dials, user_parameters(working))
    known = _known(params.crystal)
    nproc = params.parallel.nproc
    mode = None if params.mode == "auto" else params.mode
    spots = None
    if models:
        imported, spots = _of_models(files)
        route = choose(_series_in(imported), mode)
    else:
        images = sources.image_files(files)
        imported, route = _import(steps, images, mode)
    logger.info("Images are reduced as %s: %s", route.mode, route.reason)
    if spots is None:
        spots = rotation.find_spots(steps, imported, nproc)
    if route.mode == STILLS:
        raise InputError("Stills are not yet reduced.")
    pair = rotation.index(steps, imported, spots, known, nproc)
    pair = rotation.refine(steps, pair, scan_varying=route.mode == ROTATION)
    if route.mode == ROTATION:
        pair = rotation.integrate(steps, pair, nproc)
        pair = rotation.symmetry(steps, pair, known, nproc)
    logger.info("Crystallography: %s, %s", *pair)
    return [str(path) for path in pair]


def _import(steps: Steps, images: list[str], mode: str | None) -> tuple[Path, Route]:
    from diffuse_core.raw_images.headers import series_of

    series = series_of(images)
    user = steps.user.get("import", "")
    if "oscillation" in user:
        route = Route(ROTATION, "dials.import.geometry.scan.oscillation is given")
        if mode == STILLS:
            route = choose(series, mode)
    else:
        route = choose(series, mode)
    text = "input.ignore_unhandled = True\n"
    if route.mode == STILL_SCAN:
        start, step = route.oscillation
        text += f"geometry.scan.oscillation = {start!r}, {step!r}\n"
    if route.mode == STILLS:
        text += "input.convert_sequences_to_stills = True\n"
    step = Step(
        "import", "import", images, {"output.experiments": "imported.expt"}, text
    )
    (imported,) = steps.run(step)
    return imported, route


def _known(crystal) -> Known:
    cell = crystal.unit_cell
    group = crystal.space_group
    return Known(
        None if cell is None else ",".join(f"{p:.8g}" for p in cell.parameters()),
        None if group is None else str(group),
    )


def _lack_crystals(models: Sequence[str]) -> bool:
    """True if the .expt files hold experiments, and none a crystal."""
    documents = []
    for name in models:
        if not name.endswith(EXPERIMENT_FILES):
            continue
        try:
            documents.append(json.loads(Path(name).read_text()))
            if not isinstance(documents[-1], dict):
                return False
        except (OSError, ValueError):
            return False
    return bool(documents) and not any(one.get("crystal") for one in documents)


def _of_models(files: Sequence[str]) -> tuple[Path, Path | None]:
    """imported.expt and strong.refl among the arguments.

    Raises:
        InputError: There is more than one of a kind, or an image.
    """
    experiments = [f for f in files if f.endswith(EXPERIMENT_FILES)]
    reflections = [f for f in files if sources.names_models(f) and f not in experiments]
    if len(experiments) + len(reflections) < len(files):
        sources.image_files(files)
    if len(experiments) > 1 or len(reflections) > 1:
        raise InputError(
            "Several imported.expt or strong.refl files: combine them first "
            "(dials.combine_experiments), or give the images themselves."
        )
    return Path(experiments[0]), Path(reflections[0]) if reflections else None


def _series_in(imported: Path) -> list[Series]:
    """The series of an imported.expt, one per image set."""
    from diffuse_core.compat import load_experiments, oscillation_width

    experiments = load_experiments(str(imported), check_format=False)
    result = []
    for number, one in enumerate(experiments):
        width = (
            None
            if one.goniometer is None or one.scan is None
            else (oscillation_width(one.scan))
        )
        result.append(Series(f"experiment {number} of {imported}", 1, width, {}))
    return result
