"""The Lorentz factor of rotation data, for those who want swept-volume weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import CorrectionModel, Image, RunInputs

logger = logging.getLogger("dials.diffuse")

WARNING = (
    "correction.lorentz is selected: intensities are multiplied by 1/L, as for Bragg "
    "peaks. Continuous diffuse scattering is not integrated across a lattice point and "
    "has no Lorentz factor: a diffuse map is wrong by it, most near the rotation axis."
)

PHIL = """
smallest = 0.02
  .type = float(value_min=1e-6, value_max=1, allow_none=False)
  .help = "WARNING: continuous diffuse intensity has no Lorentz factor. Select this"
          "model only if you want intensities times the volume of reciprocal space that"
          "a pixel sweeps. 1/L goes to 0 on the rotation axis and at the beam: it is"
          "taken as not smaller than this."
"""


class Lorentz(CorrectionModel):
    """Response L = 1 / |u . (m x k)|: intensities are multiplied by |zeta| sin 2theta.

    m: rotation axis, k: beam, u: direction to the pixel, zeta = m . (k x u)/|k x u|:
    the Lorentz term of `lp` of DIALS (W. Kabsch, Acta Cryst. D66, 133, 2010). A pixel
    sweeps the volume dOmega dphi / (L wavelength^3) of reciprocal space. Stills: 1.

    Args:
        axis: Experiment -> (3,) unit vector of the rotation axis; none for stills.
        smallest: Lowest value of 1/L.
    """

    def __init__(self, axis: Mapping[int, np.ndarray], smallest: float = 0.02) -> None:
        self.axis = dict(axis)
        self.smallest = smallest

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Lorentz:
        """Warns, always."""

        from diffuse_core.boundary import is_still

        logger.warning(WARNING)
        axis = {
            number: np.array(experiment.goniometer.get_rotation_axis(), float)
            for number, experiment in enumerate(run.experiments)
            if not is_still(experiment)
        }
        return cls(axis, params.smallest)

    def image_response(
        self, image: Image, geometry: PanelGeometry
    ) -> np.ndarray | float:
        """(n_slow, n_fast) float64, or 1 for a still."""
        axis = self.axis.get(image.experiment)
        if axis is None:
            return 1.0
        beam = np.array(geometry.beam.s0) * geometry.beam.wavelength
        inverse = abs(geometry.direction @ np.cross(axis, beam))
        return 1.0 / np.maximum(inverse, self.smallest)


@hookimpl
def diffuse_correction_models():
    yield ModelPlugin(
        name="lorentz",
        factory="diffuse_core.plugins.correction.lorentz:Lorentz",
        summary="Lorentz factor of scans; wrong for continuous diffuse scattering.",
        phil=PHIL,
    )
