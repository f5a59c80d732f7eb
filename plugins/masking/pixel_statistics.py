"""Masks pixels that are hot, dead, noisy or in a fixed shadow, from a first pass."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import InputError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import MaskModel, RunInputs

logger = logging.getLogger("dials.diffuse")

PHIL = """
n_images = 25
  .type = int(value_min=1, allow_none=False)
  .help = "Images to look at, evenly spaced over the run; fewer where they would lie"
          "closer than 1 degree, as the same Bragg peaks would be in them."
fewest = 8
  .type = int(value_min=2, allow_none=False)
  .help = "With fewer images than this nothing is left out: peaks and faults can't be"
          "told apart."
false_alarm = 1e-6
  .type = float(value_min=1e-300, value_max=0.1, allow_none=False)
  .help = "Probability that a clean pixel is left out by chance."
noisy = 0.5
  .type = float(value_min=0, value_max=1, allow_none=False)
  .help = "Share of the images in which a pixel that sticks out is noisy."
shadow = 0.5
  .type = float(value_min=0, value_max=1, allow_none=False)
  .help = "Regions below this share of the median intensity at their |s| are in a"
          "shadow; 0 = don't look."
prefix = diffuse_pixels
  .type = path
  .help = "Start of the name of the mask file of DIALS (.pickle), to look at with"
          "dials.image_viewer and to give to mask.file.path, and of its record"
          "(.json). Used again while images and parameters are the same; a second"
          "detector gets a number. None: not kept."
