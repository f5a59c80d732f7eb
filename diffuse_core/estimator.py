"""Sums over the observations of each voxel, and what follows from them.

An observation of n counts has the intensity y = (n - b - e G C) / x with x = e G B. Its
variance is predicted, never taken from its own count: v = I a + c with a = 1/x and
c = (e G C + b + var b) / x^2. Any weights w that do not depend on counts give an
unbiased mean; w = 1/v(I0), with a smooth I0(s), gives nearly the best one (docs on
merging). Without a scaling model w = e: the ratio of sums.

    I = sum w y / sum w
    var I = (I sum w^2 a + sum w^2 c) / (sum w)^2
    <sum w (y - I)^2> = I (sum w a - sum w^2 a / sum w) + sum w c - sum w^2 c / sum w

Every term is a sum over observations, so sums of disjoint data add up to those of all.
"""

from __future__ import annotations

import numpy as np
from numba import njit

RAW = (
    "counts",
    "exposure",
    "background",
    "background_variance",
    "pixels",
    "observations",
)
WEIGHTED = (
    "weight",
    "weighted",
    "weighted_square",
    "variance_signal",
    "variance_rest",
    "scatter_signal",
    "scatter_rest",
    "weight_square",
)
HALF = ("weight", "weighted", "observations")


def half_columns(kind: str) -> tuple[str, ...]:
    """Names of the sums over the second half of the data, in the order of `HALF`."""
    return tuple(f"half_{kind}_{name}" for name in HALF)


def ratio_of_sums(
    counts: np.ndarray,
    exposure: np.ndarray,
    background: np.ndarray,
    background_variance: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Intensity and sigma of sums over observations.

    Where no photon at all was counted the variance is that of one photon: a sigma of
    0 would claim that nothing is known to be exactly nothing.

    Args:
        counts, exposure, background, background_variance: (n,) float64.
    """
    intensity = (counts - background) / exposure
    variance = np.maximum(counts, 1.0) + background_variance
    return intensity, np.sqrt(variance) / exposure


def weighted_mean(sums: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Intensity and sigma from the weighted sums.

    The variance is never below that of one photon, whose intensity is
    sum w^2 a / (sum w)^2: the inverse of the exposure that the weights make use of.

    Args:
        sums: name -> (n,) float64 for the names of `WEIGHTED`.
    """
    weight, signal = sums["weight"], sums["variance_signal"]
    intensity = sums["weighted"] / weight
    one_photon = signal / weight**2
    variance = np.maximum(intensity, one_photon) * signal + sums["variance_rest"]
    return intensity, np.sqrt(variance) / weight


def scatter(sums: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """sum w (y - I)^2 of each voxel, and what its predicted variances let expect.

    The reduced chi-squared of many voxels is the ratio of their totals; a voxel with
    one observation has 0 and 0 (to rounding).

    Args:
        sums: name -> (n,) float64 for the names of `WEIGHTED`.
    """
    weight = sums["weight"]
    intensity = sums["weighted"] / weight
    found = sums["weighted_square"] - sums["weighted"] * intensity
    expected = (
        intensity * (sums["scatter_signal"] - sums["variance_signal"] / weight)
        + sums["scatter_rest"]
        - sums["variance_rest"] / weight
    )
    return found, expected


def voxel_sums(
    starts: np.ndarray,
    raw: tuple[np.ndarray, ...],
    scales: tuple[np.ndarray, ...] | None = None,
    halves: dict[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Sums over the observations of each voxel, added in the order of the rows.

    Args:
        starts: (m + 1,) int64: rows starts[i]:starts[i + 1] are voxel i.
        raw: counts, exposure, background, background variance, pixels, (n,) each.
        scales: B, G, C and the I0 that predicts variances, (n,) each; None for the
            ratio of sums.
        halves: Kind -> (n,) int8, 1 for rows of the second half.

    Returns:
        name -> (m,) float64 for `RAW`, `WEIGHTED` and `half_columns` of each kind.
    """
    halves = halves or {}
    n = len(raw[0])
    if scales is None:
        crystal = path = np.broadcast_to(1.0, n)
        offset = expected = np.broadcast_to(0.0, n)
    else:
        crystal, path, offset, expected = scales
    marks = np.zeros((len(halves), n), np.int8)
    for i, values in enumerate(halves.values()):
        marks[i] = values
    floats = [*raw, crystal, path, offset, expected]
    table = _voxel_sums(
        starts,
        *(np.ascontiguousarray(values, np.float64) for values in floats),
        scales is None,
        marks,
    )
    names = [*RAW, *WEIGHTED, *(c for kind in halves for c in half_columns(kind))]
    return dict(zip(names, table.T, strict=True))


@njit(cache=True, nogil=True)
def _voxel_sums(  # pragma: no cover
    starts,
    counts,
    exposure,
    background,
    background_variance,
    pixels,
    crystal,
    path,
    offset,
    expected,
    ratio,
    marks,
):
    n_voxels = len(starts) - 1
    n_kinds = len(marks)
    table = np.zeros((n_voxels, 14 + 3 * n_kinds))
    for v in range(n_voxels):
        out = table[v]
        for row in range(starts[v], starts[v + 1]):
            e, b, vb = exposure[row], background[row], background_variance[row]
            out[0] += counts[row]
            out[1] += e
            out[2] += b
            out[3] += vb
            out[4] += pixels[row]
            out[5] += 1.0
            x = e * path[row] * crystal[row]
            if not x > 0.0:
                continue
            constant = e * path[row] * offset[row]
            rest = (constant + max(b, 0.0) + vb) / (x * x)
            if ratio:
                w = x
            else:
                w = 1.0 / (expected[row] / x + rest)
            y = (counts[row] - b - constant) / x
            out[6] += w
            out[7] += w * y
            out[8] += w * y * y
            out[9] += w * w / x
            out[10] += w * w * rest
            out[11] += w / x
            out[12] += w * rest
            out[13] += w * w
            for kind in range(n_kinds):
                if marks[kind, row]:
                    out[14 + 3 * kind] += w
                    out[15 + 3 * kind] += w * y
                    out[16 + 3 * kind] += 1.0
    return table
