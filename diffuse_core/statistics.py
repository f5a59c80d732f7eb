"""Figures of agreement: shells, spherical average, correlation, straight line.

NumPy only, and only arrays: the summary of merging and the comparison of maps share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_NODES = 200
FEWEST_IN_INTERVAL = 40


def shell_edges(s_min: float, s_max: float, n: int) -> np.ndarray:
    """(n + 1,) edges in 1/A of n shells of equal volume in reciprocal space."""
    return np.cbrt(np.linspace(s_min**3, s_max**3, n + 1))


def shell_numbers(s: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(n,) int: shell of each s (n,) in 1/A; -1 outside, the last edge belongs in."""
    shell = np.searchsorted(edges, s, side="right") - 1
    shell[s == edges[-1]] = len(edges) - 2
    shell[(s < edges[0]) | (s > edges[-1])] = -1
    return shell


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's coefficient of a (n,) and b (n,); NaN if it has no meaning.

    It has none for fewer than three values, or where one of the two is constant.
    """
    if len(a) < 3:
        return float("nan")
    a = a - a.mean()
    b = b - b.mean()
    norm = np.sqrt(np.dot(a, a) * np.dot(b, b))
    return float(np.dot(a, b) / norm) if norm > 0 else float("nan")


def reliability(variance: float, noise: float) -> float:
    """The part of an observed variance that is not noise, between 0 and 1.

    The correlation that two maps with the same true values and independent noise are
    expected to have is sqrt(reliability_a * reliability_b) (C. Spearman, Am. J.
    Psychol. 15, 72 (1904)). A map without noise has reliability 1, so against the
    truth it is sqrt(var_true / (var_true + noise)).

    Args:
        variance: Variance of the noisy values.
        noise: Mean of their squared sigmas.
    """
    if not variance > 0:
        return float("nan")
    return float(np.clip(1.0 - noise / variance, 0.0, 1.0))


@dataclass(frozen=True, eq=False)
class SphericalAverage:
    """A continuous function of s, straight between nodes, constant outside.

    nodes: (m,) 1/A, ascending. values: (m,), in the unit of the intensity.
    """

    nodes: np.ndarray
    values: np.ndarray

    def __call__(self, s: np.ndarray) -> np.ndarray:
        """Values at s (...) in 1/A."""
        return np.interp(s, self.nodes, self.values)


def spherical_average(s: np.ndarray, values: np.ndarray) -> SphericalAverage:
    """The mean of values (n,) over spheres, as a function of s (n,) in 1/A.

    It is the function, straight between nodes, that fits the values best (least
    squares, every voxel counts the same), so it is exact wherever the values are a
    straight line in s, and follows a curve to h^2/12 times its second derivative. The
    nodes divide the range of s evenly in 200 intervals of width h; neighbours are
    joined until each holds 40 values, so what is subtracted from few voxels is smooth.

    Raises:
        ValueError: There are no values.
    """
    if not len(s):
        raise ValueError("a spherical average needs at least one value")
    order = np.argsort(s)
    s, values = s[order], values[order]
    grid = np.linspace(s[0], s[-1], MOST_NODES + 1)
    below = np.searchsorted(s, grid)
    below[-1] = len(s)
    keep = [0]
    for i in range(1, MOST_NODES):
        enough = below[i] - below[keep[-1]] >= FEWEST_IN_INTERVAL
        if enough and len(s) - below[i] >= FEWEST_IN_INTERVAL:
            keep.append(i)
    nodes = grid[[*keep, MOST_NODES]]
    if nodes[-1] == nodes[0]:
        return SphericalAverage(nodes[:1], np.array([values.mean()]))
    cell = np.clip(np.searchsorted(nodes, s, side="right") - 1, 0, len(nodes) - 2)
    right = (s - nodes[cell]) / (nodes[cell + 1] - nodes[cell])
    weights = (1.0 - right, right)
    m = len(nodes)
    normal = np.zeros((m, m))
    target = np.zeros(m)
    for i, w in enumerate(weights):
        target += np.bincount(cell + i, w * values, m)
        for j, v in enumerate(weights):
            products = np.bincount(cell, w * v, m - 1)
            normal[np.arange(m - 1) + i, np.arange(m - 1) + j] += products
    solution = np.linalg.lstsq(normal, target, rcond=1e-10)[0]
    return SphericalAverage(nodes, solution)


@dataclass(frozen=True)
class Line:
    """y = scale * x + offset, with standard errors (NaN where nothing was fitted)."""

    scale: float
    offset: float
    scale_error: float
    offset_error: float


def fit_line(
    x: np.ndarray,
    y: np.ndarray,
    variance_x: np.ndarray,
    variance_y: np.ndarray,
    with_offset: bool = True,
) -> Line:
    """The most likely straight line through points with errors in both coordinates.

    Minimises sum (y - scale x - offset)^2 / (variance_y + scale^2 variance_x) by the
    iteration of D. York et al., Am. J. Phys. 72, 367 (2004), for uncorrelated errors:
    not biased towards a scale of 0 by the noise of x, and plain weighted least squares
    where variance_x is 0. The standard errors follow from the variances alone.

    Args:
        x, y: (n,) float64.
        variance_x, variance_y: (n,) float64, >= 0, not both 0 for one point.
        with_offset: False keeps the offset at 0.
    """
    if len(x) < 3 or not np.ptp(x) > 0:
        return Line(*[float("nan")] * 4)
    slope = np.dot(x, y) / np.dot(x, x)
    if with_offset:
        slope = np.dot(x - x.mean(), y) / np.dot(x - x.mean(), x)
    if slope == 0:
        slope = 1e-12
    for _ in range(100):
        w = 1.0 / (variance_y + slope**2 * variance_x)
        total = w.sum()
        x0, y0 = (np.dot(w, x) / total, np.dot(w, y) / total) if with_offset else (0, 0)
        u, v = x - x0, y - y0
        beta = w * (u * variance_y + slope * v * variance_x)
        previous, slope = slope, np.dot(w * beta, v) / np.dot(w * beta, u)
        if abs(slope - previous) <= 1e-12 * abs(slope):
            break
    if not with_offset:
        error = 1.0 / np.sqrt(np.dot(w, beta**2))
        return Line(float(slope), 0.0, float(error), float("nan"))
    adjusted = x0 + beta
    mean = np.dot(w, adjusted) / total
    error = 1.0 / np.sqrt(np.dot(w, (adjusted - mean) ** 2))
    return Line(
        float(slope),
        float(y0 - slope * x0),
        float(error),
        float(np.sqrt(1.0 / total + (mean * error) ** 2)),
    )
