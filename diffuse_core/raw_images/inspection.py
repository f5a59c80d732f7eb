"""Looks at raw images for the faults of `diffuse_core.checks`, before they are used."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dials.array_family import flex  # noqa: F401  (registers the flex types)
from dxtbx import flumpy

from diffuse_core.checks import beam_centre, beam_stop, counts, level
from diffuse_core.compat import load_experiments
from diffuse_core.errors import InputError
from diffuse_core.io.masks import write_mask
from diffuse_core.parallel import run_tasks
from diffuse_core.raw_images.steps import Steps

logger = logging.getLogger("dials.diffuse")

MOST = 200
"""So many images are looked at for their level, spread evenly."""
IN_MEAN = 12
"""So many images make the mean image."""
OFF_CENTRE = 3.0
"""Smallest error of the beam centre that is reported, pixels."""
CLEAR = 0.8
"""Least correlation of the background with itself for its centre to count."""
UPRIGHT = 0.9998
"""Least cosine between beam and panel normal for the centre to be looked for."""
MASK = "beam_stop.mask"

Place = tuple[int, int]
"""Number of an image set, and of the image in it."""


def inspect(
    steps: Steps, imported: Path, nproc: int, progress: Callable[[int, int], None]
) -> list[str]:
    """Sentences about faults of the images, none if there are none.

    Args:
        steps: The runner; the result of an earlier look at the same files is kept.
        imported: .expt file of dials.import.
        nproc: Processes that read images.
        progress: Called with (images looked at, images to look at).
    """
    path = steps.folder / "inspection.json"

    def work() -> None:
        told = _look(imported, steps.folder / MASK, nproc, progress)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(told, indent=1))
        os.replace(temporary, path)

    steps.once("inspection", [imported], [path], work)
    return json.loads(path.read_text())


def _look(imported: Path, mask_file: Path, nproc: int, progress) -> list[str]:
    sets = image_sets(str(imported))
    places = [(n, k) for n, images in enumerate(sets) for k in range(len(images))]
    chosen = _spread(places, MOST)
    found = {}
    for done, (place, result) in enumerate(
        run_tasks(image_sets, _level_of, str(imported), chosen, nproc), 1
    ):
        found[tuple(place)] = result
        progress(done, len(chosen))
    told = []
    for n in range(len(sets)):
        mine = [place for place in chosen if place[0] == n]
        levels, sigmas = np.array([found[place] for place in mine]).reshape(-1, 2).T
        if np.isfinite(levels).all() and len(mine) > 2:
            names = [_name(sets[n], k) for _, k in mine]
            told += level.say(level.describe(levels, sigmas), names)
    return told + _of_pixels(sets, _spread(chosen, IN_MEAN), mask_file)


def image_sets(path: str) -> list:
    """The image sets of an .expt file, which can be read."""
    return list(load_experiments(path, check_format=True).imagesets())


def _level_of(sets: list, place: Place) -> tuple[Place, tuple[float, float]]:
    """Mean of the background of an image over all panels, and its standard error."""
    total = squares = n = 0.0
    for values, mask in _panels(sets, place):
        valid = values[mask].astype(np.float64)
        if not valid.size:
            continue
        valid = valid[valid <= 3.0 * np.median(valid) + 5.0]
        total += valid.sum()
        squares += (valid**2).sum()
        n += valid.size
    if not n:
        return place, (np.nan, np.nan)
    mean = total / n
    return place, (mean, float(np.sqrt(max(squares / n - mean**2, 0.0) / n)))


def _of_pixels(sets: list, places: list[Place], mask_file: Path) -> list[str]:
    """What a typical image and the mean of several say."""
    images = sets[places[0][0]]
    same = [p for p in places if sets[p[0]].get_detector() == images.get_detector()]
    detector, s0 = images.get_detector(), np.array(images.get_beam().get_s0())
    largest = max(range(len(detector)), key=lambda i: np.prod(_size(detector[i])))
    middle = _panels(sets, same[len(same) // 2])[largest]
    told = counts.say(counts.describe(*middle), detector[largest].get_gain())
    hit = detector.get_panel_intersection(tuple(s0))
    if hit < 0:
        return told
    panel = detector[hit]
    stack = [_panels(sets, place)[hit] for place in same]
    mask = np.all([m for _, m in stack], axis=0)
    values = np.array([v for v, _ in stack], np.float32)
    image = np.minimum(values, 3.0 * np.median(values, axis=0) + 5.0).mean(axis=0)
    centre = panel.get_beam_centre_px(tuple(s0))
    upright = abs(np.dot(panel.get_normal(), s0 / np.linalg.norm(s0)))
    if upright > UPRIGHT:
        told += _off_centre(image, mask, centre)
    slow, fast = np.mgrid[0 : image.shape[0], 0 : image.shape[1]] + 0.5
    radius = np.hypot(fast - centre[0], slow - centre[1])
    stop = beam_stop.shadow(image, mask, radius, len(stack))
    if stop.any():
        keep = [np.ones(_size(p)[::-1], bool) for p in detector]
        keep[hit] = ~stop
        write_mask(mask_file, keep)
        told.append(
            f"{int(stop.sum())} pixels lie in the shadow of a beam stop that no mask "
            f"covers: {os.path.relpath(mask_file)} leaves them out; look at it with "
            "dials.image_viewer and use it with mask.file.path."
        )
    return told


def _off_centre(image: np.ndarray, mask: np.ndarray, centre) -> list[str]:
    (fast, slow), clear = beam_centre.offset(image, mask, centre)
    if not clear > CLEAR or np.hypot(fast, slow) < OFF_CENTRE:
        return []
    return [
        f"The background is centred {fast:+.1f}, {slow:+.1f} pixels (fast, slow) from "
        "the beam centre of the headers: if indexing fails or is not clear, give "
        "dials.import.geometry.detector.fast_slow_beam_centre="
        f"{centre[0] + fast:.1f},{centre[1] + slow:.1f}."
    ]


def _panels(sets: list, place: Place) -> list[tuple[np.ndarray, np.ndarray]]:
    """Raw values and mask of each panel of an image."""
    images, index = sets[place[0]], place[1]
    try:
        both = zip(images.get_raw_data(index), images.get_mask(index), strict=True)
    except Exception as error:
        raise InputError(
            f"The image {_name(images, index)} can't be read "
            f"({type(error).__name__}): restore it, or leave it and the images on one "
            "side of it out."
        ) from error
    return [(flumpy.to_numpy(values), flumpy.to_numpy(mask)) for values, mask in both]


def _spread(items: list, most: int) -> list:
    if len(items) <= most:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, most).astype(int)]


def _name(images, index: int) -> str:
    path = os.path.basename(images.get_path(index))
    many = len(images) > 1 and images.get_path(0) == images.get_path(len(images) - 1)
    return f"{path} image {index + 1}" if many else path


def _size(panel) -> tuple[int, int]:
    return tuple(panel.get_image_size())
