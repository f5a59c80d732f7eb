"""The images of an empty run: where they are, whether they fit, their mean per pixel.

Images are read one after the other and added up, so memory does not depend on their
number.
"""

from __future__ import annotations

import glob
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, uniform_filter

from dxtbx.model.experiment_list import ExperimentListFactory

from diffuse_core import boundary, inputs
from diffuse_core.errors import ConfigError, InputError
from diffuse_core.plan import shared_images

logger = logging.getLogger("dials.diffuse")

BOX = 5
"""Pixels along each side of the neighbourhood that gives the variance of few counts."""
MANY = 20.0
"""Counts in a pixel from which on its own count is its variance."""
WAVELENGTH = 0.01
"""Largest relative difference of the wavelengths."""


@dataclass(frozen=True)
class Frame:
    """One image of the empty run; phi in deg, None where nothing rotates."""

    experiment: int
    index: int
    phi: float | None


@dataclass(frozen=True, eq=False)
class Estimate:
    """Of one panel, per second: mean, its variance, and the mean of its neighbourhood.

    All float32 (n_slow, n_fast).
    """

    mean: np.ndarray
    variance: np.ndarray
    smooth: np.ndarray


class EmptyRun:
    """An empty run, opened.

    Args:
        files: .expt files, image files, templates (with #) or patterns (with *).

    Raises:
        InputError: A file can't be read.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.files = tuple(files)
        self._open()

    def _open(self) -> None:
        self.experiments = [e for name in self.files for e in _load(name)]
        groups = shared_images(self.experiments).values()
        self.frames = [
            Frame(number, index, _phi(self.experiments[number], index))
            for number in sorted(group[0] for group in groups)
            for index in range(len(self.experiments[number].imageset))
        ]
        if boundary.lacks_exposure(self.experiments):
            logger.warning(
                "Images of the empty run %s have no exposure time: 1 s is assumed.",
                self.name,
            )

    def __getstate__(self) -> tuple[str, ...]:
        return self.files

    def __setstate__(self, state: tuple[str, ...]) -> None:
        self.files = state
        self._open()

    @property
    def name(self) -> str:
        """The files, for messages."""
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return f"{self.files[0]}{more}"

    def check(self, detector, beam, shift: float, tilt: float) -> None:
        """Refuses an empty run that was measured with another detector or wavelength.

        Args:
            detector, beam: dxtbx models of the crystal's run.
            shift: Largest distance between the centres of a panel (mm).
            tilt: Largest angle between the axes of a panel (deg).

        Raises:
            ConfigError: What differs.
        """
        for experiment in self.experiments:
            difference = _difference(experiment, detector, beam, shift, tilt)
            if difference:
                raise ConfigError(
                    f"The empty run {self.name} of background.images does not fit: "
                    f"{difference}; measure it with the same set-up, or change "
                    "background.images.max_shift or max_tilt if the difference is only "
                    "one of refinement."
                )

    def estimate(self, frames: Sequence[Frame]) -> list[Estimate]:
        """Counts per second of every panel, averaged over some images.

        Mean: sum of photons over sum of exposure times, where the pixel is usable.
        Variance: Poisson, photons / time^2; below `MANY` counts with the mean photons
        of the neighbourhood, so that a pixel that happened to count nothing is not
        taken as known. Pixels that are never usable get the neighbourhood of the
        nearest one that is.
        """
        sums: list[tuple[np.ndarray, np.ndarray]] = []
        for frame in frames:
            experiment = self.experiments[frame.experiment]
            counts, usable = boundary.read_image(experiment, frame.index)
            seconds = boundary.exposure_time(experiment, frame.index)
            readouts = boundary.readouts(experiment)
            if not sums:
                sums = [(np.zeros(c.shape), np.zeros(c.shape)) for c in counts]
            for (photons, time), raw, ok, readout in zip(
                sums, counts, usable, readouts, strict=True
            ):
                photons += np.where(ok, (raw - readout.pedestal) / readout.gain, 0.0)
                time += seconds * ok
        return [self._panel(i, *pair) for i, pair in enumerate(sums)]

    def _panel(self, index: int, photons: np.ndarray, time: np.ndarray) -> Estimate:
        seen = time > 0
        if not seen.any():
            logger.warning(
                "The empty run %s has no usable pixel on panel %d: no background is "
                "subtracted there.",
                self.name,
                index,
            )
            zero = np.zeros(photons.shape, np.float32)
            return Estimate(zero, zero, zero)
        share = uniform_filter(seen.astype(float), BOX, mode="constant")
        near = uniform_filter(photons, BOX, mode="constant")
        near = np.maximum(near, 1.0 / BOX**2) / np.maximum(share, 1.0 / BOX**2)
        counted = np.where(near < MANY, near, np.maximum(photons, 1.0))
        if not seen.all():
            nearest = distance_transform_edt(
                ~seen, return_distances=False, return_indices=True
            )
            gap = ~seen
            source = tuple(i[gap] for i in nearest)
            near[gap] = near[source]
            time[gap] = time[source]
            photons[gap] = counted[gap] = near[gap]
            logger.info(
                "%d pixels of panel %d are not usable in the empty run %s: they get "
                "what is nearest to them.",
                gap.sum(),
                index,
                self.name,
            )
        return Estimate(
            (photons / time).astype(np.float32),
            (counted / time**2).astype(np.float32),
            (near / time).astype(np.float32),
        )


def _load(name: str):
    """Experiments of an .expt file, a template, a pattern or an image file."""
    if name.endswith(inputs.EXPERIMENT_FILES):
        return inputs.load([name])[0]
    # dxtbx reads the exposure time of the first image alone where it gets a template.
    pattern = name.replace("#", "[0-9]")
    names = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [name]
    try:
        found = ExperimentListFactory.from_filenames(names)
    except Exception as error:
        raise InputError(
            f"The images {name} of background.images can't be read "
            f"({type(error).__name__}: {error}): give an .expt file, image files or a "
            "template such as empty_####.cbf."
        ) from error
    if not len(found):
        raise InputError(
            f"background.images.file={name} names no images: give an .expt file, image "
            "files or a template such as empty_####.cbf."
        )
    return found


def _phi(experiment, index: int) -> float | None:
    if boundary.is_still(experiment):
        return None
    scan = experiment.scan
    return scan.get_angle_from_array_index(scan.get_array_range()[0] + index + 0.5)


def _difference(experiment, detector, beam, shift: float, tilt: float) -> str:
    """What differs between an empty experiment and the crystal's run, or ""."""
    theirs = experiment.detector
    if len(theirs) != len(detector):
        return f"it has {len(theirs)} panels, the crystal's run {len(detector)}"
    wavelengths = experiment.beam.get_wavelength(), beam.get_wavelength()
    if abs(wavelengths[0] / wavelengths[1] - 1.0) > WAVELENGTH:
        return f"its wavelength is {wavelengths[0]:.4f} A, not {wavelengths[1]:.4f} A"
    for index, (one, other) in enumerate(zip(theirs, detector, strict=True)):
        if one.get_image_size() != other.get_image_size():
            return (
                f"panel {index} has {one.get_image_size()} pixels (fast, slow), not "
                f"{other.get_image_size()}"
            )
        if not np.allclose(one.get_pixel_size(), other.get_pixel_size(), rtol=1e-3):
            return f"the pixels of panel {index} have another size"
        moved = np.linalg.norm(_centre(one) - _centre(other))
        if moved > shift:
            return f"panel {index} is {moved:.2f} mm away from where it should be"
        for axis in ("get_fast_axis", "get_slow_axis"):
            cosine = np.dot(getattr(one, axis)(), getattr(other, axis)())
            angle = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
            if angle > tilt:
                return f"panel {index} is turned by {angle:.2f} deg"
    return ""


def _centre(panel) -> np.ndarray:
    fast, slow = panel.get_image_size()
    return np.array(panel.get_pixel_lab_coord((fast / 2, slow / 2)))
