"""The tables of a run for people, made of the figures that go into the JSON file."""

from __future__ import annotations

from dials.util import tabulate

from diffuse_core.half_sets import MEANINGS
from diffuse_core.report.figures import NAMES

IN_LOG = 40
"""Experiments in a table for the log."""


def subset_shown(figures: dict) -> str:
    """Whether tables show agreement "between" lattice points or of "all" voxels.

    The former where some but not all voxels are at lattice points.
    """
    everything, between = (figures["overall"]["halves"][name] for name in NAMES)
    for kind, halves in everything.items():
        if 0 < between[kind]["voxels"] < halves["voxels"]:
            return "between"
    return "all"


def shell_rows(figures: dict) -> list[list[str]]:
    """The table by shell, header first, the last row all shells together."""
    subset = subset_shown(figures)
    rows = [
        [
            "d_max",
            "d_min",
            "voxels",
            "compl. %",
            "mult.",
            "cts/obs.",
            "<I>",
            "<I/sigma>",
            "chi2",
            "CC1/2",
            "CC1/2 an.",
            "+-",
            "CC* an.",
            "R-split",
        ]
    ]
    for shell in [*figures["shells"], figures["overall"]]:
        if not shell["voxels"]:
            continue
        halves = shell["halves"][subset].get("random", {})
        anisotropic = halves.get("cc_half_anisotropic_bounds") or [None, None]
        error = None
        if None not in anisotropic:
            error = 0.5 * (anisotropic[1] - anisotropic[0])
        completeness = shell["completeness"]
        rows.append(
            [
                text(shell["d_max"], ".2f", "inf"),
                text(shell["d_min"], ".2f"),
                str(shell["voxels"]),
                text(None if completeness is None else 100 * completeness, ".1f"),
                text(shell["multiplicity"], ".1f"),
                text(shell["counts_per_observation"], ".4g"),
                text(shell["mean_intensity"], ".4g"),
                text(shell["mean_i_over_sigma"], ".1f"),
                text(shell["reduced_chi_squared"], ".4g"),
                text(halves.get("cc_half"), ".3f"),
                text(halves.get("cc_half_anisotropic"), ".3f"),
                text(error, ".3f"),
                text(halves.get("cc_star_anisotropic"), ".3f"),
                text(halves.get("r_split"), ".3f"),
            ]
        )
    return rows


def half_rows(figures: dict) -> list[list[str]]:
    """Agreement overall for each kind of halves, header first."""
    rows = [
        ["halves", "voxels", "", "CC1/2", "CC1/2 an.", "68 %", "CC* an.", "R-split"]
    ]
    for subset, name in NAMES.items():
        if subset not in ("all", subset_shown(figures)):
            continue
        for kind, halves in figures["overall"]["halves"][subset].items():
            if not halves["voxels"]:
                continue
            bounds = halves["cc_half_anisotropic_bounds"]
            rows.append(
                [
                    MEANINGS[kind],
                    str(halves["voxels"]),
                    name,
                    text(halves["cc_half"], ".4f"),
                    text(halves["cc_half_anisotropic"], ".4f"),
                    " to ".join(text(b, ".4f") for b in bounds),
                    text(halves["cc_star_anisotropic"], ".4f"),
                    text(halves["r_split"], ".4f"),
                ]
            )
    return rows


def sentences(figures: dict) -> list[str]:
    """The resolution of the signal, and what the scatter says of the errors."""
    said = []
    limit = figures["signal_limit"]
    if limit is not None:
        what = f"CC1/2 of the anisotropic part {{}} {limit['threshold']:g}"
        if limit["reaches"] == "crossing":
            low, high = (text(b, ".2f", "?") for b in limit["d_bounds"])
            said.append(
                what.format("falls below")
                + f" at {limit['d']:.2f} A (68 %: {low} to {high} A)."
            )
        elif limit["reaches"] == "edge":
            said.append(what.format("stays above") + " to the edge of the data.")
        else:
            said.append(
                what.format("is nowhere above")
                + ", as a curve that falls with resolution (shells are in the table)."
            )
    model = figures["error_model"]
    if model is not None:
        if model["sigma_scale"] is not None:
            low, high = (text(b, ".4g", "?") for b in model["sigma_scale_bounds"])
            said.append(
                f"Symmetry mates scatter by {model['sigma_scale']:.4g} ({low} to "
                f"{high}) of their sigmas."
            )
        said.append(model["reason"])
    return said


def text(value: float | None, form: str, nothing: str = "-") -> str:
    """A formatted number, or what stands for none."""
    return nothing if value is None else format(value, form)


def shell_table(figures: dict) -> str:
    """The figures of a merge as text."""
    header, *rows = shell_rows(figures)
    said = [
        f"Merged in {figures['symmetry']} symmetry, space group "
        f"{figures['space_group']} (intensities in counts/s/sr; random halves, "
        f"{NAMES[subset_shown(figures)]}; an.: anisotropic part)",
        tabulate(rows, headers=header, disable_numparse=True),
    ]
    header, *rows = half_rows(figures)
    if rows:
        said.append(tabulate(rows, headers=header, disable_numparse=True))
    return "\n".join([*said, *sentences(figures)])


def ambiguity_rows(figures: dict) -> list[list[str]]:
    """How each experiment is indexed and how that was found, header first."""
    header = ["experiment", "operator", "decided by", "CC", "next", "its CC", "lead"]
    rows = [header]
    by = figures.get("by", "diffuse scattering")
    for one in figures["experiments"]:
        rows.append(
            [
                one["identifier"] or "without identifier",
                one["operator"],
                by if one["decided"] else "not decided",
                _cc(one["cc"]),
                one["next"],
                _cc(one["next_cc"]),
                f"{one['standard_errors']:.1f}",
            ]
        )
    return rows


def _cc(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def ambiguity_table(figures: dict) -> str:
    """`ambiguity_rows` as text; of many experiments the first `IN_LOG`."""
    rows = ambiguity_rows(figures)
    text = tabulate(rows[: IN_LOG + 1], headers="firstrow")
    more = len(rows) - 1 - IN_LOG
    return f"{text}\n... and {more} more in the JSON file" if more > 0 else text


def scaling_table(figures: dict) -> str:
    """What was fitted to make symmetry mates agree, as text."""
    header = ["component", "role", "parameters", "smoothness", "lowest", "highest"]
    rows = [
        [
            c["name"],
            c["role"],
            f"{c['parameters']}",
            f"{c['smoothness']:.2g}",
            f"{c['lowest']:.4g}",
            f"{c['highest']:.4g}",
        ]
        for c in figures["components"]
    ]
    chi, outliers = figures["chi_squared"], figures["outliers"]
    below = [
        ["observations in voxels with mates", f"{figures['observations']}"],
        ["voxels", f"{figures['voxels']}"],
        ["steps of the fit", f"{figures['iterations']}"],
        ["converged", "yes" if figures["converged"] else "no"],
        *[[f"chi-squared of mates {name}", f"{v:.3f}"] for name, v in chi.items()],
        ["outliers above", f"{outliers['high']} of {outliers['tested']}"],
        ["outliers below", f"{outliers['low']} of {outliers['tested']}"],
        ["spread of mates beyond chance", f"{100 * outliers['tolerance']:.1f} %"],
    ]
    text = tabulate([header, *rows], headers="firstrow") if rows else "No component."
    return f"{text}\n\n{tabulate(below)}"
