"""Absorption by a Kapton film or tape beside the sample."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.materials import material
from diffuse_core.models import CorrectionModel, RunInputs

logger = logging.getLogger("dials.diffuse")

SHORTEST, LONGEST = 12398.425 / 12999.99, 12398.425 / 6000.0
"""Wavelengths (A) of DIALS' table of attenuation lengths, 6 to 13 keV."""

LOWEST = 1e-6

PHIL = """
absorption_correction
  .multiple = True
  .help = "One film or tape: the scope of dials.integrate and dials.stills_process, as"
          "it stands. Give all parameters of a film in one block: each further mention"
          "on the command line is a further film."
{
  apply = False
    .type = bool
    .help = "Whether this film counts; set it to True, as in DIALS."
  algorithm = fuller_kapton *kapton_2019 other
    .type = choice
    .help = "fuller_kapton: a tape at +x (beam along -z) that ends towards the"
            "detector; kapton_2019: a tape at -x with two edges and two ends. A"
            "rotation angle of 180 deg puts it on the other side."
  mu = Auto
    .type = float(value_min=0)
    .help = "Attenuation coefficient, 1/mm. Auto: that of DIALS from 6 to 13 keV,"
            "beyond it that of C22H10N2O5 scaled to join it."
  fuller_kapton
    .help = "The parameters of both algorithms."
  {
    xtal_height_above_kapton_mm {
      value = 0.02
        .type = float(value_min=0, allow_none=False)
        .help = "Distance from the crystal to the tape, mm."
      sigma = 0.01
        .type = float
        .help = "Accepted for the sake of DIALS, and not used."
    }
    rotation_angle_deg {
      value = 1.15
        .type = float(allow_none=False)
        .help = "Angle of the tape from the vertical, deg."
      sigma = 0.1
        .type = float
        .help = "Accepted for the sake of DIALS, and not used."
    }
    kapton_half_width_mm {
      value = 1.5875
        .type = float(value_min=0, allow_none=False)
        .help = "Distance along the beam from the crystal to the edge of the tape, mm."
      sigma = 0.5
        .type = float
        .help = "Accepted for the sake of DIALS, and not used."
    }
    kapton_thickness_mm {
      value = 0.05
        .type = float(value_min=0, allow_none=False)
        .help = "Thickness of the tape, mm."
      sigma = 0.005
        .type = float
        .help = "Accepted for the sake of DIALS, and not used."
    }
    smart_sigmas = False
      .type = bool
      .help = "Accepted for the sake of DIALS, and not used."
    within_spot_sigmas = True
      .type = bool
      .help = "Accepted for the sake of DIALS, and not used."
  }
}
"""


@dataclass(frozen=True)
class Tape:
    """A flat tape beside the sample.

    Attributes:
        algorithm: "fuller_kapton" or "kapton_2019".
        height: From the sample to the near face (mm).
        thickness: mm.
        half_width: From the sample to the edge, along the beam (mm).
        angle: Rotation from the vertical (deg).
        mu: 1/mm; None = that of the tables.
    """

    algorithm: str = "kapton_2019"
    height: float = 0.02
    thickness: float = 0.05
    half_width: float = 1.5875
    angle: float = 1.15
    mu: float | None = None

    def slabs(self, beam: np.ndarray) -> list[tuple[np.ndarray, float, float]]:
        """Normal, nearest and farthest distance (mm) of the slabs that bound the tape.

        fuller_kapton: faces normal to +x turned about the beam by minus the angle; it
        begins at the sample and ends half a width downstream of its nearest point.
        kapton_2019: at -x turned about z by the angle; two edges, across z, and two
        ends, 10 half-widths away.

        Args:
            beam: (3,) float64: unit vector along the beam.
        """
        angle = math.radians(self.angle)
        near, far = self.height, self.height + self.thickness
        w = self.half_width
        if self.algorithm == "fuller_kapton":
            normal = _turned(np.array([1.0, 0.0, 0.0]), beam, -angle)
            return [(normal, near, far), (beam, 0.0, w + near * (normal @ beam))]
        normal = np.array([-math.cos(angle), -math.sin(angle), 0.0])
        along = np.array([-math.sin(angle), math.cos(angle), 0.0])
        across = np.array([0.0, 0.0, 1.0])
        return [(normal, near, far), (across, -w, w), (along, -10 * w, 10 * w)]

    def path(self, direction: np.ndarray, beam: np.ndarray) -> np.ndarray:
        """(...) float64: length (mm) in the tape of rays from the sample.

        Args:
            direction: (..., 3): unit vectors.
            beam: (3,) float64: unit vector along the beam.
        """
        enter = np.zeros(direction.shape[:-1])
        leave = np.full(direction.shape[:-1], np.inf)
        for normal, lowest, highest in self.slabs(beam):
            cosine = direction @ normal
            with np.errstate(divide="ignore", invalid="ignore"):
                a, b = lowest / cosine, highest / cosine
            outside = (cosine == 0) & (lowest >= 0)
            enter = np.fmax(enter, np.where(outside, np.inf, np.fmin(a, b)))
            leave = np.fmin(leave, np.fmax(a, b))
        with np.errstate(invalid="ignore"):
            return np.fmax(leave - enter, 0.0)


