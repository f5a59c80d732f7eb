"""Scales of observations, fitted to symmetry mates.

The model is E[counts] = exposure * G * (B * I + C) + background: B of the crystal, G of
the path, C of what has no lattice. Each is made of components that you choose and order
with scaling.components. Takes one or more folders of dials.diffuse_integrate. Where
crystals can be indexed in several ways, dials.cosym decides if you give integrated
reflections.

Examples::

  dials.diffuse_scale diffuse_observations
  dials.diffuse_merge diffuse_observations scales=diffuse_scales.json

  dials.diffuse_scale sweep_1 sweep_2 scaling.components=default+offset+absorption

  dials.diffuse_scale sweep_1 sweep_2 sweep_1.refl sweep_2.refl

  dials.diffuse_scale diffuse_observations scale_abcd.phil
"""

from __future__ import annotations

from diffuse_core.command_line import common, stages
from diffuse_core.command_line.finish import finish
from diffuse_core.errors import InputError
from diffuse_core.inputs import EXPERIMENT_FILES, REFLECTION_FILES
from diffuse_core.raw_images import phil

NAME = "dials.diffuse_scale"


@common.command
def run(args=None) -> None:
    """Entry point of `dials.diffuse_scale`."""
    options = common.parse(
        args,
        NAME,
        "diffuse_observations [more folders] [integrated.expt integrated.refl ...] "
        "[recipe.phil] [name=value ...]",
        __doc__,
        ("scaling", "merging", "parallel"),
        ("dials", "scales", "json", "html"),
        ("scaling",),
        more=phil.scope_of_cosym,
    )
    kinds = EXPERIMENT_FILES + REFLECTION_FILES
    files = [name for name in options.files if name.endswith(kinds)]
    folders = [name for name in options.files if name not in files]
    if files and all(name.endswith(EXPERIMENT_FILES) for name in files):
        raise InputError(
            f"{files[0]} was given without reflections: give the .refl of "
            "dials.integrate too, or neither of them."
        )
    if not folders:
        raise InputError(
            "No observations: give the folders of dials.diffuse_integrate, to which "
            f"{files[0]} belongs."
        )
    figures = {}
    figures["scaling"], model = stages.run_scaling(options, folders, files)
    figures["provenance"] = dict(model.provenance)
    finish(options, NAME, figures, model)


if __name__ == "__main__":
    run()
