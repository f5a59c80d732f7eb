"""The figures of a comparison as text, and as what JSON can hold."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from dials.util import tabulate

from diffuse_core.compare import Comparison

FORMULA = (
    "CC allowed: the correlation expected if both maps have the same true values and "
    "their sigmas are right, sqrt(R_a R_b) with R = 1 - <sigma^2>/variance; against a "
    "truth sqrt(var_true/(var_true + <sigma^2>)), var_true on the scale of the map; "
    "where exposures are known, that of photons drawn from the truth."
)


def shell_table(comparison: Comparison) -> str:
    """Correlations by resolution shell and overall."""
    header = [
        "d_max",
        "d_min",
        "voxels",
        "CC",
        "allowed",
        "CC aniso",
        "allowed",
        "CC/all.",
        "chi2",
    ]
    rows = []
    for r in (*comparison.shells, comparison.overall):
        ratio = r.cc_anisotropic / (r.cc_anisotropic_allowed or np.nan)
        rows.append(
            [
                f"{r.d_max:.2f}",
                f"{r.d_min:.2f}",
                str(r.voxels),
                _number(r.cc, ".4f"),
                _number(r.cc_allowed, ".4f"),
                _number(r.cc_anisotropic, ".4f"),
                _number(r.cc_anisotropic_allowed, ".4f"),
                _number(ratio, ".3f"),
                _number(r.reduced_chi_squared, ".3f"),
            ]
        )
    return tabulate(rows, headers=header, disable_numparse=True)


def fit_table(comparison: Comparison) -> str:
    """b = scale * a + offset, chi-squared and pulls."""
    header = ["b from a", "scale", "+-", "offset", "+-", "chi2/dof", "pull", "width"]
    rows = [
        [
            f.name,
            _number(f.scale, ".5g"),
            _number(f.scale_error, ".2g"),
            _number(f.offset, ".4g"),
            _number(f.offset_error, ".2g"),
            _number(f.reduced_chi_squared, ".4g"),
            _number(f.mean_pull, ".3f"),
            _number(f.pull_width, ".3f"),
        ]
        for f in comparison.fits
    ]
    return tabulate(rows, headers=header, disable_numparse=True)


def figures(comparison: Comparison) -> dict:
    """Every figure, NaN and infinity as None."""
    return {
        "overall": _plain(asdict(comparison.overall)),
        "shells": [_plain(asdict(r)) for r in comparison.shells],
        "fits": [_plain(asdict(f)) for f in comparison.fits],
    }


def _plain(values: dict) -> dict:
    return {
        k: None if isinstance(v, float) and not np.isfinite(v) else v
        for k, v in values.items()
    }


def _number(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "-"
