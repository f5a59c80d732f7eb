"""The stages as commands run them: progress, log, tables, files."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from diffuse_core import inputs, orchestrator
from diffuse_core.command_line.common import Options, processes, progress_bar
from diffuse_core.io.files import write_map, write_merged
from diffuse_core.report.summary import integration_table, merging_figures, shell_table
from diffuse_core.run import make_spec
from diffuse_core.volume import expand

logger = logging.getLogger("dials.diffuse")


def run_integration(options: Options) -> tuple[dict, dict]:
    """Images to observations; returns the figures of the summary and provenance."""
    params = options.params
    processes(params)
    files = inputs.sort_files(options.files)
    spec = make_spec(options.registry, params, options.working, files)
    logger.info(
        "Models: %s",
        ", ".join(f"{kind} {name}" for kind, name, *_ in spec.fingerprint),
    )
    started = time.monotonic()
    with progress_bar("Integrating") as progress:
        figures = orchestrator.integrate(
            options.registry, spec, params, progress, getattr(params, "merging", None)
        )
    figures["seconds"] = round(time.monotonic() - started, 3)
    logger.info("\n%s", integration_table(figures))
    logger.info("Observations: %s", params.output.observations)
    return figures, spec.provenance


def run_merging(options: Options, folders: Sequence[str]) -> tuple[dict, dict]:
    """Observations to merged table, map and pictures; the figures and provenance."""
    params = options.params
    merged, operators, provenance = orchestrator.merge_folders(folders, params)
    provenance = {**provenance, "phil_merging": options.working.as_str()}
    figures = merging_figures(merged, operators)
    logger.info("\n%s", shell_table(figures))
    if params.output.merged:
        write_merged(params.output.merged, merged, provenance)
        logger.info("Merged table: %s", params.output.merged)
    if params.output.map:
        volume = expand(merged, operators)
        write_map(params.output.map, volume, provenance)
        logger.info("Map: %s", params.output.map)
        if params.output.pictures:
            from diffuse_core.report.pictures import write_sections

            pictures = write_sections(volume, params.output.pictures)
            logger.info("Pictures: %s", ", ".join(str(p) for p in pictures))
    return figures, provenance
