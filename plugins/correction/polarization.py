"""Polarization of the scattered beam."""

from __future__ import annotations

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.errors import ConfigError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import CorrectionModel, RunInputs

LOWEST = 1e-6

PHIL = """
fraction = Auto
  .type = float(value_min=0, value_max=1)
  .help = "Fraction of the intensity in the plane of polarization, as in XDS and DIALS:"
          "0.5 = unpolarised. Auto: that of the beam model."
"""


class Polarization(CorrectionModel):
    """Response P = (1 - 2f) (1 - (n.u)^2) + f (1 + (k.u)^2); 1 along the beam.

    u is the direction to the pixel, k that of the beam, n the normal of the plane of
    polarization, f the polarization fraction. The formula of DIALS; equal to that of
    R. Kahn et al., J. Appl. Cryst. 15, 330 (1982) for n perpendicular to the beam.
    Values are at least 1e-6: f = 1 gives 0 along the electric field.

    Args:
        fraction: f in place of that of the beam model.
    """

    def __init__(self, fraction: float | None = None) -> None:
        self.fraction = fraction

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Polarization:
        """Raises ConfigError if the beam of an experiment isn't X-rays."""
        for i, experiment in enumerate(run.experiments):
            probe = getattr(experiment.beam, "get_probe", None)
            if probe is not None and "xray" not in str(probe()).lower():
                raise ConfigError(
                    f"The beam of experiment {i} is {probe()}, not X-rays: leave "
                    "polarization and air out with correction.models=solid_angle."
                )
        fraction = params.fraction
        return cls(fraction if isinstance(fraction, float) else None)

    def panel_response(self, geometry: PanelGeometry) -> np.ndarray:
        """(n_slow, n_fast) float32."""
        from diffuse_core.pixel_loops import quadratic

        beam = geometry.beam
        f = beam.polarization_fraction if self.fraction is None else self.fraction
        k = np.array(beam.s0) * beam.wavelength
        n = np.array(beam.polarization_normal)
        n /= np.linalg.norm(n)
        # P = 1 - f + u . a u, and u = wavelength s + k
        a = f * np.outer(k, k) - (1 - 2 * f) * np.outer(n, n)
        p = quadratic(
            geometry.s,
            beam.wavelength**2 * a,
            2 * beam.wavelength * a @ k,
            1 - f + k @ a @ k,
        )
        return np.maximum(p, LOWEST, out=p)


@hookimpl
def diffuse_correction_models():
    yield ModelPlugin(
        name="polarization",
        factory="diffuse_core.plugins.correction.polarization:Polarization",
        summary="Polarization of the scattered X-rays.",
        phil=PHIL,
        default=True,
    )
