"""Absorption by air between sample and detector."""

from __future__ import annotations

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import CorrectionModel, RunInputs

MASS_FRACTIONS = {"C": 0.000124, "N": 0.755267, "O": 0.231781, "Ar": 0.012827}
"""Dry air near sea level: NIST, ESTAR database, material 104."""

DENSITY = 1.20479e-3
"""g/cm^3 of dry air at 20 deg C and 101.325 kPa (same source)."""

PHIL = """
length = Auto
  .type = float(value_min=0)
  .help = "Path in air (mm), the same for all pixels. Auto: from the sample to the"
          "pixel, as it is without a beam pipe filled with helium or evacuated."
temperature = 20.0
  .type = float(allow_none=False)
  .help = "Temperature of the air, deg C."
pressure = 101.325
  .type = float(value_min=0, allow_none=False)
  .help = "Pressure of the air, kPa."
"""


def attenuation(
    wavelength: float, temperature: float = 20.0, pressure: float = 101.325
) -> float:
    """Linear attenuation coefficient of dry air (1/mm).

    mu = rho sum_i w_i (mu/rho)_i, rho from the ideal-gas law; mass attenuation
    coefficients (photoelectric, coherent and incoherent) from cctbx's NIST tables.

    Args:
        wavelength: A.
        temperature: deg C.
        pressure: kPa.
    """
    from cctbx.eltbx import attenuation_coefficient

    density = DENSITY * 293.15 / (temperature + 273.15) * pressure / 101.325
    mass_attenuation = sum(
        fraction
        * attenuation_coefficient.get_table(element).mu_rho_at_angstrom(wavelength)
        for element, fraction in MASS_FRACTIONS.items()
    )
    return mass_attenuation * density / 10.0


class Air(CorrectionModel):
    """Response exp(-mu L): transmission of the air between sample and pixel.

    Args:
        length: L, mm; None = distance from the sample to each pixel.
        temperature: deg C.
        pressure: kPa.

    Raises:
        ConfigError: The temperature isn't above absolute zero.
    """

    def __init__(
        self,
        length: float | None = None,
        temperature: float = 20.0,
        pressure: float = 101.325,
    ) -> None:
        if temperature <= -273.15:
            raise ConfigError(
                f"correction.air.temperature = {temperature} must be above -273.15 "
                "deg C."
            )
        self.length = length
        self.temperature = temperature
        self.pressure = pressure

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Air:
        length = params.length if isinstance(params.length, float) else None
        return cls(length, params.temperature, params.pressure)

    def panel_response(self, geometry: PanelGeometry) -> np.ndarray | float:
        """(n_slow, n_fast) float32, or one number for a fixed length."""
        mu = attenuation(geometry.beam.wavelength, self.temperature, self.pressure)
        length = geometry.distance if self.length is None else self.length
        return np.exp(-mu * length)


@hookimpl
def diffuse_correction_models():
    yield ModelPlugin(
        name="air",
        factory="diffuse_core.plugins.correction.air:Air",
        summary="Absorption by the air between sample and detector.",
        phil=PHIL,
        default=True,
    )
