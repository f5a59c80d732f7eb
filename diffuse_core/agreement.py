"""Agreement of two halves of the data, with 68 % confidence bounds.

The bounds say how far the figure of other voxels, drawn from the same distribution,
would lie (one standard error either side): each follows from the figure's influence
function, the change that one voxel makes, so no distribution is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FEWEST = 10
"""Voxels below which there is no figure: bounds need some dozens to be right."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 68 % bounds; NaN where it has no meaning."""

    value: float
    low: float
    high: float


NOTHING = Estimate(np.nan, np.nan, np.nan)


def correlation(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Pearson's coefficient of a (n,) and b (n,).

    The bounds are symmetric in Fisher's z = atanh(r). The standard error of z is
    sqrt(mean(u^2)/(n - 3))/(1 - r^2) with u = xy - r (x^2 + y^2)/2 of the standardised
    values: 1/sqrt(n - 3) for normal values (R. A. Fisher, Metron 1, 3 (1921)), larger
    where a few voxels carry much of the variance (J. H. Steiger & A. R. Hakstian, Br.
    J. Math. Stat. Psychol. 35, 208 (1982)).
    """
    n = len(a)
    if n < FEWEST:
        return NOTHING
    x, y = a - a.mean(), b - b.mean()
    norms = np.sqrt(np.dot(x, x)), np.sqrt(np.dot(y, y))
    if not min(norms) > 0:
        return NOTHING
    x, y = (v * (np.sqrt(n) / norm) for v, norm in zip((x, y), norms, strict=True))
    r = float(np.dot(x, y) / n)
    rest = 1.0 - r * r
    if rest < 1e-12:
        return Estimate(r, r, r)
    u = x * y - 0.5 * r * (x * x + y * y)
    error = np.sqrt(np.dot(u, u) / n / (n - 3)) / rest
    z = np.arctanh(r)
    return Estimate(r, float(np.tanh(z - error)), float(np.tanh(z + error)))


def cc_star(cc_half: Estimate) -> Estimate:
    """CC* = sqrt(2 CC1/2 / (1 + CC1/2)): the correlation of the data with the truth.

    P. A. Karplus & K. Diederichs, Science 336, 1030 (2012). NaN where CC1/2 is not
    positive; a bound that isn't positive is 0.
    """
    if not cc_half.value > 0:
        return NOTHING
    return Estimate(
        *(
            float(np.sqrt(2.0 * max(cc, 0.0) / (1.0 + max(cc, 0.0))))
            for cc in (cc_half.value, cc_half.low, cc_half.high)
        )
    )


def r_split(a: np.ndarray, b: np.ndarray) -> Estimate:
    """R-split = sqrt(2) sum|a - b| / sum(a + b) of two halves a (n,), b (n,).

    T. A. White et al., J. Appl. Cryst. 45, 335 (2012).
    """
    return ratio_of_means(np.sqrt(2.0) * np.abs(a - b), a + b)


def mean(values: np.ndarray) -> Estimate:
    """The mean of values (n,) and its standard error."""
    return ratio_of_means(values, np.ones(len(values)))


def ratio_of_means(above: np.ndarray, below: np.ndarray) -> Estimate:
    """sum(above) / sum(below) of (n,) values of one voxel each (delta method)."""
    n = len(above)
    if n < FEWEST or not below.sum() > 0:
        return NOTHING
    value = above.sum() / below.sum()
    rest = above - value * below
    error = np.sqrt(np.dot(rest, rest) * n / (n - 1)) / below.sum()
    return Estimate(float(value), float(value - error), float(value + error))
