"""Compares two maps of diffuse scattering, or a map with the truth of a simulation.

Reports correlation (of the intensities and of their anisotropic parts, overall and in
shells) and what the counting noise allows, scale and offset between the maps,
chi-squared and pulls. Reads tables and maps of dials.diffuse and of mdx2 (.nxs), maps
of dials.rs_mapper and others in the CCP4/MRC format, lattices of Lunus (.lat), NumPy
archives (.npz with h, k, l, intensity), and text (columns h k l I [sigma]). The truth
(truth.json of dials.diffuse_simulate) is averaged over the voxels. Give the .expt file
of the crystal too where one map has Cartesian axes and the other h, k, l.

Examples::

  dials.diffuse_compare diffuse_merged.nxs truth.json

  dials.diffuse_compare ours.nxs merged.nxs d_min=1.6 space_group=P43212

  dials.diffuse_compare ours.nxs snc.wmpn.lat reindex=k,h,-l

  dials.diffuse_compare ours.nxs rs_mapper_output.mrc refined.expt
"""

from __future__ import annotations

import logging
import os
import sys

from dials.util import Sorry
from dials.util.options import ArgumentParser
from iotbx import phil

import diffuse_core
from diffuse_core import matching
from diffuse_core.command_line.common import command, write_json
from diffuse_core.command_line.log_file import start_log
from diffuse_core.compare import compare
from diffuse_core.errors import ConfigError, InputError
from diffuse_core.grid import Grid
from diffuse_core.io.foreign import read_voxels
from diffuse_core.report import comparison as report
from diffuse_core.simulate.truth import Truth
from diffuse_core.statistics import shell_edges

logger = logging.getLogger("dials.diffuse")

NAME = "dials.diffuse_compare"
PHIL = """
d_min = None
  .type = float(value_min=0)
  .help = "Voxels beyond this resolution (A) are left out."
d_max = None
  .type = float(value_min=0)
  .help = "Voxels of lower resolution (A) are left out."
n_shells = 10
  .type = int(value_min=1)
  .help = "Resolution shells, of equal volume."
unit_cell = None
  .type = unit_cell
  .help = "Unit cell, if no file holds one or another is wanted."
space_group = None
  .type = space_group
  .help = "Average both maps over the Laue group of this space group. Default: that of"
          "a map which was averaged so, else none."
reindex = None
  .type = str
  .help = "Operator on the indices of the first map, for example k,h,-l."
exclude {
  bragg = Auto
    .type = bool
    .help = "Leave out voxels with a lattice point in their centre. Auto: report with"
            "and without them."
}
resample {
  min_coverage = 0.9
    .type = float(value_min=0, value_max=1)
    .help = "Where voxels of one map are whole multiples of those of the other: part of"
            "a coarser voxel that must be measured."
}
ccp4 {
  frame = *auto hkl lab
    .type = choice
    .help = "Axes of CCP4/MRC maps: h, k, l (cell = range in indices), or Cartesian in"
            "the laboratory as dials.rs_mapper writes them. auto: lab for a cube that"
            "starts at 0, else hkl."
}
output {
  json = dials.diffuse_compare.json
    .type = path
    .help = "All figures."
  png = diffuse_compare.png
    .type = path
    .help = "Picture. None: no picture."
  log = dials.diffuse_compare.log
    .type = path
}
"""


@command
def run(args=None) -> None:
    """Entry point of `dials.diffuse_compare`."""
    params, names, expt, open_log = _parse(args)
    cell = None if params.unit_cell is None else params.unit_cell.parameters()
    group = None if params.space_group is None else params.space_group.group()
    a, b = _read(names, cell, params.ccp4.frame, params.reindex)
    for letter, name, source in zip("ab", names, (a, b), strict=True):
        logger.info("%s: %s, %s", letter, name, _describe(source))
    matched = matching.match(
        a,
        b,
        unit_cell=cell,
        space_group=group,
        reindex=params.reindex,
        min_coverage=params.resample.min_coverage,
        orientation=None if expt is None else _orientation(expt),
    )
    edges = _edges(matched.pair.s, params)
    sets = _sets(matched.pair, params.exclude.bragg)
    open_log()
    for note in matched.notes:
        logger.info("%s", note)
    pair = matched.pair
    logger.info("%d common voxels of %s", len(pair), _widths(pair.steps))
    results = {}
    for key, which in sets.items():
        results[key] = compare(pair.rows(which), edges)
        logger.info("\n%s\n%s", TITLES[key], report.shell_table(results[key]))
        logger.info("\n%s", report.fit_table(results[key]))
    logger.info("\n%s", report.FORMULA)
    figures = {
        "a": str(names[0]),
        "b": str(names[1]),
        "unit_cell": matched.unit_cell,
        "space_group": matched.space_group,
        "steps": pair.steps.tolist(),
        "notes": [*matched.notes, report.FORMULA],
        **{key: report.figures(result) for key, result in results.items()},
    }
    write_json(params.output.json, figures)
    if params.output.png:
        _picture(params.output.png, names, list(results.values())[-1], matched)