"""

SPACING = 1.0
"""Degrees between images that show different Bragg peaks."""


class PixelStatistics(MaskModel):
    """Keeps the pixels that behave over the run; see `diffuse_core.faults`.

    Args:
        masks: Per setup, per panel (n_slow, n_fast) bool; None where too few images
            were there.
    """

    def __init__(self, masks: Sequence[Sequence[np.ndarray] | None]) -> None:
        self.masks = masks

    @classmethod
    def from_params(cls, params, run: RunInputs) -> PixelStatistics:
        """Reads the images, or the mask file of an earlier pass over the same images.

        Raises InputError if the mask file can't be written.
        """
        masks: list[Sequence[np.ndarray] | None] = [None] * (max(run.setups) + 1)
        groups = _detectors(run)
        for number, setups in enumerate(groups):
            members = [n for n, setup in enumerate(run.setups) if setup in setups]
            sample = sample_of(run.experiments, members, params.n_images)
            if len(sample) < params.fewest:
                logger.info(
                    "mask.pixel_statistics: %d images far enough from each other are "
                    "too few to tell hot pixels from Bragg peaks; nothing is left out",
                    len(sample),
                )
                continue
            path = _numbered(params.prefix, number)
            signature = _signature(params, run, sample)
            found = _read(path, signature)
            if found is None:
                found = first_pass(run, sample, params)
                if found is not None and path:
                    _write(path, found, signature)
            for setup in setups:
                masks[setup] = found
        return cls(masks)

    def panel_mask(self, geometry: PanelGeometry) -> np.ndarray | None:
        """(n_slow, n_fast) bool, or None where nothing is known."""
        masks = self.masks[geometry.setup]
        return None if masks is None else masks[geometry.index]


def _detectors(run: RunInputs) -> list[list[int]]:
    """Setups by the detector that they share: as many panels, of the same sizes."""
    groups: dict[tuple, list[int]] = {}
    for setup in sorted(set(run.setups)):
        detector = run.first_of_setup(setup).detector
        key = tuple((p.get_name(), tuple(p.get_image_size())) for p in detector)
        groups.setdefault(key, []).append(setup)
    return list(groups.values())


def sample_of(experiments, members: Sequence[int], n: int) -> list[tuple[int, int]]:
    """Pairs (experiment, image index), evenly spaced, each image set counted once.

    Args:
        experiments: dxtbx ExperimentList.
        members: The experiments to look at.
        n: Most pairs.
    """
    from diffuse_core import boundary

    pairs, seen = [], set()
    for number in members:
        experiment = experiments[number]
        images = experiment.imageset
        if images is None:
            continue
        key = (tuple(images.paths()), tuple(images.indices()))
        if key in seen:
            continue
        seen.add(key)
        step = 1
        if not boundary.is_still(experiment):
            width = abs(experiment.scan.get_oscillation()[1])
            step = max(1, math.ceil(SPACING / width - 1e-6))
        pairs += [(number, index) for index in range(0, len(images), step)]
    if len(pairs) > n:
        chosen = np.linspace(0, len(pairs) - 1, n).round().astype(int)
        pairs = [pairs[i] for i in chosen]
    return pairs


def first_pass(run: RunInputs, sample, params) -> list[np.ndarray] | None:
    """Per panel (n_slow, n_fast) bool: True = keep. None if no image can be read."""
    from diffuse_core import boundary, faults
    from diffuse_core.usable import counts_of

    first = run.experiments[sample[0][0]]
    setup = run.setups[sample[0][0]]
    readouts = boundary.readouts(first)
    panels = [
        boundary.panel_geometry(first, setup, index)
        for index in range(len(first.detector))
    ]
    limit = -math.log(params.false_alarm)
    sums = [faults.PixelSums(panel.shape, limit) for panel in panels]
    read, unread = 0, []
    for number, index in sample:
        try:
            counts, usable = boundary.read_image(run.experiments[number], index)
        except InputError as error:
            unread.append(error)
            continue
        read += 1
        for panel, (one, readout) in enumerate(zip(sums, readouts, strict=True)):
            shape = panels[panel].shape
            photons, valid = np.empty(shape, np.float32), np.empty(shape, bool)
            how = readout.pedestal, readout.gain
            counts_of([counts[panel]], [usable], panel, how, photons, valid)
            one.add(photons, valid)
    if unread:
        logger.warning(
            "mask.pixel_statistics: %d of %d images are left out: %s",
            len(unread),
            len(sample),
            unread[0],
        )
    if read < params.fewest:
        return None
    found = [one.faults(params.noisy) for one in sums]
    if params.shadow:
        dark = faults.shadows(sums, panels, params.shadow)
        for one, shadow in zip(found, dark, strict=True):
            one["in shadow"] = shadow
    total = sum(panel.shape[0] * panel.shape[1] for panel in panels)
    told = ", ".join(
        f"{sum(int(one[kind].sum()) for one in found)} {kind}" for kind in found[0]
    )
    logger.info("mask.pixel_statistics: %d images, of %d pixels %s", read, total, told)
    return [~np.logical_or.reduce(list(one.values())) for one in found]


def _numbered(prefix: str | None, number: int) -> Path | None:
    if not prefix:
        return None
    return Path(f"{prefix}_{number + 1}.pickle" if number else f"{prefix}.pickle")


def _signature(params, run: RunInputs, sample) -> str:
    """Changes with the images that are looked at and with the parameters."""
    values = [params.fewest, params.false_alarm, params.noisy, params.shadow]
    files = []
    for number, index in sample:
        path = run.experiments[number].imageset.get_path(index)
        state = os.stat(path) if os.path.exists(path) else None
        files.append(
            [path, index, *([state.st_size, state.st_mtime_ns] if state else [])]
        )
    return hashlib.sha256(json.dumps([values, files]).encode()).hexdigest()


def _read(path: Path | None, signature: str) -> list[np.ndarray] | None:
    """The mask of an earlier pass, if it is of the same images and parameters."""
    from diffuse_core.io.masks import read_mask

    if path is None or not path.is_file():
        return None
    record = path.with_suffix(".json")
    try:
        if json.loads(record.read_text())["signature"] != signature:
            return None
        return read_mask(str(path))
    except (OSError, ValueError, KeyError, InputError):
        return None


def _write(path: Path, masks: Sequence[np.ndarray], signature: str) -> None:
    from diffuse_core.io.masks import write_mask

    write_mask(path, masks)
    record = path.with_suffix(".json")
    temporary = record.with_name(f".{record.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps({"signature": signature}) + "\n")
    os.replace(temporary, record)
    logger.info("mask.pixel_statistics: mask written to %s", path)


@hookimpl
def diffuse_mask_models():
    yield ModelPlugin(
        name="pixel_statistics",
        factory="diffuse_core.plugins.masking.pixel_statistics:PixelStatistics",
        summary="Hot, dead and noisy pixels and fixed shadows, from a first pass.",
        phil=PHIL,
        default=True,
    )
