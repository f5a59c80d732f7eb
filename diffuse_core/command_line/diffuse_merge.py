"""Observations to a merged table, a 3-D map and pictures.

Takes one or more folders of dials.diffuse_integrate that share a grid, or merged tables
of different data, which it combines.

Examples::

  dials.diffuse_merge diffuse_observations

  dials.diffuse_merge diffuse_observations scales=diffuse_scales.json

  dials.diffuse_merge sweep_1 sweep_2 merging.symmetry=P1 output.map=both.nxs

  dials.diffuse_merge monday.nxs tuesday.nxs output.merged=both.nxs
"""

from __future__ import annotations

from diffuse_core.command_line import common, stages
from diffuse_core.command_line.finish import finish

NAME = "dials.diffuse_merge"


@common.command
def run(args=None) -> None:
    """Entry point of `dials.diffuse_merge`."""
    options = common.parse(
        args,
        NAME,
        "diffuse_observations [more folders] | merged.nxs [more tables] "
        "[recipe.phil] [name=value ...]",
        __doc__,
        ("merging", "parallel"),
        ("merged", "map", "pictures", "json", "html"),
    )
    figures = {}
    figures["merging"], figures["provenance"] = stages.run_merging(
        options, options.files
    )
    finish(options, NAME, figures)


if __name__ == "__main__":
    run()
