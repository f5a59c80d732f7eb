"""The plots of a report in plotly's layout, made of the figures in the JSON file."""

from __future__ import annotations

from collections.abc import Sequence

from diffuse_core.half_sets import MEANINGS
from diffuse_core.report.figures import NAMES

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#7f7f7f")
TICKS = 6


def middles(figures: dict) -> list[float]:
    """|s| (1/A) in the middle of each shell."""
    return [
        0.5 * ((1.0 / row["d_max"] if row["d_max"] else 0.0) + 1.0 / row["d_min"])
        for row in figures["shells"]
    ]


def resolution_axis(s: Sequence[float]) -> dict:
    """An axis that is even in |s| (1/A) and labelled with d (A)."""
    low, high = min(s), max(s)
    ticks = [low + (high - low) * i / (TICKS - 1) for i in range(TICKS)]
    return {
        "title": {"text": "d (&#8491;)"},
        "tickvals": ticks,
        "ticktext": [f"{1 / t:.2f}" if t > 1e-6 else "&#8734;" for t in ticks],
    }


def layout(x: dict | str, y: str, **more) -> dict:
    """The layout of a plot with named axes."""
    x = {"title": {"text": x}} if isinstance(x, str) else x
    y_axis = {"title": {"text": y}, **more.pop("yaxis", {})}
    return {"xaxis": x, "yaxis": y_axis, **more}


def curve(x, rows: Sequence[dict], key: str, name: str, colour: str, **more) -> dict:
    """A line through figures with error bars of 68 %; gaps where there is none."""
    value = [row.get(key) for row in rows]
    bounds = [row.get(f"{key}_bounds") or [None, None] for row in rows]
    up = [
        b[1] - v if v is not None and b[1] is not None else 0.0
        for v, b in zip(value, bounds, strict=True)
    ]
    down = [
        v - b[0] if v is not None and b[0] is not None else 0.0
        for v, b in zip(value, bounds, strict=True)
    ]
    return {
        "x": list(x),
        "y": value,
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": up,
            "arrayminus": down,
            "thickness": 1,
        },
        "name": name,
        "mode": "lines+markers",
        "line": {"color": colour, **more.pop("line", {})},
        **more,
    }


def agreement_plot(figures: dict, subset: str) -> dict:
    """CC1/2 and CC* by resolution, for each kind of halves."""
    x = middles(figures)
    data = []
    for number, (kind, meaning) in enumerate(MEANINGS.items()):
        rows = [shell["halves"][subset].get(kind, {}) for shell in figures["shells"]]
        if not any(row.get("voxels") for row in rows):
            continue
        hidden = {} if kind == "random" else {"visible": "legendonly"}
        colour = COLOURS[number]
        dotted, dashed = ({"line": {"dash": d}} for d in ("dot", "dash"))
        for key, name, style in (
            ("cc_half_anisotropic", "CC<sub>1/2</sub>, anisotropic part", {}),
            ("cc_half", "CC<sub>1/2</sub>", dotted),
            (
                "cc_star_anisotropic",
                "CC*, anisotropic part",
                {"line": {"dash": "dash"}},
            ),
        ):
            data.append(
                curve(x, rows, key, f"{name} ({meaning})", colour, **style, **hidden)
            )
    return {
        "data": data,
        "layout": layout(
            resolution_axis(x), "correlation", yaxis={"range": [-0.05, 1.05]}
        ),
        "help": (
            f"Correlation of the two halves of the data, {NAMES[subset]}. The "
            "anisotropic part is the intensity minus its spherical average, each half "
            "minus its own. CC* estimates the correlation of all data with the truth. "
            "Click in the legend to see halves of blocks, experiments, Friedel mates."
        ),
    }


def limit_plot(limit: dict, subset: str) -> dict:
    """CC1/2 of fine shells, the falling curve and where it crosses the threshold."""
    x = limit["s"]
    rows = [
        {"cc": value, "cc_bounds": bounds}
        for value, bounds in zip(limit["cc_half"], limit["cc_half_bounds"], strict=True)
    ]
    data = [
        curve(x, rows, "cc", "fine shells", COLOURS[0], mode="markers"),
        {
            "x": x,
            "y": limit["curve"],
            "name": "falling curve",
            "mode": "lines",
            "line": {"color": COLOURS[1]},
        },
        {
            "x": [x[0], x[-1]],
            "y": [limit["threshold"]] * 2,
            "name": f"threshold {limit['threshold']:g}",
            "mode": "lines",
            "line": {"color": COLOURS[5], "dash": "dash"},
        },
    ]
    shapes = []
    if limit["d"] is not None:
        high, low = limit["d_bounds"]
        shapes.append(
            {
                "type": "rect",
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "x0": 1.0 / (low or limit["d"]),
                "x1": 1.0 / (high or limit["d"]),
                "fillcolor": COLOURS[1],
                "opacity": 0.15,
                "line": {"width": 0},
            }
        )
    return {
        "data": data,
        "layout": layout(
            resolution_axis(x), "CC<sub>1/2</sub>, anisotropic part", shapes=shapes
        ),
        "help": (
            f"Random halves, {NAMES[subset]}. The shaded band is the resolution at "
            "which the curve crosses the threshold, with its 68 % bounds."
        ),
    }


