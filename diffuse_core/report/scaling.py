"""The fitted scales: what each component is, as a table and as curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from diffuse_core.report.plots import COLOURS, layout
from diffuse_core.report.summary import ambiguity_rows
from diffuse_core.report_item import ReportItem
from diffuse_core.scale_model import FittedComponent, ScaleModel

POINTS = 200
MOST_CURVES = 20
SYMBOLS = {"crystal": "B", "path": "G", "offset": "C (counts/s/sr)"}
MEANINGS = {
    "crystal": "B scales the crystal's own scattering (volume, flux, decay).",
    "path": "G scales everything that passes this path (absorption, detector).",
    "offset": "C is added to the intensity, with no lattice.",
}
UNITS = {"phi": "rotation angle (&#176;)", "s": "|s| = 1/d (1/&#8491;)"}


def scaling_items(model: ScaleModel | None) -> Iterator[ReportItem]:
    """Tables of components and indexing; a plot of each component that depends on
    angle, |s| or the experiment alone, or on angle and |s|."""
    if model is None:
        return
    rows = [["component", "role", "depends on", "experiments", "parameters", "size"]]
    for c in model.components:
        rows.append(
            [
                c.name,
                c.role,
                ", ".join(c.columns),
                str(len(c.used)),
                str(len(c.parameters)),
                f"{c.smoothness:.3g}",
            ]
        )
    yield ReportItem("Scaling: components", "table", rows)
    yield from _fit(model.figures)
    if model.figures.get("ambiguity"):
        rows = ambiguity_rows(model.figures["ambiguity"])
        yield ReportItem("Indexing", "table", rows)
    if model.gauge:
        yield ReportItem("Scaling: conventions", "text", "\n".join(model.gauge))
    for c in model.components:
        plot = _plot(c, model)
        if plot is not None:
            yield ReportItem(f"Scaling: {c.name}", "plot", plot)


def _fit(figures: Mapping[str, Any]) -> Iterator[ReportItem]:
    """How the fit ended, and the curves that chose the smoothness."""
    rows = [["", ""]]
    for name in ("observations", "voxels", "iterations", "converged"):
        if name in figures:
            rows.append([name, str(figures[name])])
    for name, value in figures.get("chi_squared", {}).items():
        rows.append([f"chi-squared of symmetry mates, {name}", f"{value:.4g}"])
    for name, value in figures.get("outliers", {}).items():
        rows.append([f"outliers: {name}", f"{value:.6g}"])
    if len(rows) > 1:
        yield ReportItem("Scaling: fit", "table", rows)
    lines = []
    for number, component in enumerate(figures.get("components", ())):
        trials = sorted((float(x), y) for x, y in component["held_out"].items())
        if len(trials) < 2:
            continue
        least = min(y for _, y in trials)
        lines.append(
            {
                "x": [x for x, _ in trials],
                "y": [y - least for _, y in trials],
                "mode": "lines+markers",
                "line": {"color": COLOURS[number % len(COLOURS)]},
                "name": f"{component['name']} (chosen: {component['smoothness']:.3g})",
            }
        )
    if lines:
        plot = {
            "data": lines,
            "layout": layout(
                {"title": {"text": "size of the penalised steps"}, "type": "log"},
                "held-out &#967;<sup>2</sup> above the least",
            ),
            "help": (
                "Chi-squared of observations that were left out of the fit, per "
                "observation. A size too small is too stiff, one too large fits noise."
            ),
        }
        yield ReportItem("Scaling: choice of smoothness", "plot", plot)


def _plot(c: FittedComponent, model: ScaleModel) -> dict | None:
    columns = set(c.columns) - {"source"}
    if not c.used:
        return None
    if not columns:
        return _by_experiment(c)
    if columns == {"phi"} or columns == {"s"}:
        return _curves(c, model, columns.pop())
    if columns == {"phi", "s"}:
        return _surface(c, model)
    return None


def _by_experiment(c: FittedComponent) -> dict:
    values = c.value({"source": np.array(c.used)})
    line = {
        "x": list(c.used),
        "y": values.tolist(),
        "mode": "markers",
        "marker": {"color": COLOURS[0]},
        "name": c.name,
    }
    return {
        "data": [line],
        "layout": layout("experiment", SYMBOLS[c.role], showlegend=False),
        "help": MEANINGS[c.role],
    }


def _curves(c: FittedComponent, model: ScaleModel, column: str) -> dict:
    data = []
    for number, source in enumerate(c.used[:MOST_CURVES]):
        x = np.linspace(*_range(model, column, source), POINTS)
        values = c.value({"source": np.full(POINTS, source), column: x})
        data.append(
            {
                "x": x.tolist(),
                "y": values.tolist(),
                "mode": "lines",
                "line": {"color": COLOURS[number % len(COLOURS)]},
                "name": f"experiment {source}",
            }
        )
    return {
        "data": data,
        "layout": layout(UNITS[column], SYMBOLS[c.role]),
        "help": MEANINGS[c.role],
    }


def _surface(c: FittedComponent, model: ScaleModel) -> dict:
    source = c.used[0]
    n = POINTS // 4
    s = np.linspace(*_range(model, "s", source), n)
    phi = np.linspace(*_range(model, "phi", source), n)
    grid_s, grid_phi = np.meshgrid(s, phi, indexing="ij")
    points = {"source": np.full(n * n, source), "s": grid_s.ravel()}
    values = c.value({**points, "phi": grid_phi.ravel()}).reshape(n, n)
    surface = {
        "type": "heatmap",
        "x": phi.tolist(),
        "y": s.tolist(),
        "z": values.tolist(),
        "colorscale": "Viridis",
        "colorbar": {"title": {"text": SYMBOLS[c.role]}},
    }
    return {
        "data": [surface],
        "layout": layout(UNITS["phi"], UNITS["s"]),
        "help": f"Experiment {source}. {MEANINGS[c.role]}",
    }


def _range(model: ScaleModel, column: str, source: int) -> tuple[float, float]:
    if column == "phi":
        return model.sources[source].phi
    return float(model.expected.s[0]), float(model.expected.s[-1])
