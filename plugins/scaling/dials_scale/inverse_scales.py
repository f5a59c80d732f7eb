"""Inverse scale factors of dials.scale's models, from their parameters.

    physical     S(z) exp(B(z) s^2 / 2) (1 + sum c_lm Y_lm)
    dose_decay   S(z) exp(B s^2 / 2) exp(C z s) (1 + sum c_lm Y_lm),  or exp(C z s^2)
    array        D(s^2, z) A(x, y, z) M(x, y)
    KB           S exp(B s^2 / 2)

with z the position along the scan in images, s = 1/d, x, y in pixels whatever the
panel, and Gaussian smoothers S, B(z), D, A, M whose coordinates begin at the first
reflection (dials.algorithms.scaling.model of DIALS 3.12 to 3.30).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from diffuse_core.smooth import Axis, smoother

KNOWN = ("KB", "array", "dose_decay", "physical")


def inverse_scales(
    model: dict[str, Any],
    terms: list[str],
    z: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    s: np.ndarray,
    harmonics: np.ndarray | None,
) -> np.ndarray:
    """(n,) float64: what dials.scale divides intensities by.

    Args:
        model: `id`; `configuration`; `span`, z of the first and last reflection; and
            `terms`, name of each correction -> its parameters.
        terms: Corrections to use.
        z: (n,) position along the scan, images.
        x, y: (n,) pixels along fast and slow.
        s: (n,) 1/A.
        harmonics: (n, lmax (lmax + 2)) of `diffuse_core.harmonics.path_harmonics`, for
            a model with an absorption surface.
    """
    result = np.ones(len(z))
    for name, values in model["terms"].items():
        if name in terms:
            result *= _term(model, name, np.array(values), z, x, y, s, harmonics)
    return result


def order_of_surface(model: dict[str, Any]) -> int:
    """lmax of the absorption surface, 0 without one."""
    if model["id"] == "array" or "absorption" not in model["terms"]:
        return 0
    return int(model["configuration"]["lmax"])


def _term(model, name, values, z, x, y, s, harmonics) -> np.ndarray:
    kind, settings = model["id"], model["configuration"]
    if kind == "array":
        return _array(model, name, values, z, x, y, s)
    if name == "absorption":
        return 1.0 + harmonics @ values
    if name == "scale":
        if kind == "KB":
            return np.full(len(z), values[0])
        return _along_scan(model, settings["s_norm_fac"], values, z)
    if kind == "physical":
        return np.exp(_along_scan(model, settings["d_norm_fac"], values, z) * s**2 / 2)
    if kind == "dose_decay" and name == "decay":
        power = 1 if settings["resolution_dependence"] == "linear" else 2
        return np.exp(values[0] * z * s**power)
    return np.exp(values[0] * s**2 / 2)


def _array(model, name, values, z, x, y, s) -> np.ndarray:
    """Bins begin at the lowest value of the reflections less a margin, 1e-6 for s^2 and
    0.001 for x and y, and coordinates at that value."""
    settings, n = model["configuration"], model["configuration"].get
    columns, sizes = [], []
    if name == "decay":
        columns.append((s**2 - settings["resmin"] - 1e-6) / settings["res_bin_width"])
        sizes.append(n("n_res_param"))
    else:
        bin_width, count = {
            "absorption": ("{}_bin_width", "n_{}_param"),
            "modulation": ("{}_det_bin_width", "n_{}_mod_param"),
        }[name]
        for axis, pixels in (("x", x), ("y", y)):
            start = settings[f"{axis}min"] + 0.001
            columns.append((pixels - start) / settings[bin_width.format(axis)])
            sizes.append(n(count.format(axis)))
    ends = [_intervals(size) for size in sizes]
    if name != "modulation":
        columns.append((z - model["span"][0]) * settings["time_norm_fac"])
        sizes.append(n("n_time_param"))
        ends.append(_end(model, settings["time_norm_fac"]))
    axes = [
        Axis(0.0, end, _intervals(size)) for end, size in zip(ends, sizes, strict=True)
    ]
    table = values.reshape(sizes[::-1]).transpose()
    return smoother(axes, columns) @ table.ravel()


def _along_scan(model, factor, values, z) -> np.ndarray:
    axis = Axis(0.0, _end(model, factor), _intervals(len(values)))
    return smoother([axis], [(z - model["span"][0]) * factor]) @ values


def _end(model, factor) -> float:
    """Where DIALS puts the end of the parameters: at a whole number."""
    first, last = model["span"]
    return float(max(math.ceil(round((last - first) * factor, 10)), 1))


def _intervals(n_parameters: int) -> int:
    return n_parameters - (1 if n_parameters < 4 else 2)
