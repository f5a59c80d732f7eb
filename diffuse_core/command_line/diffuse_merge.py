"""Observations to a merged table, a 3-D map and pictures.

Takes one or more folders of dials.diffuse_integrate that share a grid.

Examples::

  dials.diffuse_merge diffuse_observations

  dials.diffuse_merge sweep_1 sweep_2 merging.symmetry=P1 output.map=both.nxs
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
        "diffuse_observations [more folders] [recipe.phil] [name=value ...]",
        __doc__,
        ("merging",),
        ("merged", "map", "pictures", "json", "html"),
    )
    figures = {}
    figures["merging"], figures["provenance"] = stages.run_merging(
        options, options.files
    )
    finish(options, NAME, figures)


if __name__ == "__main__":
    run()
