"""Whether symmetry mates agree better with the rotation axis reversed.

Seen from the middle of a scan, a reversed axis gives each image the orientation of the
one that is as far on the other side.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from dxtbx import flumpy

from diffuse_core import boundary
from diffuse_core.checks.symmetry_mates import agreement
from diffuse_core.compat import load_experiments

logger = logging.getLogger("dials.diffuse")

IMAGES = 12
"""So many images of a scan are looked at."""
POINTS = 40_000
"""About so many points of a detector are looked at."""
SHELLS, SECTORS = 16, 12
"""Places on the detector: shells of |s|, sectors about the beam."""
CLEAR = 5.0
"""The reversed axis is better if its correlation is larger by so many sigmas."""


def say(path: Path) -> list[str]:
    """A sentence for each scan whose map is better with the axis reversed.

    Args:
        path: .expt file with crystals and scans.
    """
    told = []
    for number, experiment in enumerate(load_experiments(str(path), True)):
        as_given, other, voxels = both_ways(experiment)
        logger.info(
            "Symmetry mates of a rough map correlate by %.2f, with the rotation axis "
            "reversed by %.2f",
            as_given,
            other,
        )
        if voxels and other - as_given > CLEAR * np.sqrt(2.0 / voxels):
            told.append(
                f"The rotation axis of experiment {number} seems to be reversed: "
                f"symmetry mates of the map correlate by {as_given:.2f} as it is, by "
                f"{other:.2f} the other way round; compare with a run with "
                "dials.import.geometry.goniometer.invert_rotation_axis=True."
            )
            logger.warning("%s", told[-1])
    return told


def both_ways(experiment) -> tuple[float, float, int]:
    """Correlation of mates with the axis as it is, and reversed; number of voxels."""
    n = len(experiment.imageset)
    chosen = np.unique(np.linspace(0, n - 1, IMAGES).astype(int))
    s, place, step = _points(experiment)
    rows, values = [], []
    for index in chosen:
        counts, good = _blocks(experiment.imageset, int(index), step)
        rows.append(good)
        values.append(counts[good])
    places = np.concatenate([place[good] for good in rows])
    intensity = np.concatenate(values)
    operators = boundary.laue_operators(experiment.crystal.get_space_group())
    found = []
    for order in (chosen, n - 1 - chosen):
        hkl = [
            s[good] @ boundary.image_of(experiment, 0, int(i)).to_hkl.T
            for i, good in zip(order, rows, strict=True)
        ]
        found.append(agreement(np.concatenate(hkl), intensity, places, operators))
    (as_given, voxels), (other, more) = found
    return as_given, other, min(voxels, more)


def _points(experiment) -> tuple[np.ndarray, np.ndarray, int]:
    """(n, 3) s, (n,) place and the width of blocks of pixels, over all panels."""
    pixels = boundary.image_size(experiment.detector)
    step = max(1, int(np.sqrt(pixels / POINTS)))
    parts = []
    for index in range(len(experiment.detector)):
        geometry = boundary.panel_geometry(experiment, 0, index)
        parts.append(_mean(np.asarray(geometry.s, np.float64), step).reshape(-1, 3))
    s = np.concatenate(parts)
    length = np.linalg.norm(s, axis=1)
    shell = np.searchsorted(
        np.quantile(length, np.linspace(0, 1, SHELLS + 1))[1:-1], length
    )
    beam = np.array(experiment.beam.get_unit_s0())
    across = np.cross(beam, np.eye(3)[np.abs(beam).argmin()])
    angle = np.arctan2(s @ np.cross(beam, across), s @ across)
    sector = np.minimum((angle / (2 * np.pi) + 0.5) * SECTORS, SECTORS - 1).astype(int)
    return s, shell * SECTORS + sector, step


def _blocks(images, index: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean counts of all blocks of an image, and which have no pixel that is masked."""
    counts, good = [], []
    for raw, mask in zip(
        images.get_raw_data(index), images.get_mask(index), strict=True
    ):
        valid = flumpy.to_numpy(mask).astype(np.float64)
        values = flumpy.to_numpy(raw) * valid
        counts.append(_mean(values, step).ravel())
        good.append(_mean(valid, step).ravel() > 1 - 1e-9)
    return np.concatenate(counts), np.concatenate(good)


def _mean(values: np.ndarray, step: int) -> np.ndarray:
    """Means of blocks of step x step pixels; what is left at the ends is cut off."""
    slow, fast = (n // step for n in values.shape[:2])
    cut = values[: slow * step, : fast * step]
    return cut.reshape(slow, step, fast, step, *values.shape[2:]).mean(axis=(1, 3))
