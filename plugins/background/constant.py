"""A constant background: dark counts, fluorescence that is flat over the detector."""

from __future__ import annotations

import numpy as np

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.geometry import PanelGeometry
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import BackgroundModel, RunInputs

PHIL = """
rate = 0.0
  .type = float(allow_none=False)
  .help = "Counts per second in every pixel."
variance = 0.0
  .type = float(value_min=0, allow_none=False)
  .help = "Variance of the estimate of the rate, (counts/s)^2, taken as independent in"
          "each pixel. An error that all pixels share is not described by it."
"""


class Constant(BackgroundModel):
    """Mean b = rate (counts/s), the same in every pixel, whatever the response.

    Args:
        rate: counts/s per pixel; negative for a pedestal that was taken off twice.
        variance: Of the estimate of the rate, (counts/s)^2.
    """

    def __init__(self, rate: float, variance: float = 0.0) -> None:
        self.rate = rate
        self.variance = variance

    @classmethod
    def from_params(cls, params, run: RunInputs) -> Constant:
        return cls(params.rate, params.variance)

    def panel_background(
        self, geometry: PanelGeometry, response: np.ndarray
    ) -> tuple[float, float]:
        """One mean (counts/s) and variance ((counts/s)^2) for the panel."""
        return self.rate, self.variance


@hookimpl
def diffuse_background_models():
    yield ModelPlugin(
        name="constant",
        factory="diffuse_core.plugins.background.constant:Constant",
        summary="A constant number of counts per second in every pixel.",
        phil=PHIL,
    )
