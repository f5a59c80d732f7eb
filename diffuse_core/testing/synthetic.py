"""A small run with known numbers: two panels, a scan of ten images and a still.

Panel 0 is perpendicular to the beam and off its centre, panel 1 is tilted; pixels are
not square and panels not quadratic, so that swapped axes show. The crystal is
triclinic and in a general orientation. `make_geometry` and `make_image` need NumPy
alone; `make_experiments` gives the same run as dxtbx objects.
"""

from __future__ import annotations

import numpy as np

from diffuse_core.geometry import BeamGeometry, PanelGeometry
from diffuse_core.models import Image, RunInputs

N_PANELS = 2
N_IMAGES = 10
WIDTH = 0.5
EXPOSURE = 0.2
STILL = 1
"""Index of the experiment that is a still; 0 is the scan."""

_SHAPE = (36, 48)
_PIXEL = (1.0, 1.25)
_MU, _THICKNESS = 0.4, 0.3
_DISTANCE = 60.0
_AXIS = np.array([1.0, 0.0, 0.0])
_REAL_SPACE = np.array(
    [[31.0, 4.0, -7.0], [-9.0, 38.0, 12.0], [14.0, -11.0, 47.0]],
)
"""Rows a, b, c (A) at rotation 0."""


def make_geometry(panel: int = 0, wavelength: float = 1.0) -> PanelGeometry:
    """One panel of the synthetic detector, (36, 48) pixels; beam along -z.

    Args:
        panel: 0 or 1.
        wavelength: A.
    """
    origin, fast, slow = _frame(panel)
    n_slow, n_fast = _SHAPE
    j, i = np.mgrid[0:n_slow, 0:n_fast] + 0.5
    xyz = origin + (i * _PIXEL[0])[..., None] * fast + (j * _PIXEL[1])[..., None] * slow
    distance = np.linalg.norm(xyz, axis=2)
    direction = xyz / distance[..., None]
    s0 = np.array([0.0, 0.0, -1.0 / wavelength])
    return PanelGeometry(
        setup=0,
        index=panel,
        shape=_SHAPE,
        pixel_size=_PIXEL,
        beam=BeamGeometry(wavelength, tuple(s0), (0.0, 1.0, 0.0), 0.99),
        sensor_mu=_MU,
        sensor_thickness=_THICKNESS,
        s=(direction / wavelength - s0).astype(np.float32),
        cos_incidence=np.abs(direction @ np.cross(fast, slow)).astype(np.float32),
        distance=distance.astype(np.float32),
    )


def make_image(
    index: int = 0, *, still: bool = False, counts: bool = True, seed: int = 1
) -> Image:
    """One image of the synthetic scan, or the still, with Poisson counts of mean 2.

    Args:
        index: 0-based index of the image.
        still: The still instead of an image of the scan.
        counts: False leaves `Image.counts` empty, as it is while the plan is made.
        seed: Of the counts.
    """
    phi = 0.0 if still else (index + 0.5) * WIDTH
    rotation = np.eye(3) if still else _rotation(phi)
    u, _ = _orientation()
    image = Image(
        experiment=STILL if still else 0,
        index=0 if still else index,
        phi=phi,
        width=0.0 if still else WIDTH,
        exposure=1.0 if still else EXPOSURE,
        to_hkl=_REAL_SPACE @ rotation.T,
        s_shift=np.zeros(3),
        axis=np.zeros(3) if still else u.T @ _AXIS,
        counts=_counts(seed + index) if counts else (),
    )
    for array in (image.to_hkl, image.s_shift, image.axis, *image.counts):
        array.setflags(write=False)
    return image


def make_experiments():
    """The same run as a dxtbx ExperimentList, without images: a scan and a still."""
    from dxtbx.model import (
        Beam,
        Crystal,
        Detector,
        Experiment,
        ExperimentList,
        Goniometer,
        Panel,
        Scan,
    )

    detector = Detector()
    for number in range(N_PANELS):
        origin, fast, slow = _frame(number)
        panel = Panel()
        panel.set_frame(tuple(fast), tuple(slow), tuple(origin))
        panel.set_pixel_size(_PIXEL)
        panel.set_image_size(_SHAPE[::-1])
        panel.set_trusted_range((0, 1e6))
        panel.set_mu(_MU)
        panel.set_thickness(_THICKNESS)
        detector.add_panel(panel)
    beam = Beam((0.0, 0.0, 1.0), 1.0)
    beam.set_polarization_normal((0.0, 1.0, 0.0))
    beam.set_polarization_fraction(0.99)
    crystal = Crystal(*(tuple(row) for row in _REAL_SPACE), space_group_symbol="P1")
    scan = Scan((1, N_IMAGES), (0.0, WIDTH))
    scan.set_exposure_times([EXPOSURE] * N_IMAGES)
    rotation = Experiment(
        identifier="scan",
        beam=beam,
        detector=detector,
        goniometer=Goniometer(tuple(_AXIS)),
        scan=scan,
        crystal=crystal,
    )
    still = Experiment(
        identifier="still", beam=beam, detector=detector, crystal=crystal
    )
    return ExperimentList([rotation, still])


def make_run(reflections=None) -> RunInputs:
    """The synthetic run as a model's `from_params` sees it.

    Args:
        reflections: Optional dials reflection table, `id` 0 = scan, 1 = still.
    """
    return RunInputs(make_experiments(), reflections, (0, 0))


def _frame(panel: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Origin (mm), unit vectors along fast and slow; beam along -z."""
    if panel == 0:
        return (
            np.array([-20.0, 17.0, -_DISTANCE]),
            np.array([1.0, 0.0, 0.0]),
            np.array([0.0, -1.0, 0.0]),
        )
    tilt = np.radians(15.0)
    return (
        np.array([-22.0, -30.0, -_DISTANCE]),
        np.array([1.0, 0.0, 0.0]),
        np.array([0.0, -np.cos(tilt), np.sin(tilt)]),
    )


def _orientation() -> tuple[np.ndarray, np.ndarray]:
    """U, and columns a, b, c in the crystal's Cartesian frame (a along x)."""
    u, upper = np.linalg.qr(_REAL_SPACE.T)
    signs = np.sign(np.diag(upper))
    return u * signs, upper * signs[:, None]


def _rotation(phi: float) -> np.ndarray:
    """Rotation about x by phi (deg)."""
    c, s = np.cos(np.radians(phi)), np.sin(np.radians(phi))
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def _counts(seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.poisson(2.0, _SHAPE).astype(np.int32) for _ in range(N_PANELS))
