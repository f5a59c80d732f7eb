"""Absorption in a window of diamond."""

from __future__ import annotations

import numpy as np

from dials_diffuse_example.directions import cosine, given_direction
from diffuse_core.geometry import PanelGeometry
from diffuse_core.models import CorrectionModel, RunInputs

DENSITY = 3.51
"""g/cm^3, diamond."""

LARGEST_EXPONENT = 50.0
"""A response must stay above 0: exp(-50) = 2e-22 stands for all that is darker."""


def attenuation(wavelength: float) -> float:
    """Linear attenuation coefficient of diamond, 1/mm.

    mu = rho (mu/rho), mass attenuation coefficient of carbon from the NIST tables in
    cctbx (cm^2/g; photoelectric, coherent and incoherent).

    Args:
        wavelength: A.
    """
    from cctbx.eltbx import attenuation_coefficient

    carbon = attenuation_coefficient.get_table("C")
    return DENSITY * carbon.mu_rho_at_angstrom(wavelength) / 10.0


class DiamondWindow(CorrectionModel):
    """Response exp(-mu t / |cos a|), a the angle between the ray and the normal.

    Args:
        thickness: t, mm.
        normal: (3,) unit vector in the laboratory frame; None = along the beam.
    """

    def __init__(self, thickness: float, normal: np.ndarray | None = None) -> None:
        self.thickness = thickness
        self.normal = normal

    @classmethod
    def from_params(cls, params, run: RunInputs) -> DiamondWindow:
        normal = given_direction(params.normal, "correction.diamond_window.normal")
        return cls(params.thickness, normal)

    def panel_response(self, geometry: PanelGeometry) -> np.ndarray:
        """(n_slow, n_fast) float64: transmission of the window."""
        mu = attenuation(geometry.beam.wavelength)
        with np.errstate(divide="ignore"):
            path = self.thickness / np.abs(cosine(geometry, self.normal))
        return np.exp(-np.minimum(mu * path, LARGEST_EXPONENT))
