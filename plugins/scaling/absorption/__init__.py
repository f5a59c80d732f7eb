"""G(x, y, phi): absorption along the path to each part of the detector."""

from __future__ import annotations

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl

PHIL = """
intervals = 5 5
  .type = ints(size=2, value_min=1)
  .help = "Number of intervals of the parameters across the detector, horizontally and"
          "vertically as its first panel lies."
spacing = 20.0
  .type = float(value_min=0.01, allow_none=False)
  .help = "Distance of the parameters along a scan, deg."
smoothness = Auto
  .type = float(value_min=1e-6)
  .help = "Expected size of the second difference of neighbouring parameters (the mean"
          "factor is 1). Auto: chosen by held-out observations."
"""


@hookimpl
def diffuse_scaling_components():
    yield ModelPlugin(
        name="absorption",
        factory="diffuse_core.plugins.scaling.absorption.model:Absorption",
        summary="G(x, y, phi): absorption on the way to each part of the detector.",
        phil=PHIL,
    )
