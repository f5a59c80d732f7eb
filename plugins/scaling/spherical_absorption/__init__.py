"""G in spherical harmonics: absorption by what turns with the crystal."""

from __future__ import annotations

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl

PHIL = """
lmax = 4
  .type = int(value_min=1, value_max=12, allow_none=False)
  .help = "Highest order of the harmonics; 4 to 6 are usual."
odd = True
  .type = bool
  .help = "Odd orders, too. A crystal in the middle of its mount absorbs the same along"
          "opposite directions, which needs even ones only."
common = False
  .type = bool
  .help = "One surface for all scans, where the crystal was not remounted."
smoothness = Auto
  .type = float(value_min=1e-6)
  .help = "Expected size of the coefficients of ln G. Auto: chosen by held-out"
          "observations."
"""


@hookimpl
def diffuse_scaling_components():
    yield ModelPlugin(
        name="spherical_absorption",
        factory=(
            "diffuse_core.plugins.scaling.spherical_absorption.model"
            ":SphericalAbsorption"
        ),
        summary="G: absorption in spherical harmonics, as in dials.scale.",
        phil=PHIL,
    )
