"""Tests that every pixel takes, and that none fails which the exact test would find.

For a count n and a mean l, d = n - l, the relative entropy is bounded by

    n ln(n / l) - d <= d^2 (3 l + d) / (2 l (3 l + 2 d)),

from the Pade approximant x (6 + x) / (6 + 4 x) >= ln(1 + x), x = d / l, whose first
missing term is + x^4 / 36. So it needs neither logarithm nor branch, and no division if
both sides are multiplied by the pixels of the mean.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from diffuse_core.poisson import disagreement, entropy
from diffuse_core.surroundings import FEWEST
from diffuse_core.vector_loops import FOUR, SIX, ZERO, five

SIGMAS = 9.0
"""Squared sigmas from the mean around it that a single pixel is away at least."""

SHARE = 1.5
"""Of the limit: squared sigmas from the mean around it that a spot is away at least."""

ONE_PIXEL = (70 / 256) ** 2
"""Sum of the squares of the weights of a spot, that add up to 1; the weighted mean is
that of 1 / `ONE_PIXEL` = 13.4 pixels."""

PIXEL, PLACE = np.uint8(1), np.uint8(2)
"""Flags of what may stand out."""

_TWO, _THREE = np.float32(2.0), np.float32(3.0)
_FEW = np.float32(FEWEST - 0.5)
_HALF = np.float32(127.5)
_SCALE = np.float32(2.0 * 256.0 * ONE_PIXEL)
_SLACK = 1e-4
"""Relative, for what single precision rounds."""

_RARE = np.array(
    [(1.0 - math.log(at), 1.0 / at) for at in (0.4, 0.1, 0.02)], np.float32
) * np.float32(0.9999)
"""Height at 0 and slope of lines below -ln l."""


@njit(cache=True)
def least(limit, level):
    """Smallest G of a spot: below one count a pixel, chance may bring fewer spots, so
    that the photons they take stay the same share of all."""
    return limit - math.log(min(max(level, 1e-6), 1.0))


@njit(cache=True, error_model="numpy")
def flag_pixels(counts, asked, fours, column, number, limit, flags):
    """Writes `PIXEL` where `pixel_stands_out` may say so, else 0.

    Args:
        counts: (n,) float32: photons.
        asked: (n,) uint8: 1 for pixels that are asked.
        fours, column, number: Of large squares, see `squares.Squares`.
        limit: -ln of the probability of a false alarm.
        flags: (n,) uint8.
    """
    n = counts.size
    limit = np.float32(limit * (1.0 - _SLACK))
    sigmas = np.float32(SIGMAS * (1.0 - _SLACK))
    p, q, r, s = fours[:n], fours[4 : n + 4], fours[8 : n + 8], column[12 : n + 12]
    for i in range(n):
        k, mean = np.float32(number[i]), (p[i] + q[i]) + (r[i] + s[i])
        d = k * counts[i] - mean
        square = d * d
        high = square * (_THREE * mean + d)
        high -= limit * k * mean * (_THREE * mean + _TWO * d)
        good = min(high, square - sigmas * k * mean, k - _FEW)
        flags[i] = np.uint8(good > ZERO) & asked[i]


@njit(cache=True)
def pixel_stands_out(n, mean, limit):
    """True if a count is neither near the mean around it nor likely."""
    if (n - mean) ** 2 < SIGMAS * mean:
        return False
    return 2.0 * entropy(n, max(mean, 1e-6)) >= limit


@njit(cache=True, error_model="numpy")
def flag_places(asked, sums, limit, flags):
    """Adds `PLACE` where `place_stands_out` may say so.

    Args:
        asked: (n,) uint8: 1 for places that are asked.
        sums: `squares.Squares`.
        limit: -ln of the probability of a false alarm.
        flags: (n,) uint8.
    """
    n = asked.size
    limit = np.float32(limit * (1.0 - _SLACK))
    weight, in_ring, fours = sums.in_spot[:n], sums.in_ring[:n], sums.fours
    p, q, r = fours[:n], fours[4 : n + 4], fours[8 : n + 8]
    s = sums.large[12 : n + 12]
    a, b, c, d, e = five(sums.small, 1, n)
    f, g, h, j, m = five(sums.spot, 1, n)
    for i in range(n):
        w, k = np.float32(weight[i]), np.float32(in_ring[i])
        ring = (p[i] + q[i]) + (r[i] + s[i])
        ring = max(ring - ((a[i] + e[i]) + (b[i] + d[i]) + c[i]), ZERO)
        total = (f[i] + m[i]) + FOUR * (g[i] + j[i]) + SIX * h[i]
        mean = w * ring
        away = k * total - mean
        rare = max(_RARE[0, 0] * k - _RARE[0, 1] * ring, ZERO)
        rare = max(_RARE[1, 0] * k - _RARE[1, 1] * ring, rare)
        rare = max(_RARE[2, 0] * k - _RARE[2, 1] * ring, rare)
        needed = _SCALE * (limit * k + rare) * mean * (_THREE * mean + _TWO * away)
        high = away * away * (_THREE * mean + away) - needed
        good = min(high, w - _HALF, k - _FEW)
        flags[i] |= (np.uint8(good > ZERO) & asked[i]) << 1


@njit(cache=True)
def place_stands_out(n, m, mean, here, k, limit):
    """True if the mean `n` of `m` pixels is neither near the mean of the square around
    nor what the ring of `k` pixels with the mean `here` lets expect."""
    if (n - mean) ** 2 * m < SHARE * limit * mean:
        return False
    return abs(disagreement(n, m, here, k)) > least(limit, here) * (1.0 - _SLACK)
