"""B as dials.scale found it for the Bragg reflections: fixed, nothing is fitted."""

from __future__ import annotations

from diffuse_core.descriptors import ModelPlugin
from diffuse_core.hookspecs import hookimpl

PHIL = """
experiments = None
  .type = path
  .help = "scaled.expt of dials.scale. Default: the experiments that were integrated,"
          "where these have scaling models."
reflections = None
  .type = path
  .help = "scaled.refl of dials.scale, which counts angles from its first reflection:"
          "only this file tells where that is. Default: at the first image."
terms = *scale *decay *relative_B *absorption *modulation
  .type = choice(multi=True)
  .help = "Which corrections of the model to use. Radiation damage weakens Bragg"
          "reflections of high resolution, but not the diffuse scattering that grows"
          "out of them: leave decay and relative_B out where that matters."
"""


@hookimpl
def diffuse_scaling_components():
    yield ModelPlugin(
        name="dials_scale",
        factory="diffuse_core.plugins.scaling.dials_scale.model:DialsScale",
        summary="B as dials.scale found it: fixed, or a start for other components.",
        phil=PHIL,
    )
