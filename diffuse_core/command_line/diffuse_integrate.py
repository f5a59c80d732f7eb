"""Images to observations: the first step of the diffuse chain.

Every block of images (1 degree of a scan, or one still) gives one HDF5 file with a row
per voxel that was seen. A run that was stopped continues where it was.

Examples::

  dials.diffuse_integrate refined.expt

  dials.diffuse_integrate refined.expt integrated.refl output.observations=sweep_1
"""

from __future__ import annotations

from diffuse_core import config
from diffuse_core.command_line import common, stages

NAME = "dials.diffuse_integrate"


@common.command
def run(args=None) -> None:
    """Entry point of `dials.diffuse_integrate`."""
    options = common.parse(
        args,
        NAME,
        "refined.expt [integrated.refl] [recipe.phil] [name=value ...]",
        __doc__,
        ("input", "block", "parallel"),
        ("observations", "json"),
        config.INTEGRATE_KINDS,
    )
    figures = {}
    figures["integration"], figures["provenance"] = stages.run_integration(options)
    common.write_json(options.params.output.json, figures)


if __name__ == "__main__":
    run()
