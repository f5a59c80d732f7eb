"""exp(-b(phi) s^2 / 2): decay that grows with resolution."""

from __future__ import annotations

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl

PHIL = """
spacing = 10.0
  .type = float(value_min=0.01, allow_none=False)
  .help = "Distance of the parameters along a scan, deg."
smoothness = Auto
  .type = float(value_min=1e-6)
  .help = "Expected size of the second difference of neighbouring parameters, A^2."
          "Auto: chosen by held-out observations."
"""


@hookimpl
def diffuse_scaling_components():
    yield ModelPlugin(
        name="relative_b",
        factory="diffuse_core.plugins.scaling.relative_b.model:RelativeB",
        summary="exp(-b(phi) s^2/2): decay of the crystal that grows with resolution.",
        phil=PHIL,
    )