TITLES = {
    "all": "All common voxels",
    "between_lattice_points": "Without the voxels centred on lattice points",
}


def _parse(args):
    parser = ArgumentParser(
        usage=f"{NAME} [options] a b [refined.expt] [name=value ...]",
        phil=phil.parse(PHIL),
        epilog=__doc__,
    )
    given = list(sys.argv[1:] if args is None else args)
    try:
        params, options, files = parser.parse_args(
            given, show_diff_phil=False, return_unhandled=True
        )
    except RuntimeError as error:
        raise Sorry(" ".join(str(error).split())) from error
    if not files:
        parser.print_help()
        raise SystemExit(0)
    for name in files:
        if "=" in name and not os.path.exists(name):
            raise Sorry(f"There is no parameter {name.split('=')[0]}; see -c.")
    expts = [name for name in files if name.endswith(".expt")]
    names = [name for name in files if name not in expts]
    if len(names) != 2 or len(expts) > 1:
        raise Sorry(
            f"Two maps are compared, and {len(names)} were given with {len(expts)} "
            ".expt files: give two, and one .expt file at most."
        )
    open_log = start_log(options.verbose, params.output.log)
    logger.info("dials.diffuse %s", diffuse_core.__version__)
    difference = parser.diff_phil.as_str()
    if difference.strip():
        logger.info("Parameters that differ from the defaults:\n%s", difference)
    return params, names, (expts or [None])[0], open_log


def _read(names, cell, frame: str, reindex: str | None) -> list:
    """Both files; a Lunus lattice last, with the unit cell of the other."""
    change = matching.operator(reindex or "h,k,l")
    sources = [None, None]
    for i in sorted(range(2), key=lambda i: ".lat" in os.path.basename(names[i])):
        other = sources[1 - i]
        known = cell or (None if other is None else other.unit_cell)
        if i == 0:
            known = matching.changed_cell(known, change.inverse())
        elif other is not None and cell is None:
            known = matching.changed_cell(known, change)
        sources[i] = _load(names[i], known, frame)
    return sources


def _load(name: str, cell, frame: str):
    if not name.endswith(".json"):
        return read_voxels(name, cell, frame)
    if not os.path.exists(name):
        raise InputError(f"The file {name} does not exist.")
    try:
        return Truth.from_file(name)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"The file {name} is not a truth.json of dials.diffuse_simulate ({error})."
        ) from error


def _describe(source) -> str:
    if isinstance(source, Truth):
        return "a truth, averaged over the voxels"
    cell = ""
    if source.unit_cell is not None:
        cell = ", cell " + " ".join(f"{x:.2f}" for x in source.unit_cell)
    return (
        f"{len(source)} voxels of {_widths(source.steps)} ({source.frame})"
        f"{', asymmetric unit' if source.asymmetric else ''}"
        f"{'' if source.sigma is not None else ', without sigmas'}{cell}"
    )


def _widths(steps) -> str:
    return " x ".join(
        f"1/{round(1 / x)}"
        if abs(round(1 / x) * x - 1) < 1e-9 and x < 1
        else f"{x:.4g}"
        for x in steps
    )


def _orientation(path: str):
    from diffuse_core.compat import load_experiments

    try:
        experiments = load_experiments(path, check_format=False)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"The file {path} can't be read ({error}).") from error
    if not len(experiments) or experiments[0].crystal is None:
        raise InputError(f"The file {path} holds no crystal: index the images first.")
    return matching.Orientation.of_experiment(experiments[0])


def _edges(s, params):
    low = 1.0 / params.d_max if params.d_max else s.min()
    high = 1.0 / params.d_min if params.d_min else s.max()
    if not high > low:
        raise ConfigError(
            "No resolution is left: d_min must be smaller than d_max, and both fit the "
            f"maps ({1 / max(s.min(), 1e-9):.4g} to {1 / s.max():.4g} A)."
        )
    return shell_edges(low, high, params.n_shells)


def _sets(pair, exclude) -> dict:
    """Name -> bool array of the voxels that are compared together."""
    sets = {"all": pair.s >= 0, "between_lattice_points": ~pair.lattice_point}
    some = pair.lattice_point.any() and not pair.lattice_point.all()
    if exclude is True:
        if pair.lattice_point.all():
            raise ConfigError(
                "exclude.bragg=True leaves nothing: all common voxels are centred on "
                "lattice points."
            )
        del sets["all"]
    elif exclude is False or not some:
        del sets["between_lattice_points"]
    return sets


def _picture(path, names, result, matched) -> None:
    from diffuse_core.report.pictures import write_comparison

    axes = ("h", "k", "l") if matched.frame == "hkl" else ("x", "y", "z")
    units = "" if matched.frame == "hkl" else "1/A"
    grid = Grid(matched.frame, tuple(matched.pair.steps.tolist()), axes, units)
    write_comparison(
        path,
        tuple(os.path.basename(name) for name in names),
        result,
        grid,
        matched.unit_cell,
        matched.operators,
    )
    logger.info("Picture: %s", path)


if __name__ == "__main__":
    run()
