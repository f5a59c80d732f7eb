"""Detector models of a simulation: real layouts, tilted, swung, or of an .expt file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cctbx.eltbx import attenuation_coefficient
from dxtbx.format.FormatPilatusHelpers import (
    determine_eiger_mask,
    determine_pilatus_mask,
)
from dxtbx.model import (
    Detector,
    DetectorFactory,
    Panel,
    ParallaxCorrectedPxMmStrategy,
    SimplePxMmStrategy,
)
from scitbx.array_family import flex

from diffuse_core.errors import ConfigError


@dataclass(frozen=True)
class Layout:
    """Modules of a detector, in pixels (fast, slow); pixel, thickness in mm."""

    module: tuple[int, int]
    gap: tuple[int, int]
    number: tuple[int, int]
    pixel: float
    thickness: float
    saturation: int
    description: str

    @property
    def size(self) -> tuple[int, int]:
        """Pixels (fast, slow) of the whole detector."""
        fast, slow = (
            n * module + (n - 1) * gap
            for n, module, gap in zip(self.number, self.module, self.gap, strict=True)
        )
        return fast, slow


def _pilatus(number: tuple[int, int], name: str) -> Layout:
    return Layout((487, 195), (7, 17), number, 0.172, 0.45, 1000000, f"PILATUS3 {name}")


def _eiger(number: tuple[int, int], name: str) -> Layout:
    text = f"Dectris Eiger {name}"
    return Layout((1030, 514), (10, 37), number, 0.075, 0.45, 1000000, text)


LAYOUTS = {
    "pilatus_300k": _pilatus((1, 3), "300K"),
    "pilatus_1m": _pilatus((2, 5), "1M"),
    "pilatus_2m": _pilatus((3, 8), "2M"),
    "pilatus_6m": _pilatus((5, 12), "6M"),
    "eiger_1m": _eiger((1, 2), "1M"),
    "eiger_4m": _eiger((2, 4), "4M"),
    "eiger_9m": _eiger((3, 6), "9M"),
    "eiger_16m": _eiger((4, 8), "16M"),
    "test_small": Layout((124, 124), (8, 8), (2, 2), 0.172, 0.32, 100000, "GENERIC"),
}

CURVED_PANELS = 3
CURVED = Layout((96, 192), (0, 0), (1, 1), 0.172, 0.32, 100000, "GENERIC")


def make_detector(params: Any) -> Detector:
    """The detector that `params` describe, with sensor overrides applied.

    Raises:
        ConfigError: the parameters can't be used together.
    """
    choice, wavelength = params.detector, params.beam.wavelength
    if choice.name is None:
        raise ConfigError("detector.name must be one of the names that -c lists.")
    if choice.name == "test_curved":
        detector = _curved(choice.distance)
    else:
        detector = _flat(LAYOUTS[choice.name], choice)
    for panel in detector:
        layout = LAYOUTS.get(choice.name, CURVED)
        set_sensor(panel, layout.thickness, silicon_mu(wavelength))
        panel.set_trusted_range(trusted_range(layout.saturation))
    _place(detector, choice)
    apply_overrides(detector, choice)
    return detector


def apply_overrides(detector: Detector, choice: Any) -> None:
    """Puts detector.thickness, detector.mu and detector.saturation into the panels."""
    for panel in detector:
        if choice.thickness is not None or choice.mu is not None:
            thickness = choice.thickness
            set_sensor(
                panel,
                panel.get_thickness() if thickness is None else thickness,
                panel.get_mu() if choice.mu is None else choice.mu,
            )
        if choice.saturation is not None:
            low, _ = panel.get_trusted_range()
            panel.set_trusted_range((low, trusted_range(choice.saturation)[1]))


def silicon_mu(wavelength: float) -> float:
    """Attenuation coefficient of silicon in 1/mm."""
    return attenuation_coefficient.get_table("Si").mu_at_angstrom(wavelength) / 10.0


def set_sensor(panel: Panel, thickness: float, mu: float) -> None:
    """Sets sensor and parallax; without absorption there is no parallax either."""
    panel.set_thickness(thickness)
    panel.set_mu(mu)
    panel.set_material("Si")
    if mu > 0 and thickness > 0:
        panel.set_px_mm_strategy(ParallaxCorrectedPxMmStrategy(mu, thickness))
    else:
        panel.set_px_mm_strategy(SimplePxMmStrategy())


def limits_are_exclusive() -> bool:
    """Whether this dxtbx takes the ends of a trusted range as untrusted (<= 3.11)."""
    panel = Panel()
    panel.set_image_size((1, 1))
    panel.set_trusted_range((0, 1))
    data = flex.int(flex.grid(1, 1), 0)
    return not panel.get_trusted_range_mask(data)[0]


def written_thickness(panel: Panel) -> float:
    """Sensor thickness (mm) for an image file: dxtbx refuses files that say 0."""
    return max(panel.get_thickness(), 1e-3)


def trusted_range(saturation: int) -> tuple[float, float]:
    """Trusted range in the sense of this dxtbx: 0 ... saturation - 1 are trusted."""
    if limits_are_exclusive():
        return (-1.0, float(saturation))
    return (0.0, float(saturation - 1))


def lowest_and_saturation(panel: Panel) -> tuple[int, int]:
    """Smallest trusted count and the smallest count above the trusted range."""
    low, high = panel.get_trusted_range()
    if limits_are_exclusive():
        return math.floor(low) + 1, math.ceil(high)
    return math.ceil(low), math.floor(high) + 1


def gap_mask(panel: Panel, name: str | None) -> np.ndarray:
    """True (n_slow, n_fast) between the modules of a layout and in masked areas."""
    n_fast, n_slow = panel.get_image_size()
    gap = np.zeros((n_slow, n_fast), dtype=bool)
    if name in LAYOUTS:
        layout = LAYOUTS[name]
        for axis, n in ((1, n_fast), (0, n_slow)):
            module, space = layout.module[1 - axis], layout.gap[1 - axis]
            outside = np.arange(n) % (module + space) >= module
            gap |= outside[None, :] if axis == 1 else outside[:, None]
    for x0, y0, x1, y1 in panel.get_mask():
        gap[max(y0, 0) : y1, max(x0, 0) : x1] = True
    return gap


def _flat(layout: Layout, choice: Any) -> Detector:
    n_fast, n_slow = layout.size
    fast, slow = choice.beam_centre or (0.5 * n_fast, 0.5 * n_slow)
    detector = DetectorFactory.simple(
        "PAD",
        choice.distance,
        (fast * layout.pixel, slow * layout.pixel),
        "+x",
        "-y",
        (layout.pixel, layout.pixel),
        layout.size,
        (0, layout.saturation),
        [],
    )
    if layout.description.startswith("PILATUS"):
        rectangles = determine_pilatus_mask(detector)
    elif "Eiger" in layout.description:
        rectangles = determine_eiger_mask(detector)
    else:
        rectangles = []
    for f0, f1, s0, s1 in rectangles:
        detector[0].add_mask(f0 - 1, s0 - 1, f1, s1)
    return detector


def _curved(distance: float) -> Detector:
    """Panels side by side on a cylinder about the vertical, two pixels apart."""
    n_fast, n_slow = CURVED.size
    step = 2 * math.atan(0.5 * (n_fast + 2) * CURVED.pixel / distance)
    detector = Detector()
    for i in range(CURVED_PANELS):
        angle = (i - 0.5 * (CURVED_PANELS - 1)) * step
        turn = _rotation((0, -1, 0), angle)
        fast, slow = turn @ (1, 0, 0), np.array((0.0, -1.0, 0.0))
        centre = turn @ (0, 0, -distance)
        corner = centre - 0.5 * CURVED.pixel * (n_fast * fast + n_slow * slow)
        panel = detector.add_panel()
        panel.set_type("SENSOR_PAD")
        panel.set_name(f"panel_{i}")
        panel.set_image_size(CURVED.size)
        panel.set_pixel_size((CURVED.pixel, CURVED.pixel))
        panel.set_frame(tuple(fast), tuple(slow), tuple(corner))
    return detector


def _place(detector: Detector, choice: Any) -> None:
    """Tilts about the fast axis at the centre, then swings about the vertical."""
    if choice.tilt == 0 and choice.two_theta == 0:
        return
    tilt = _rotation((1, 0, 0), math.radians(choice.tilt))
    swing = _rotation((0, -1, 0), math.radians(choice.two_theta))
    centre = np.array((0.0, 0.0, -choice.distance))
    for panel in detector:
        origin = tilt @ (np.array(panel.get_origin()) - centre) + centre
        panel.set_frame(
            tuple(swing @ tilt @ panel.get_fast_axis()),
            tuple(swing @ tilt @ panel.get_slow_axis()),
            tuple(swing @ origin),
        )


def _rotation(axis: tuple[float, float, float], angle: float) -> np.ndarray:
    """Right-handed rotation (3, 3) by `angle` (rad) about the unit vector `axis`."""
    x, y, z = axis
    cross = np.array(((0, -z, y), (z, 0, -x), (-y, x, 0)))
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