class Kapton(CorrectionModel):
    """Response exp(-sum mu path): transmission of the tapes between sample and pixel.

    Geometry and attenuation coefficient of DIALS' `KaptonAbsorption` (J. Fuller) and
    `KaptonTape_2019` (A. Bhowmick), whose factor on intensities is the inverse. Rays
    that leave a tape through its end are not absorbed in `KaptonTape_2019`, but are
    here. Values are at least 1e-6.

    Args:
        tapes: The tapes.
        run: The experiments, for directions in float64: those of `PanelGeometry`
            cost up to 3e-5 where rays graze a tape.
    """

    def __init__(self, tapes: Sequence[Tape], run: RunInputs | None = None) -> None:
        self.tapes = tuple(tapes)
        self.run = run

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Kapton:
        """Raises ConfigError for the algorithm `other`."""
        tapes = []
        for film in params.absorption_correction:
            if not film.apply:
                continue
            if film.algorithm not in ("fuller_kapton", "kapton_2019"):
                raise ConfigError(
                    "correction.kapton.absorption_correction.algorithm must be "
                    f"fuller_kapton or kapton_2019, not {film.algorithm}."
                )
            p = film.fuller_kapton
            tape = Tape(
                film.algorithm,
                p.xtal_height_above_kapton_mm.value,
                p.kapton_thickness_mm.value,
                p.kapton_half_width_mm.value,
                p.rotation_angle_deg.value,
                film.mu if isinstance(film.mu, float) else None,
            )
            logger.info("correction.kapton: %s", tape)
            tapes.append(tape)
        if not tapes:
            logger.warning(
                "correction.kapton does nothing without an absorption_correction block "
                "with apply=True."
            )
        return cls(tapes, run)

    def panel_response(self, geometry: PanelGeometry) -> np.ndarray:
        """(n_slow, n_fast) float64."""

        from diffuse_core.boundary import pixel_positions

        beam = np.array(geometry.beam.s0) * geometry.beam.wavelength
        direction = geometry.direction.astype(float)
        if self.run is not None:
            detector = self.run.first_of_setup(geometry.setup).detector
            direction = pixel_positions(detector[geometry.index])
            direction /= np.linalg.norm(direction, axis=2, keepdims=True)
        depth = np.zeros(geometry.shape)
        for tape in self.tapes:
            mu = tape.mu
            if mu is None:
                mu = attenuation(geometry.beam.wavelength)
            depth += mu * tape.path(direction, beam)
        return np.maximum(np.exp(-depth), LOWEST)


def attenuation(wavelength: float) -> float:
    """Linear attenuation coefficient of Kapton (1/mm).

    From 6 to 13 keV that of DIALS (table of the Center for X-ray Optics, 1.43 g/cm^3);
    beyond, NIST's for C22H10N2O5 times the factor that joins them: 0.986 below 6 keV
    and 0.879 above 13 keV, where the total attenuation holds more scattering.

    Args:
        wavelength: A.
    """
    from dials.algorithms.integration.kapton_correction import (
        get_absorption_correction,
    )

    tabulated = get_absorption_correction()
    inside = min(max(wavelength, SHORTEST), LONGEST)
    mu = 1.0 / tabulated(inside)
    if inside == wavelength:
        return mu
    film = material("C22H10N2O5", 1.43)
    return mu * film.attenuation(wavelength) / film.attenuation(inside)


def _turned(vector: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    """`vector` rotated about the unit vector `axis` by `angle` (rad)."""
    c, s = math.cos(angle), math.sin(angle)
    return c * vector + s * np.cross(axis, vector) + (1 - c) * (axis @ vector) * axis


@hookimpl
def diffuse_correction_models():
    yield ModelPlugin(
        name="kapton",
        factory="diffuse_core.plugins.correction.kapton:Kapton",
        summary="Absorption by Kapton films or tapes beside the sample.",
        phil=PHIL,
    )
