"""Absorption by air, helium and windows between sample and detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.materials import Material, material
from diffuse_core.models import CorrectionModel, RunInputs

LOWEST = 1e-6

PHIL = """
length = Auto
  .type = float(value_min=0)
  .help = "Path in air (mm), the same for all pixels. Auto: from the sample to the"
          "pixel, as it is without a beam pipe filled with helium or evacuated."
temperature = 20.0
  .type = float(allow_none=False)
  .help = "Temperature of air and other gases, deg C."
pressure = 101.325
  .type = float(value_min=0, allow_none=False)
  .help = "Pressure of air and other gases, kPa."
medium
  .multiple = True
  .help = "A medium between sample and detector, in place of air all the way. List all,"
          "from the sample outwards; what no medium fills is vacuum."
{
  material = None
    .type = str
    .help = "air, helium, nitrogen, argon, vacuum, kapton, mylar, be, polyethylene,"
            "polycarbonate, pmma, diamond, graphite, silicon, aluminium, silica,"
            "borosilicate, sapphire, water; or a formula such as Al2O3."
  density = Auto
    .type = float(value_min=0)
    .help = "g/cm^3. Auto: tabulated; needed with a formula."
  length = Auto
    .type = float(value_min=0)
    .help = "mm; it ends at the pixel at the latest. Auto, for one medium: the rest of"
            "the path from the sample to the pixel."
  flat = False
    .type = bool
    .help = "True: a layer across the beam (a window, a beam pipe with flat ends),"
            "length along the beam; the path is length / cos(2 theta). False: the same"
            "length for all pixels."
}
"""


@dataclass(frozen=True)
class Medium:
    """A medium between sample and detector.

    Attributes:
        material: What it is.
        length: mm; None = the rest of the path.
        flat: Whether it is a layer across the beam, and `length` is along the beam.
    """

    material: Material
    length: float | None = None
    flat: bool = False


def attenuation(
    wavelength: float, temperature: float = 20.0, pressure: float = 101.325
) -> float:
    """Linear attenuation coefficient of dry air (1/mm).

    Args:
        wavelength: A.
        temperature: deg C.
        pressure: kPa.
    """
    return material("air").attenuation(wavelength, temperature, pressure)


class Air(CorrectionModel):
    """Response exp(-sum mu_i L_i): transmission of what the ray to a pixel passes.

    Coefficients: `diffuse_core.materials`. Values are at least 1e-6.

    Args:
        length: Path in air, mm; None = distance from the sample to each pixel.
        temperature: deg C.
        pressure: kPa.
        media: Media in place of air, from the sample outwards.

    Raises:
        ConfigError: The temperature isn't above absolute zero, or the media
            contradict each other or `length`.
    """

    def __init__(
        self,
        length: float | None = None,
        temperature: float = 20.0,
        pressure: float = 101.325,
        media: Sequence[Medium] = (),
    ) -> None:
        if temperature <= -273.15:
            raise ConfigError(
                f"correction.air.temperature = {temperature} must be above -273.15 "
                "deg C."
            )
        if media and length is not None:
            raise ConfigError(
                "correction.air.length is the path in air alone: leave it out, and "
                "give a correction.air.medium with material=air and this length."
            )
        if sum(medium.length is None for medium in media) > 1:
            raise ConfigError(
                "Several correction.air.medium have no length: only one of them can "
                "fill the rest of the path."
            )
        self.length = length
        self.temperature = temperature
        self.pressure = pressure
        self.media = tuple(media)

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Air:
        """Raises ConfigError if a medium can't be used or is longer than the path."""
        media = [
            Medium(
                material(
                    m.material, number(m.density), "correction.air.medium.material"
                ),
                number(m.length),
                m.flat,
            )
            for m in params.medium
            if m.material is not None
        ]
        given = sum(medium.length or 0.0 for medium in media)
        if given > 0:
            longest = max(map(_longest, run.experiments))
            if given > longest:
                raise ConfigError(
                    f"The lengths of correction.air.medium add up to {given:g} mm, but "
                    f"no pixel is farther than {longest:g} mm from the sample."
                )
        return cls(number(params.length), params.temperature, params.pressure, media)

    def panel_response(self, geometry: PanelGeometry) -> np.ndarray | float:
        """(n_slow, n_fast) float, or one number for a fixed length."""
        if self.media:
            return self._transmission_of_media(geometry)
        mu = attenuation(geometry.beam.wavelength, self.temperature, self.pressure)
        length = geometry.distance if self.length is None else self.length
        return np.exp(-mu * length)

    def _transmission_of_media(self, geometry: PanelGeometry) -> np.ndarray:
        left = geometry.distance.astype(float)
        cosine = np.cos(np.radians(geometry.two_theta.astype(float)))
        depth = np.zeros(geometry.shape)
        rest = 0.0
        for medium in self.media:
            mu = medium.material.attenuation(
                geometry.beam.wavelength, self.temperature, self.pressure
            )
            if medium.length is None:
                rest = mu
                continue
            path = np.full(geometry.shape, medium.length)
            if medium.flat:
                path = np.where(cosine > 0, path / np.maximum(cosine, 1e-6), 0.0)
            path = np.minimum(path, left)
            left -= path
            depth += mu * path
        return np.maximum(np.exp(-depth - rest * left), LOWEST)


def number(value) -> float | None:
    """The value of a float of PHIL, None for Auto and None."""
    return value if isinstance(value, float) else None


def _longest(experiment) -> float:
    """Distance from the sample to the farthest corner of a panel (mm)."""
    corners = [
        panel.get_pixel_lab_coord((x, y))
        for panel in experiment.detector
        for x in (0, panel.get_image_size()[0])
        for y in (0, panel.get_image_size()[1])
    ]
    return float(np.linalg.norm(corners, axis=1).max())


@hookimpl
def diffuse_correction_models():
    yield ModelPlugin(
        name="air",
        factory="diffuse_core.plugins.correction.air:Air",
        summary="Absorption by air, helium, windows between sample and detector.",
        phil=PHIL,
        default=True,
    )
