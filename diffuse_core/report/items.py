"""The pieces of the report of a run, made of the figures that go into the JSON file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from diffuse_core.report import plots, summary
from diffuse_core.report.figures import NAMES
from diffuse_core.report.integration import integration_rows
from diffuse_core.report.scaling import scaling_items
from diffuse_core.report_item import ReportItem
from diffuse_core.scale_model import ScaleModel


def stage_items(figures: dict, scales: ScaleModel | None = None) -> list[ReportItem]:
    """What the stages of a run have to show; a piece that fails becomes a text.

    Args:
        figures: Those of the JSON file: "integration", "merging" and "provenance" are
            shown where they are there.
        scales: The fitted scales.
    """
    items: list[ReportItem] = []
    for title, make in (
        ("Merging", lambda: _merging(figures.get("merging"))),
        ("Effect of sweeps and blocks", lambda: _groups(figures.get("merging"))),
        ("Sections", lambda: _pictures(figures.get("merging"))),
        ("Scaling", lambda: scaling_items(scales)),
        ("Integration", lambda: _integration(figures.get("integration"))),
        ("Provenance", lambda: _provenance(figures.get("provenance"))),
    ):
        items += _safely(title, make)
    return items


def _safely(
    title: str, make: Callable[[], Iterator[ReportItem] | list[ReportItem]]
) -> list[ReportItem]:
    try:
        return list(make())
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return [ReportItem(title, "text", f"This part of the report failed: {reason}")]


def _integration(figures: dict | None) -> Iterator[ReportItem]:
    if figures:
        rows = [["", ""], *integration_rows(figures)]
        yield ReportItem("Integration", "table", rows)


def _merging(figures: dict | None) -> Iterator[ReportItem]:
    if not figures:
        return
    shown = summary.subset_shown(figures)
    yield ReportItem("Summary", "text", "\n".join(summary.sentences(figures)))
    yield ReportItem(
        f"Merged data by resolution (halves: random, {NAMES[shown]})",
        "table",
        summary.shell_rows(figures),
    )
    rows = summary.half_rows(figures)
    if len(rows) > 1:
        yield ReportItem("Agreement of halves, all resolutions", "table", rows)
        title = "Agreement by resolution"
        yield ReportItem(title, "plot", plots.agreement_plot(figures, shown))
    if figures["signal_limit"]:
        yield ReportItem(
            "Resolution of the anisotropic signal",
            "plot",
            plots.limit_plot(figures["signal_limit"], shown),
        )
    title = "Completeness and multiplicity"
    yield ReportItem(title, "plot", plots.completeness_plot(figures))
    title = "Intensity by resolution"
    yield ReportItem(title, "plot", plots.intensity_plot(figures))
    model = figures["error_model"]
    if model and model["bins"]:
        title = "Scatter of symmetry mates"
        yield ReportItem(title, "plot", plots.chi_squared_plot(model))


def _groups(figures: dict | None) -> Iterator[ReportItem]:
    for what, groups in ((figures or {}).get("leave_one_out") or {}).items():
        if len(groups) > 1:
            plot = plots.group_plot(groups, what)
            yield ReportItem(f"Effect of each {what} on CC1/2", "plot", plot)


def _pictures(figures: dict | None) -> Iterator[ReportItem]:
    for path in (figures or {}).get("pictures") or []:
        yield ReportItem(Path(path).stem.replace("_", " "), "picture", str(path))


def _provenance(record: dict | None) -> Iterator[ReportItem]:
    if record:
        rows = [["", ""], ["program", str(record.get("program", ""))]]
        rows += [["input", str(entry)] for entry in _inputs(record)]
        yield ReportItem("Provenance", "table", rows)


def _inputs(record: dict) -> list[str]:
    return [
        str(entry.get("path", entry)) if isinstance(entry, dict) else str(entry)
        for entry in record.get("inputs", [])
    ]
