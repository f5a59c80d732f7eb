"""The end of a run: sections of plug-ins, the JSON file, the HTML report."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from diffuse_core.command_line.common import Options, write_json

if TYPE_CHECKING:
    from diffuse_core.scale_model import ScaleModel

logger = logging.getLogger("dials.diffuse")


def finish(
    options: Options, title: str, figures: dict, scales: ScaleModel | None = None
) -> None:
    """Writes all figures, and the report unless it is turned off.

    A report that can't be written is a warning: it never costs a run.

    Args:
        options: The command line.
        title: Heading of the report.
        figures: Those of the run; the sections of plug-ins are added.
        scales: The scales that were fitted; None: those of `merging.scales`, if any.
    """
    sections = options.registry.report_sections(figures)
    figures["sections"] = [vars(item) for item in sections]
    output = options.params.output
    write_json(output.json, figures)
    if not output.html:
        return
    from diffuse_core.report.html import write_html
    from diffuse_core.report.items import stage_items
    from diffuse_core.scale_model import ScaleModel

    record = figures.get("provenance", {})
    about = ", ".join(str(record[key]) for key in ("program", "dials") if key in record)
    used = getattr(getattr(options.params, "merging", None), "scales", None)
    try:
        if scales is None and used:
            scales = ScaleModel.read(used)
        items = [*stage_items(figures, scales), *sections]
        write_html(output.html, title, about, items)
    except Exception as error:
        logger.warning(
            "There is no report: %s can't be written (%s: %s)",
            output.html,
            type(error).__name__,
            error,
        )
        return
    logger.info("Report: %s", output.html)
