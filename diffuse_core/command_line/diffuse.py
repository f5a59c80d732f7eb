"""Diffuse scattering map from diffraction images: the whole chain.

Integrates the pixels between and under the Bragg peaks, merges them over the Laue group
and writes a 3-D map. Starts from raw images (files, a NeXus master, a folder, a
template), which programs of DIALS index and refine first, or from any number of .expt
files. Scans and stills, single and multi-panel detectors.

Examples::

  dials.diffuse image_*.cbf crystal.space_group=P212121

  dials.diffuse image_####.cbf dials.find_spots.spotfinder.filter.d_min=2

  dials.diffuse refined.expt

  dials.diffuse refined.expt integrated.refl mapping.hkl_grid.divisions=5,5,5

  dials.diffuse refined.expt integrated.refl scaling.fit=True

  dials.diffuse refined.expt recipe.phil mask.models="bragg resolution" \\
    mask.resolution.d_min=1.8 parallel.nproc=4
"""

from __future__ import annotations

from dataclasses import replace

from diffuse_core import config
from diffuse_core.command_line import common, stages
from diffuse_core.command_line.finish import finish
from diffuse_core.folder_lock import check_free
from diffuse_core.raw_images import phil, sources

NAME = "dials.diffuse"


@common.command
def run(args=None) -> None:
    """Entry point of `dials.diffuse`."""
    options = common.parse(
        args,
        NAME,
        "images | refined.expt [integrated.refl] [recipe.phil] [name=value ...]",
        __doc__,
        ("mode", "crystal", "input", "block", "scaling", "merging", "parallel"),
        (
            "dials",
            "observations",
            "scales",
            "merged",
            "map",
            "pictures",
            "json",
            "html",
        ),
        (*config.INTEGRATE_KINDS, "scaling"),
        more=phil.program_scopes,
        exists=sources.exists,
    )
    from diffuse_core.raw_images import chain

    common.processes(options.params)
    check_free(options.params.output.observations)
    files = chain.models_of(
        options.files,
        options.params,
        options.working,
        common.progress_bar,
        options.begin,
    )
    options = replace(options, files=files)
    figures = {}
    figures["integration"], _ = stages.run_integration(options)
    if options.params.scaling.fit:
        folder = options.params.output.observations
        figures["scaling"], _ = stages.run_scaling(options, [folder], files)
        options.params.merging.scales = options.params.output.scales
    figures["merging"], figures["provenance"] = stages.run_merging(
        options, [options.params.output.observations]
    )
    finish(options, NAME, figures)


if __name__ == "__main__":
    run()
