"""Simulates diffraction images of a crystal whose diffuse scattering is known.

Everything that happens between the crystal and the counts is included: polarisation,
solid angle, sensor, air, scale, background, Bragg spots and Poisson noise. Use it to
plan an experiment, or to find out what your own reduction does to a known signal.

It writes images, simulated.expt, simulated.refl and truth.json to output.directory;
dials.diffuse_compare compares a map with truth.json.

Examples::

  dials.diffuse_simulate recipe.phil

  dials.diffuse_simulate recipe.phil scan.n_images=180 output.directory=long

  dials.diffuse_simulate detector.name=eiger_4m detector.distance=150 \\
    crystal.unit_cell=60,60,80,90,90,120 crystal.space_group=P3121

  dials.diffuse_simulate detector.experiments=refined.expt stills.n=100
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from dials.util import Sorry
from dials.util.options import ArgumentParser

import diffuse_core
from diffuse_core.command_line import common
from diffuse_core.command_line.log_file import start_log
from diffuse_core.compat import dials_version
from diffuse_core.simulate.phil import phil_scope
from diffuse_core.simulate.run import simulate

logger = logging.getLogger("dials.diffuse")


@common.command
def run(args: Sequence[str] | None = None) -> None:
    """Entry point of `dials.diffuse_simulate`."""
    parser = ArgumentParser(
        usage="dials.diffuse_simulate [options] recipe.phil [parameter=value]",
        phil=phil_scope(),
        epilog=__doc__,
    )
    given = list(sys.argv[1:] if args is None else args)
    if not given:
        parser.print_help()
        return
    try:
        params, options, rest = parser.parse_args(
            given, show_diff_phil=False, return_unhandled=True
        )
    except (RuntimeError, Sorry) as error:
        raise Sorry(" ".join(str(error).split())) from None
    for argument in rest:
        name, equals, _ = argument.partition("=")
        if equals:
            raise Sorry(f"There is no parameter {name}; see -c for those that exist.")
        raise Sorry(f"{argument} is not a file with parameters, nor parameter=value.")
    open_log = start_log(options.verbose, params.output.log)
    logger.info("dials.diffuse %s, %s", diffuse_core.__version__, dials_version())
    logger.info(
        "Parameters that differ from the defaults:\n%s", parser.diff_phil.as_str()
    )
    with common.working(open_log, "Simulating") as progress:
        result = simulate(params, Path(params.output.directory), progress)
    logger.info(
        "Models:      %s\nReflections: %s\nTruth:       %s",
        result.expt_path,
        result.refl_path,
        result.truth_path,
    )
