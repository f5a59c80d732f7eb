"""Per pixel: the scattering vectors and the response, from DIALS' own functions.

This is deliberately not the code that reduces data (see docs/simulate.md): sensor and
polarization come from `dials.algorithms.integration.Corrections`, the solid angle
from the exact formula for triangles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cctbx.eltbx import attenuation_coefficient
from dials.algorithms.integration import Corrections, CorrectionsMulti
from dxtbx import flumpy
from dxtbx.model import Beam, Detector, Panel
from scitbx.array_family import flex

from diffuse_core.errors import ConfigError

DRY_AIR = {"C": 0.000124, "N": 0.755267, "O": 0.231781, "Ar": 0.012827}
AIR_DENSITY = 0.001205
"""g/cm^3 at 293.15 K and 101.325 kPa; DRY_AIR holds mass fractions."""


@dataclass(frozen=True)
class PanelView:
    """What a panel sees of the sample.

    s: s1 - s0 (n_points, n_slow, n_fast, 3), 1/A, at the points of each pixel.
    response: (n_slow, n_fast), steradian: solid angle x polarization x sensor x air.
    """

    index: int
    s: np.ndarray
    response: np.ndarray


def make_views(params: Any, beam: Beam, detector: Detector) -> list[PanelView]:
    """The views of all panels of `detector`.

    Raises:
        ConfigError: the polarization factor is 0 in some pixel.
    """
    corrections = CorrectionsMulti()
    corrections.append(Corrections(beam, detector))
    mu_air = air_coefficient(
        beam.get_wavelength(),
        params.response.air_temperature,
        params.response.air_pressure,
    )
    views = []
    for index, panel in enumerate(detector):
        s1, distance = pixel_vectors(panel, beam, 0.5, 0.5)
        shape = distance.shape
        response = solid_angle(panel)
        ids = flex.int(distance.size, 0)
        vectors = flumpy.vec_from_numpy(s1.reshape(-1, 3))
        if params.response.polarization:
            try:
                lp = corrections.lp(ids, vectors)
            except RuntimeError as error:
                raise ConfigError(
                    "beam.polarization_fraction leaves no intensity in a pixel of the"
                    " detector; choose a value that is not exactly 0 or 1."
                ) from error
            response = response / flumpy.to_numpy(lp).reshape(shape)
        has_sensor = panel.get_mu() > 0 and panel.get_thickness() > 0
        if params.response.sensor and has_sensor:
            panels = flex.size_t(distance.size, index)
            qe = corrections.qe(ids, vectors, panels)
            response = response * flumpy.to_numpy(qe).reshape(shape)
        if params.response.air:
            response = response * np.exp(-mu_air * distance)
        views.append(PanelView(index, _points(params, panel, beam), response))
    return views


def _points(params: Any, panel: Panel, beam: Beam) -> np.ndarray:
    n_fast, n_slow = params.oversampling.pixel
    s0 = np.array(beam.get_s0())
    return np.stack(
        [
            pixel_vectors(panel, beam, (i + 0.5) / n_fast, (j + 0.5) / n_slow)[0] - s0
            for j in range(n_slow)
            for i in range(n_fast)
        ]
    )


def pixel_vectors(
    panel: Panel, beam: Beam, fast: float, slow: float
) -> tuple[np.ndarray, np.ndarray]:
    """s1 (n_slow, n_fast, 3) in 1/A and distance (n_slow, n_fast) in mm.

    For the points at (i + fast, j + slow) of all pixels (i, j), parallax included.
    """
    n_fast, n_slow = panel.get_image_size()
    j, i = np.mgrid[0:n_slow, 0:n_fast]
    pixels = np.column_stack([i.ravel() + fast, j.ravel() + slow])
    mm = panel.pixel_to_millimeter(flumpy.vec_from_numpy(pixels))
    xyz = flumpy.to_numpy(panel.get_lab_coord(mm)).reshape(n_slow, n_fast, 3)
    distance = np.linalg.norm(xyz, axis=2)
    return xyz / (distance[:, :, None] * beam.get_wavelength()), distance


def solid_angle(panel: Panel) -> np.ndarray:
    """Solid angle (n_slow, n_fast) of the pixels in steradian.

    Two triangles per pixel: tan(omega/2) = a.(b x c) / (1 + a.b + b.c + c.a) for unit
    vectors to the corners (Van Oosterom & Strackee 1983, IEEE Trans. Biomed. Eng. 30).
    """
    n_fast, n_slow = panel.get_image_size()
    fast_mm, slow_mm = panel.get_pixel_size()
    j, i = np.mgrid[0 : n_slow + 1, 0 : n_fast + 1]
    mm = np.column_stack([i.ravel() * fast_mm, j.ravel() * slow_mm])
    corners = flumpy.to_numpy(panel.get_lab_coord(flumpy.vec_from_numpy(mm)))
    corners = corners.reshape(n_slow + 1, n_fast + 1, 3)
    unit = corners / np.linalg.norm(corners, axis=2, keepdims=True)
    a, b = unit[:-1, :-1], unit[:-1, 1:]
    c, d = unit[1:, 1:], unit[1:, :-1]
    return np.abs(_triangle(a, b, c)) + np.abs(_triangle(a, c, d))


def _triangle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    edges = b - a, c - a
    triple = np.sum(a * np.cross(*edges), axis=2)
    dots = [np.sum(p * q, axis=2) for p, q in ((a, b), (b, c), (c, a))]
    return 2.0 * np.arctan2(triple, 1.0 + sum(dots))


def air_coefficient(wavelength: float, temperature: float, pressure: float) -> float:
    """Attenuation coefficient of dry air in 1/mm; temperature in K, pressure in kPa."""
    per_mass = sum(
        fraction
        * attenuation_coefficient.get_table(element).mu_rho_at_angstrom(wavelength)
        for element, fraction in DRY_AIR.items()
    )
    density = AIR_DENSITY * (293.15 / temperature) * (pressure / 101.325)
    return per_mass * density / 10.0
