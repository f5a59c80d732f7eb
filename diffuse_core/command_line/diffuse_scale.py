"""Scales of observations, fitted to symmetry mates.

The model is E[counts] = exposure * G * (B * I + C) + background: B of the crystal, G of
the path, C of what has no lattice. Each is made of components that you choose and order
with scaling.components. Takes one or more folders of dials.diffuse_integrate.

Examples::

  dials.diffuse_scale diffuse_observations
  dials.diffuse_merge diffuse_observations scales=diffuse_scales.json

  dials.diffuse_scale sweep_1 sweep_2 scaling.components=default+offset+absorption

  dials.diffuse_scale diffuse_observations scale_abcd.phil
"""

from __future__ import annotations

from diffuse_core.command_line import common, stages
from diffuse_core.command_line.finish import finish

NAME = "dials.diffuse_scale"


@common.command
def run(args=None) -> None:
    """Entry point of `dials.diffuse_scale`."""
    options = common.parse(
        args,
        NAME,
        "diffuse_observations [more folders] [recipe.phil] [name=value ...]",
        __doc__,
        ("scaling", "merging", "parallel"),
        ("scales", "json", "html"),
        ("scaling",),
    )
    figures = {}
    figures["scaling"], model = stages.run_scaling(options, options.files)
    figures["provenance"] = dict(model.provenance)
    finish(options, NAME, figures, model)


if __name__ == "__main__":
    run()
