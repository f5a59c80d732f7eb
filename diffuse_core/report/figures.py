"""The figures of a merged table as JSON can hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from diffuse_core.agreement import Estimate
from diffuse_core.error_model import ErrorModel
from diffuse_core.merge import Merged
from diffuse_core.merged_statistics import SHELLS, merged_statistics
from diffuse_core.shell_statistics import Agreement, ShellFigures
from diffuse_core.signal_limit import Limit

NAMES = {"all": "all voxels", "between": "between lattice points"}


def merging_figures(
    merged: Merged, operators: Sequence[np.ndarray] | None, n_shells: int = SHELLS
) -> dict:
    """Figures of a merged table, overall and in shells of equal volume.

    A figure X with 68 % bounds is "X" and "X_bounds", [low, high]; None is what has no
    meaning.

    Args:
        merged: The table.
        operators: (3, 3) integer operators that were averaged over, or None.
        n_shells: Resolution shells.
    """
    found = merged_statistics(merged, operators, n_shells)
    s = merged.grid.s_norm(merged.index, merged.unit_cell)
    return {
        "symmetry": merged.symmetry,
        "space_group": merged.space_group,
        "unit_cell": merged.unit_cell,
        "grid": merged.grid.to_dict(),
        "overall": _row(found.overall, merged, s),
        "shells": [_row(shell, merged, s) for shell in found.shells],
        "signal_limit": _limit(found.limit),
        "error_model": _error_model(found.error_model),
    }


def _row(shell: ShellFigures, merged: Merged, s: np.ndarray) -> dict:
    rows = (s >= shell.s_low) & (s <= shell.s_high)
    observations = int(merged.observations[rows].sum())
    counts = float(merged.counts[rows].sum())
    return {
        "d_max": 1.0 / shell.s_low if shell.s_low > 0 else None,
        "d_min": 1.0 / shell.s_high,
        "voxels": shell.voxels,
        "unique_voxels": shell.unique,
        "completeness": shell.completeness,
        "completeness_between_lattice_points": shell.completeness_between,
        "observations": observations,
        "pixels": float(merged.pixels[rows].sum()),
        "counts": counts,
        "counts_per_observation": counts / observations if observations else None,
        **estimate("multiplicity", shell.multiplicity),
        **estimate("mean_intensity", shell.intensity),
        "mean_sigma": number(shell.sigma),
        **estimate("mean_i_over_sigma", shell.i_over_sigma),
        **estimate("reduced_chi_squared", shell.chi_squared),
        "halves": {
            subset: {
                kind: _agreement(halves)
                for kind, halves in getattr(shell, subset).items()
            }
            for subset in NAMES
        },
    }


def _agreement(halves: Agreement) -> dict:
    figures = {"voxels": halves.voxels}
    for f in fields(halves):
        if f.name != "voxels":
            figures.update(estimate(f.name, getattr(halves, f.name)))
    return figures


def _limit(limit: Limit | None) -> dict | None:
    if limit is None:
        return None
    s = limit.s
    d = Estimate(*(1.0 / x for x in (s.value, s.high, s.low)))
    return {
        "threshold": limit.threshold,
        "reaches": limit.reaches,
        **estimate("d", d),
        "s": limit.at.tolist(),
        "curve": limit.curve.tolist(),
        "cc_half": [number(c.value) for c in limit.shells],
        "cc_half_bounds": [[number(c.low), number(c.high)] for c in limit.shells],
    }


def _error_model(model: ErrorModel | None) -> dict | None:
    if model is None:
        return None
    return {
        **estimate("sigma_scale", model.sigma_scale),
        **estimate("factor", model.factor),
        **estimate("relative", model.relative),
        **estimate("beyond_counting", model.beyond),
        "misfit": number(model.misfit),
        "reason": model.reason,
        "bins": [
            {
                "voxels": b.voxels,
                "intensity": b.intensity,
                **estimate("reduced_chi_squared", b.chi_squared),
            }
            for b in model.bins
        ],
    }


def estimate(name: str, value: Estimate | None) -> dict:
    """X and X_bounds."""
    if value is None:
        return {name: None, f"{name}_bounds": None}
    bounds = [number(value.low), number(value.high)]
    return {name: number(value.value), f"{name}_bounds": bounds}


def number(value: float) -> float | None:
    """The value, None where it is not finite."""
    return float(value) if np.isfinite(value) else None
