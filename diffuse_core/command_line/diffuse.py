"""Diffuse scattering map from diffraction images: the whole chain.

Integrates the pixels between and under the Bragg peaks of images that DIALS has
indexed and refined, merges them over the Laue group and writes a 3-D map. Any number
of .expt files, scans and stills, single and multi-panel detectors.

Examples::

  dials.diffuse refined.expt

  dials.diffuse refined.expt integrated.refl mapping.hkl_grid.divisions=5,5,5

  dials.diffuse refined.expt recipe.phil mask.models="bragg resolution" \\
    mask.resolution.d_min=1.8 parallel.nproc=4
"""

from __future__ import annotations

from diffuse_core import config
from diffuse_core.command_line import common, stages
from diffuse_core.command_line.finish import finish

NAME = "dials.diffuse"


@common.command
def run(args=None) -> None:
    """Entry point of `dials.diffuse`."""
    options = common.parse(
        args,
        NAME,
        "refined.expt [integrated.refl] [recipe.phil] [name=value ...]",
        __doc__,
        ("input", "block", "merging", "parallel"),
        ("observations", "merged", "map", "pictures", "json", "html"),
        config.INTEGRATE_KINDS,
    )
    figures = {}
    figures["integration"], _ = stages.run_integration(options)
    figures["merging"], figures["provenance"] = stages.run_merging(
        options, [options.params.output.observations]
    )
    finish(options, NAME, figures)


if __name__ == "__main__":
    run()
