"""Solid angle of a pixel, seen from the sample."""

from __future__ import annotations

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import CorrectionModel, RunInputs


class SolidAngle(CorrectionModel):
    """Response p_fast p_slow |cos a| / r^2 (sr), a: incidence, r: sample to pixel.

    This is the integral of |cos a| / r^2 over the pixel, taken at its centre: it
    differs from the exact solid angle of a rectangle by about (pixel / r)^2, 3e-7 for
    0.172 mm at 300 mm.
    """

    @classmethod
    def from_params(cls, params, run: RunInputs) -> SolidAngle:
        return cls()

    def panel_response(self, geometry: PanelGeometry):
        """(n_slow, n_fast) float32: sr."""
        fast, slow = geometry.pixel_size
        return fast * slow * geometry.cos_incidence / geometry.distance**2


@hookimpl
def diffuse_correction_models():
    yield ModelPlugin(
        name="solid_angle",
        factory="diffuse_core.plugins.correction.solid_angle:SolidAngle",
        summary="Solid angle of the pixels (sr).",
        default=True,
    )