def completeness_plot(figures: dict) -> dict:
    """Completeness and multiplicity by resolution."""
    x = middles(figures)
    data = []
    for i, (key, name) in enumerate(
        (
            ("completeness", "completeness"),
            ("completeness_between_lattice_points", "between lattice points"),
        )
    ):
        values = [row[key] for row in figures["shells"]]
        percent = [None if v is None else 100.0 * v for v in values]
        if set(percent) == {None} or percent in [line["y"] for line in data]:
            continue
        data.append(
            {
                "x": x,
                "y": percent,
                "name": name,
                "mode": "lines+markers",
                "line": {"color": COLOURS[i]},
            }
        )
    data.append(
        {
            **curve(
                x, figures["shells"], "multiplicity", "multiplicity (right)", COLOURS[2]
            ),
            "yaxis": "y2",
        }
    )
    right = {
        "title": {"text": "observations per voxel"},
        "overlaying": "y",
        "side": "right",
        "rangemode": "tozero",
        "showgrid": False,
    }
    return {
        "data": data,
        "layout": layout(
            resolution_axis(x),
            "measured unique voxels (%)",
            yaxis={"range": [0, 105]},
            yaxis2=right,
        ),
        "help": "Of all unique voxels of a shell, counted on the grid.",
    }


def intensity_plot(figures: dict) -> dict:
    """Mean intensity and mean I/sigma by resolution."""
    x = middles(figures)
    rows = figures["shells"]
    name = "&lt;I/&#963;&gt; (right)"
    ratio = curve(x, rows, "mean_i_over_sigma", name, COLOURS[1])
    right = {
        "title": {"text": "&lt;I/&#963;&gt;"},
        "overlaying": "y",
        "side": "right",
        "rangemode": "tozero",
        "showgrid": False,
    }
    return {
        "data": [
            curve(x, rows, "mean_intensity", "&lt;I&gt;", COLOURS[0]),
            {**ratio, "yaxis": "y2"},
        ],
        "layout": layout(
            resolution_axis(x),
            "&lt;I&gt; (counts/s/sr)",
            yaxis={"rangemode": "tozero"},
            yaxis2=right,
        ),
    }


def chi_squared_plot(model: dict) -> dict:
    """Reduced chi-squared of symmetry mates by intensity."""
    bins = model["bins"]
    x = [b["intensity"] for b in bins]
    found = [b["reduced_chi_squared"] for b in bins]
    steep = min(found) > 0 and max(found) > 10 * min(found)
    return {
        "data": [
            curve(x, bins, "reduced_chi_squared", "&#967;<sup>2</sup>", COLOURS[0]),
            {
                "x": [min(x), max(x)],
                "y": [1.0, 1.0],
                "name": "counting alone",
                "mode": "lines",
                "line": {"color": COLOURS[5], "dash": "dash"},
            },
        ],
        "layout": layout(
            "mean intensity of the voxels (counts/s/sr)",
            "reduced &#967;<sup>2</sup> of symmetry mates",
            yaxis={"type": "log"} if steep else {},
        ),
        "help": model["reason"]
        + " Level above 1: a constant factor (gain, background). Rising: scales.",
    }


def group_plot(groups: list[dict], what: str) -> dict:
    """What each sweep, or block, does for CC1/2."""
    x = list(range(len(groups)))
    return {
        "data": [
            {
                **curve(x, groups, "delta_cc_half", what, COLOURS[0], mode="markers"),
                "text": [g["name"] for g in groups],
            }
        ],
        "layout": layout(
            {"title": {"text": what}, "dtick": 1 if len(x) < 15 else None},
            "&#916;CC<sub>1/2</sub>",
            showlegend=False,
        ),
        "help": (
            "CC1/2 of the anisotropic part, with this one minus without it. Below 0: "
            "the data are better without."
        ),
    }
