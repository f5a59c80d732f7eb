"""Absorption in the sensor of the detector."""

from __future__ import annotations

import logging

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import CorrectionModel, RunInputs

logger = logging.getLogger("dials.diffuse")


class Sensor(CorrectionModel):
    """Response 1 - exp(-mu t / |cos a|): the part of the photons that the sensor stops.

    mu: absorption coefficient (1/mm), t: thickness (mm), a: incidence. The quantum
    efficiency `qe` of DIALS. Where mu or t is unknown the response is 1, not 0.
    """

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Sensor:
        unknown = sorted(
            {
                setup
                for setup in run.setups
                for panel in run.first_of_setup(setup).detector
                if panel.get_mu() <= 0 or panel.get_thickness() <= 0
            }
        )
        if unknown:
            logger.warning(
                "The absorption coefficient or the thickness of the sensor of detector "
                "%s isn't known: no correction for its efficiency.",
                ", ".join(map(str, unknown)),
            )
        return cls()

    def panel_response(self, geometry: PanelGeometry) -> np.ndarray | float:
        """(n_slow, n_fast) float32, or 1.0 where the sensor is unknown."""
        depth = geometry.sensor_mu * geometry.sensor_thickness
        if depth <= 0:
            return 1.0
        return -np.expm1(-depth / geometry.cos_incidence)


@hookimpl
def diffuse_correction_models():
    yield ModelPlugin(
        name="sensor",
        factory="diffuse_core.plugins.correction.sensor:Sensor",
        summary="Absorption in the detector's sensor (quantum efficiency).",
        default=True,
    )
