"""Images to indexed experiments: the DIALS part of `dials.diffuse`, in order."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from diffuse_core.compat import load_experiments
from diffuse_core.errors import InputError
from diffuse_core.inputs import EXPERIMENT_FILES
from diffuse_core.raw_images import map_test, rotation, sources, stills, summary
from diffuse_core.raw_images.inspection import inspect
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
from diffuse_core.raw_images.stills import Tally

logger = logging.getLogger("dials.diffuse")


Progress = Callable[[str, str], AbstractContextManager[Callable[[int, int], None]]]
"""Makes a progress bar of a description and a unit."""


def models_of(
    files: Sequence[str],
    params: Any,
    working,
    progress: Progress,
    begin: Callable[[], None],
) -> list[str]:
    """The .expt and .refl files for the diffuse chain.

    Files that hold crystals are returned as they are; images, and experiments without
    crystals, are reduced.

    Args:
        files: Arguments of the command: images, folders, templates, .expt, .refl.
        params: Extracted working PHIL with `mode`, `crystal`, `dials`, `parallel`,
            `output`.
        working: The working PHIL.
        progress: Makes progress bars.
        begin: Called before the first program of DIALS starts.

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
    spots, broken = None, {}
    if models:
        imported, spots = _of_models(files)
        route = choose(_series_in(imported), mode)
        begin()
    else:
        images = sources.image_files(files)
        begin()
        imported, route, broken = _import(steps, images, mode, nproc, progress)
    logger.info("Images are reduced as %s: %s", route.mode, route.reason)
    with progress("Looking at images", "image") as bar:
        faults = inspect(steps, imported, nproc, bar)
    for sentence in faults:
        logger.warning("%s", sentence)
    tally = None
    if route.mode == STILLS:
        program = params.dials.stills_program
        tally = Tally(len(stills.images_of(imported)) + sum(map(len, broken.values())))
        for reason, names in broken.items():
            tally.add(reason, names)
        seen = pair = stills.reduce_stills(
            steps, imported, known, nproc, program, tally
        )
        logger.info("%s", tally.text())
    else:
        if spots is None:
            spots = rotation.find_spots(steps, imported, nproc)
        pair = rotation.index(steps, imported, spots, known, nproc)
        seen = pair = rotation.refine(steps, pair, scan_varying=route.mode == ROTATION)
        if route.mode == ROTATION:
            pair = rotation.integrate(steps, seen, nproc)
            pair = rotation.symmetry(steps, pair, known, nproc)
    files = [*pair, rotation.spots_of(steps, seen, pair)] if pair != seen else pair
    poor = summary.validate(steps.folder, imported, seen, tally)
    if route.mode != STILLS:
        poor += map_test.say(seen[0])
    summary.write(steps.folder, route, tally, faults + poor)
    logger.info("Crystallography: %s, %s", *map(os.path.relpath, pair))
    return [str(path) for path in files]


def _import(
    steps: Steps, images: list[str], mode: str | None, nproc: int, progress: Progress
) -> tuple[Path, Route, dict[str, list[str]]]:
    """imported.expt, the route, and the names of broken images by what is wrong."""
    from diffuse_core.raw_images.headers import series_of

    route = None
    if "oscillation" in steps.user.get("import", "") and mode != STILLS:
        route = Route(ROTATION, "dials.import.geometry.scan.oscillation is given")
    route = route or choose(series_of(images), mode)
    text = "input.ignore_unhandled = True\n"
    broken: dict[str, list[str]] = {}
    if route.mode == STILL_SCAN:
        start, step = route.oscillation
        text += f"geometry.scan.oscillation = {start!r}, {step!r}\n"
    damaged: list[stills.Image] = []
    if route.mode == STILLS:
        text += "input.convert_sequences_to_stills = True\n"
        images, damaged, broken = _readable(steps, images, nproc, progress)
    step = Step(
        "import", "import", images, {"output.experiments": "imported.expt"}, text
    )
    (imported,) = steps.run(step)
    lost = _not_imported(imported, images)
    if lost and route.mode != STILLS:
        raise InputError(
            f"{len(lost)} of {len(images)} images of a scan can't be imported "
            f"({', '.join(lost[:5])}): restore them, or give the images on one side of "
            "them only."
        )
    if lost:
        broken["not imported"] = lost
    if damaged:
        imported = stills.without(steps, imported, damaged)
    return imported, route, broken


def _not_imported(imported: Path, images: Sequence[str]) -> list[str]:
    """Names of files with one image each that dials.import has passed over."""
    experiments = load_experiments(str(imported), check_format=False)
    known = {
        os.path.abspath(path) for s in experiments.imagesets() for path in s.paths()
    }
    return [
        os.path.basename(path)
        for path in images
        if path not in known and sources.template_of(path)[1] is not None
    ]


def _readable(
    steps: Steps, images: list[str], nproc: int, progress: Progress
) -> tuple[list[str], list[stills.Image], dict[str, list[str]]]:
    """Files to import, images in them that are damaged, names by what is wrong."""
    from diffuse_core.raw_images.screening import unreadable

    with progress("Reading images", "image") as bar:
        problems = unreadable(images, nproc, steps.folder / "images.json", bar)
    good = [path for path in images if path not in problems]
    if not good:
        path, problem = next(iter(problems.items()))
        raise InputError(
            f"None of {len(images)} images can be read ({path}: {problem}): give "
            "images of a detector that DIALS knows."
        )
    damaged = [image for image in problems if isinstance(image, tuple)]
    broken: dict[str, list[str]] = {}
    for image, problem in problems.items():
        broken.setdefault(problem, []).append(stills.name_of(image))
    return good, damaged, broken


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
    from diffuse_core.compat import oscillation_width

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
