"""The rate of Poisson counts in groups of pixels, some of which hold something else.

A median of counts is biased where they are few (the median of a Poisson distribution of
mean 0.5 is 0), and so is any clipping that forgets what it clips. Here pixels are left
out where their count has a small Poisson probability, and the rate is that whose
*truncated* distribution gives the counts that are left:

    sum over kept pixels n = sum over kept pixels E[n | lo <= n <= hi; R e]
    E[n | lo <= n <= hi; m] = m (F(hi - 1) - F(lo - 2)) / (F(hi) - F(lo - 1))

with F the cumulative Poisson distribution of mean m.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.stats import poisson

_LOWEST, _STEP, _LEVELS = 1e-5, 1.01, 3000
"""Means for which limits are tabulated: 1e-5 to 1e8, 1 % apart."""


def clipped_rates(
    counts: np.ndarray,
    exposure: np.ndarray,
    group: np.ndarray,
    n_groups: int,
    tail: float = 1e-4,
    spread: float = 0.0,
    iterations: int = 30,
) -> tuple[np.ndarray, np.ndarray]:
    """Rate R of each group, E[counts] = R exposure, and the variance of R.

    Starts from the ratio of sums, leaves out what is too bright, and then, with the
    rate that is left, what is too bright or too dark.

    Args:
        counts: (n,) float, photons.
        exposure: (n,) float, > 0.
        group: (n,) int: group of each pixel, 0 ... n_groups - 1.
        n_groups: Number of groups.
        tail: Probability on each side below which a count is left out.
        spread: Pixels of a group may differ by this fraction from the group's rate.
        iterations: At most, on each side.

    Returns:
        rate, variance: (n_groups,) float64; NaN where a group has no pixel left. The
        variance where no photon was counted is that of one photon.
    """
    keep = np.ones(len(counts), bool)
    weight = np.asarray(exposure, float)
    sums = _sums(counts, weight, group, n_groups)
    low, high, factor = _table(tail, spread)
    for two_sided in (False, True):
        for _ in range(iterations):
            rate = _ratio(*sums)
            level = _level(np.nan_to_num(rate)[group] * exposure)
            keep = counts <= high[level]
            if two_sided:
                keep &= counts >= low[level]
            weight = exposure * factor[int(two_sided)][level]
            before = sums
            sums = _sums(counts[keep], weight[keep], group[keep], n_groups)
            change = np.abs(_ratio(*sums) - _ratio(*before))
            if not (change > 1e-6 * _ratio(*before)).any():
                break
    rate = _ratio(*sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(
            sums[1] > 0, np.maximum(sums[0], 1.0) / sums[1] ** 2, np.nan
        )
    return rate, np.where(sums[1] > 0, variance, np.nan)


def _sums(counts, weight, group, n_groups) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.bincount(group, counts, minlength=n_groups),
        np.bincount(group, weight, minlength=n_groups),
    )


def _ratio(counts: np.ndarray, weight: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(weight > 0, counts / weight, np.nan)


def _level(mean: np.ndarray) -> np.ndarray:
    level = np.log(np.maximum(mean, _LOWEST) / _LOWEST) / np.log(_STEP)
    return np.minimum(np.rint(level), _LEVELS - 1).astype(np.int64)


@lru_cache(maxsize=8)
def _table(tail: float, spread: float):
    """Lowest and highest count to keep per level, and the truncated over the full mean:
    clipped above, clipped on both sides."""
    mean = _LOWEST * _STEP ** np.arange(_LEVELS)
    high = np.maximum(poisson.isf(tail, mean * (1 + spread)), 1.0)
    low = poisson.ppf(tail, mean / (1 + spread))
    above = poisson.cdf(high - 1, mean) / poisson.cdf(high, mean)
    inside = poisson.cdf(high, mean) - poisson.cdf(low - 1, mean)
    both = (poisson.cdf(high - 1, mean) - poisson.cdf(low - 2, mean)) / inside
    return low, high, (above, both)
