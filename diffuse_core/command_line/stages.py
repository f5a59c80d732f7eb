"""The stages as commands run them: progress, log, tables, files.

What a stage needs is imported when it runs, so that `--help` answers at once and no
stage waits for the compiled functions of another.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffuse_core.command_line.common import Options, processes, working
from diffuse_core.errors import ConfigError

if TYPE_CHECKING:
    from diffuse_core.merge import Merged
    from diffuse_core.merge_stage import Merging
    from diffuse_core.scale_model import ScaleModel

logger = logging.getLogger("dials.diffuse")


def run_integration(options: Options) -> tuple[dict, dict]:
    """Images to observations; returns the figures of the summary and provenance."""
    from diffuse_core import inputs, orchestrator
    from diffuse_core.report.integration import integration_table
    from diffuse_core.run import make_spec

    params = options.params
    processes(params)
    files = inputs.sort_files(options.files)
    spec = make_spec(options.registry, params, options.working, files)
    logger.info(
        "Models: %s",
        ", ".join(f"{kind} {name}" for kind, name, *_ in spec.fingerprint),
    )
    started = time.monotonic()
    with working(options.begin, "Integrating") as progress:
        figures = orchestrator.integrate(
            options.registry, spec, params, progress, getattr(params, "merging", None)
        )
    figures["seconds"] = round(time.monotonic() - started, 3)
    logger.info("\n%s", integration_table(figures))
    logger.info("Observations: %s", params.output.observations)
    return figures, spec.provenance


def run_scaling(
    options: Options, folders: Sequence[str], files: Sequence[str]
) -> tuple[dict, ScaleModel]:
    """Observations to scales: figures of the fit, and the model.

    Args:
        options: The command line.
        folders: Folders of observations.
        files: .expt and .refl files of the same experiments, perhaps none.
    """
    from diffuse_core import scale_stage
    from diffuse_core.bragg_ambiguity import Bragg
    from diffuse_core.raw_images.phil import user_parameters
    from diffuse_core.report.summary import ambiguity_table, scaling_table

    params = options.params
    processes(params)
    bragg = Bragg(
        files,
        params.output.dials,
        user_parameters(options.working),
        params.parallel.nproc,
    )
    serial = params.parallel.engine == "serial"
    started = time.monotonic()
    with working(options.begin, "Scaling", "trial") as progress:
        model = scale_stage.scale(
            options.registry,
            folders,
            params,
            nproc=1 if serial else params.parallel.nproc,
            progress=progress,
            notes={"phil_scaling": options.working.as_str()},
            bragg=bragg,
        )
    figures = {**model.figures, "seconds": round(time.monotonic() - started, 3)}
    if figures["ambiguity"]:
        logger.info("\n%s", ambiguity_table(figures["ambiguity"]))
    logger.info("\n%s", scaling_table(figures))
    if params.output.scales:
        model.write(params.output.scales)
        logger.info("Scales: %s", params.output.scales)
    return figures, model


def run_merging(options: Options, names: Sequence[str]) -> tuple[dict, dict]:
    """Observations to merged table, map and pictures; the figures and provenance.

    Args:
        options: The command line.
        names: Folders of observations, or merged tables to combine.
    """
    from diffuse_core import merge_stage
    from diffuse_core.io.files import check_size, read_merged
    from diffuse_core.report.figures import merging_figures
    from diffuse_core.report.summary import shell_table

    params = options.params
    processes(params)
    serial = params.parallel.engine == "serial"
    with tempfile.TemporaryDirectory(prefix=".diffuse_merged_", dir=".") as folder:
        path = params.output.merged or f"{folder}/merged.nxs"
        with working(options.begin, "Merging", "row") as progress:
            done = merge_stage.merge(
                names,
                params.merging,
                path,
                nproc=1 if serial else params.parallel.nproc,
                notes={"phil_merging": options.working.as_str()},
                progress=progress,
            )
        check_size(path)
        merged = read_merged(path)
    figures = merging_figures(merged, done.symmetry.operators)
    figures["outliers"] = done.outliers
    logger.info("\n%s", shell_table(figures))
    if params.merging.leave_one_out and Path(names[0]).is_dir():
        from diffuse_core.effects_stage import effects_of_groups

        figures["leave_one_out"] = effects_of_groups(names, params.merging, merged)
    if params.output.merged:
        logger.info("Merged table: %s", params.output.merged)
    if params.output.map:
        figures["pictures"] = _write_map(params, merged, done)
    return figures, done.provenance


def _write_map(params, merged: Merged, done: Merging) -> list[str]:
    """Writes the map and its pictures; the paths of the latter."""
    from diffuse_core.io.files import write_map
    from diffuse_core.volume import expand

    try:
        volume = expand(merged, done.symmetry.operators, params.merging.map_d_min)
    except ConfigError as error:
        logger.warning("There is no map. %s", error)
        return []
    write_map(params.output.map, volume, done.provenance)
    logger.info("Map: %s", params.output.map)
    if not params.output.pictures:
        return []
    from diffuse_core.report.pictures import write_sections

    pictures = [str(p) for p in write_sections(volume, params.output.pictures)]
    logger.info("Pictures: %s", ", ".join(pictures))
    return pictures
