"""Observations that the others of their voxel don't let expect, in both directions.

The counts of an observation are compared with what all *other* observations of its
voxel predict. What they leave uncertain widens the prediction from a Poisson
distribution to a negative binomial one; without background this is the exact test that
the counts of two Poisson processes have the same rate, given their sum (J. Przyborowski
& H. Wilenski, Biometrika 31, 313 (1940)). In a voxel only the most improbable
observation goes, then the rest is tested again: a wild one would make the good ones
look wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, gammainc, gammaincc

from diffuse_core.rows import Rows
from diffuse_core.scale_model import Curve, Scales

PROBABILITY = 8e-4
"""Of a good observation to be left out, both directions together: 3.35 sigma."""

FEWEST = 3
"""Observations that a voxel must have for one of them to be told to be wrong."""

_POISSON = 1e7
_FAR = 2.0
_ROUNDS = 10


@dataclass(frozen=True, eq=False)
class Found:
    """The outliers.

    Attributes:
        keep: (n,) bool: rows that are none.
        high, low: How many count more, or fewer, than expected.
        tested: Rows in voxels with enough observations.
        tolerance: Relative difference of mates beyond chance that was allowed for.
        upward: (n,) bool: the outliers that count more than expected.
    """

    keep: np.ndarray
    high: int
    low: int
    tested: int
    tolerance: float
    upward: np.ndarray | None = None

    def figures(self) -> dict[str, float]:
        """For the log and JSON."""
        return {
            "tested": self.tested,
            "high": self.high,
            "low": self.low,
            "tolerance": self.tolerance,
        }


def find_outliers(
    rows: Rows,
    scales: Scales,
    expected: Curve,
    probability: float = PROBABILITY,
    tolerance: float | None = None,
) -> Found:
    """The rows whose counts are too improbable.

    Args:
        rows: Observations of whole voxels.
        scales: Their B, G and C.
        expected: I0(s), from which weights are predicted.
        probability: Two-sided probability below which an observation goes.
        tolerance: Relative difference between mates that is not chance (an intensity
            that varies within the voxel, scales that are not perfect); None: estimated.
    """
    n = len(rows)
    keep = np.ones(n, bool)
    length = np.diff(rows.starts)
    enough = np.repeat(length >= FEWEST, length)
    if not n or not enough.any():
        return Found(keep, 0, 0, 0, tolerance or 0.0, ~keep)
    test = _Test(rows, scales, expected)
    if tolerance is None:
        tolerance = test.tolerance(enough)
    high = np.zeros(n, bool)
    active = enough.copy()
    voxel = rows.voxel
    for _ in range(_ROUNDS):
        asked = active & keep
        chance, distance, above = test.probabilities(keep, asked, tolerance)
        worst = np.flatnonzero(asked & (chance < 0.5 * probability))
        if not len(worst):
            break
        order = np.lexsort([-distance[worst], chance[worst], voxel[worst]])
        worst = worst[order]
        touched_voxels, index = np.unique(voxel[worst], return_index=True)
        first = worst[index]
        keep[first] = False
        high[first] = above[first]
        left = np.add.reduceat(keep.astype(int), rows.starts[:-1])
        touched = np.zeros(len(length), bool)
        touched[touched_voxels] = True
        active = np.repeat(touched & (left >= FEWEST), length)
    return Found(
        keep,
        int(high.sum()),
        int((~keep & ~high).sum()),
        int(enough.sum()),
        float(tolerance),
        high,
    )


class _Test:
    """Prediction of every row from the other rows of its voxel."""

    def __init__(self, rows: Rows, scales: Scales, expected: Curve) -> None:
        self.rows = rows
        e = rows.exposure * scales.path
        self.a = e * scales.crystal
        self.constant = e * scales.offset + rows.background
        self.y = rows.counts - e * scales.offset - rows.background
        first = rows.starts[:-1]
        i0 = np.repeat(expected(rows.s[first]), np.diff(rows.starts))
        signal = self.a * i0
        self.variance = self.constant + rows.background_variance
        self.w = 1.0 / np.maximum(signal + self.variance, 0.1 * signal)

    def others(self, values: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """(n,) sums of values (n,) over the other kept rows of each row's voxel."""
        values = np.where(keep, values, 0.0)
        total = np.add.reduceat(values, self.rows.starts[:-1])
        return np.repeat(total, np.diff(self.rows.starts)) - values

    def prediction(self, keep: np.ndarray):
        """Intensity from the others, and u, z: its variance is intensity u + z."""
        w, a = self.w, self.a
        s = np.maximum(self.others(w * a**2, keep), 1e-150)
        intensity = np.maximum(self.others(w * a * self.y, keep) / s, 0.0)
        u = np.maximum(self.others(w**2 * a**3, keep), 0.0) / s**2
        z = self.others(w**2 * a**2 * np.maximum(self.variance, 0.0), keep) / s**2
        return intensity, u, z

    def tolerance(self, enough: np.ndarray) -> float:
        """The relative spread of mates beyond chance, where counting is best.

        Where that is, is told by all rows of a voxel together, which does not prefer
        those that are low beside the others.
        """
        intensity, u, z = self.prediction(np.ones(len(self.a), bool))
        own = self.w * self.a**2
        rest = np.maximum(self.others(own, enough), 1e-150)
        together = (rest * intensity + self.w * self.a * self.y) / (rest + own)
        mean = self.a * intensity
        use = enough & (self.a * together > 20) & (mean > 1)
        if use.sum() < 100:
            return 0.0
        background = np.maximum(self.variance, 0.0)
        relative, expected = (
            ((m + background + self.a * m * u + self.a**2 * z)[use] / m[use] ** 2)
            for m in (mean, self.a * together)
        )
        best = expected <= np.quantile(expected, 0.2)
        deviation = np.abs(self.y[use] / mean[use] - 1)[best] / np.sqrt(relative[best])
        excess = (np.median(deviation) / 0.6745) ** 2 - 1.0
        noise = 3.0 / np.sqrt(best.sum())
        return float(np.sqrt(max(excess - noise, 0.0) * np.median(relative[best])))

    def probabilities(self, keep, use, tolerance):
        """How improbable counts are, how many sigmas off, on which side: (n,) each.

        The probability of counts as far or farther on their side is 1 where `use` (n,)
        is False, or where counts are near what is expected; it may underflow to 0.
        """
        n = self.rows.counts
        intensity, u, z = self.prediction(keep)
        chance = np.ones(len(n))
        mean = np.maximum(self.a * intensity + self.constant, 0.0)
        above = n > mean
        extra = (tolerance * self.a * intensity) ** 2 + self.rows.background_variance
        sigma = np.sqrt(mean + self.a**2 * (intensity * u + z) + extra)
        distance = np.abs(n - mean) / np.maximum(sigma, 1e-30)
        far = use & (distance > _FAR)
        for side, one_more in ((above, 1.0), (~above, 0.0)):
            here = np.flatnonzero(far & side)
            more = intensity[here] + one_more * u[here]
            a = self.a[here]
            m = np.maximum(a * more + self.constant[here], 1e-9)
            v = np.maximum(a**2 * (more * u[here] + z[here]) + extra[here], 1e-30)
            tail = _above if one_more else _below
            chance[here] = tail(n[here], m, v)
        return chance, distance, above


def _above(n, mean, variance):
    """P(N >= n) for a Poisson variable whose mean has this mean and variance."""
    shape = mean**2 / variance
    odds = variance / mean
    wide = betainc(np.maximum(n, 1e-9), shape, odds / (1.0 + odds))
    return np.where(shape < _POISSON, wide, gammainc(np.maximum(n, 1e-9), mean))


def _below(n, mean, variance):
    """P(N <= n) for a Poisson variable whose mean has this mean and variance."""
    n = np.maximum(n, 0.0)
    shape = mean**2 / variance
    odds = variance / mean
    wide = betainc(shape, n + 1.0, 1.0 / (1.0 + odds))
    return np.where(shape < _POISSON, wide, gammaincc(n + 1.0, mean))
