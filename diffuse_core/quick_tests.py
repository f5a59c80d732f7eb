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

from diffuse_core.poisson import disagreement, entropy, most_disagreement
from diffuse_core.surroundings import FEWEST
from diffuse_core.vector_loops import FOUR, SIX, ZERO

SIGMAS = 9.0
"""Squared sigmas from the mean around it that a single pixel is away at least."""

SHARE = 1.5
"""Of the limit: squared sigmas from the mean around it that a spot is away at least."""

ONE_PIXEL = (70 / 256) ** 2
"""Sum of the squares of the weights of a spot, that add up to 1; the weighted mean is
that of 1 / `ONE_PIXEL` = 13.4 pixels."""

PIXEL, PLACE = np.uint8(1), np.uint8(2)
"""Flags of what may stand out."""

_THREE = np.float32(3.0)
_FEW = np.uint8(FEWEST)
_HALF = np.uint16(128)
"""Of the weights of a spot, 256 together: less of it is no place."""

_SCALE = 2.0 * 256.0 * ONE_PIXEL
_SLACK = 1e-4
"""Relative, for what single precision rounds."""

_LINES = tuple((1.0 - math.log(at), 1.0 / at) for at in (0.4, 0.1, 0.02))
"""Height at 0 and slope of three lines below -ln l."""


@njit(cache=True)
def least(limit, level):
    """Smallest G of a spot: below one count a pixel, chance may bring fewer spots, so
    that the photons they take stay the same share of all."""
    return limit - math.log(min(max(level, 1e-6), 1.0))


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def flag_pixels(photons, pixels, at, fours, column, number, flags, n, limit):
    """Writes `PIXEL` where `pixel_stands_out` may say so, else 0.

    Args:
        photons, pixels: (size,) float32, uint8: photons, and 1 for pixels that are
            asked, from `at` on.
        fours, column, number: Of large squares, see `squares.Squares`.
        flags: (n,) or more, uint8.
        n: Pixels to look at.
        limit: -ln of the probability of a false alarm.
    """
    at, four, eight = np.uintp(at), np.uintp(4), np.uintp(8)
    twelve = np.uintp(12)
    limit = np.float32(limit * (1.0 - _SLACK))
    for i in range(np.uintp(n)):
        k = np.float32(number[i])
        mean = (fours[i] + fours[i + four]) + (fours[i + eight] + column[i + twelve])
        d = k * photons[at + i] - mean
        far = _THREE * mean + d
        high = d * d * far - limit * (k * mean) * (far + d)
        flags[i] = high > ZERO
    for i in range(np.uintp(n)):
        flags[i] &= np.uint8(number[i] >= _FEW) & pixels[at + i]


@njit(cache=True)
def pixel_stands_out(n, mean, limit):
    """True if a count is neither near the mean around it nor likely."""
    if (n - mean) ** 2 < SIGMAS * mean:
        return False
    return 2.0 * entropy(n, max(mean, 1e-6)) >= limit


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def high_places(fours, column, small, spot, weight, in_ring, high, n, limit):
    """Writes 1 where `place_stands_out` may say so, if there are enough pixels.

    Args:
        fours, column: Of large squares, see `squares.Squares`.
        small, spot, weight, in_ring: Of small squares, see there.
        high: (n,) or more, uint8.
        n: Places to look at.
        limit: -ln of the probability of a false alarm.
    """
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    four, eight, twelve = np.uintp(4), np.uintp(8), np.uintp(12)
    limit = np.float32(_SCALE * limit * (1.0 - _SLACK))
    for i in range(np.uintp(n)):
        w, k = np.float32(weight[i]), np.float32(in_ring[i])
        ring = (fours[i] + fours[i + four]) + (fours[i + eight] + column[i + twelve])
        ring -= ((small[i] + small[i + four]) + (small[i + one] + small[i + three])) + (
            small[i + two]
        )
        mean = w * ring
        total = (spot[i] + spot[i + four]) + FOUR * (spot[i + one] + spot[i + three])
        total += SIX * spot[i + two]
        away = k * total - mean
        far = _THREE * mean + away
        good = away * away * far - limit * (k * mean) * (far + away)
        high[i] = good > ZERO


@njit(cache=True, error_model="numpy")
def flag_places(pixels, at, weight, in_ring, high, flags, n):
    """Adds `PLACE` where `high_places` found one and there are enough pixels.

    Args:
        pixels: (size,) uint8: 1 for places that are asked, from `at` on.
        weight, in_ring, high, n: As in `high_places`.
        flags: (n,) or more, uint8.
    """
    at = np.uintp(at)
    for i in range(np.uintp(n)):
        enough = np.uint8(in_ring[i] >= _FEW) & np.uint8(weight[i] >= _HALF)
        flags[i] |= (high[i] & enough & pixels[at + i]) << 1


@njit(cache=True)
def place_may_stand_out(n, m, mean, here, limit):
    """False if the mean `n` of `m` pixels is near the mean of the square around, or is
    surely what a ring with the mean `here` lets expect."""
    if (n - mean) ** 2 * m < SHARE * limit * mean:
        return False
    (h0, s0), (h1, s1), (h2, s2) = _LINES
    rare = max(max(h0 - s0 * here, h1 - s1 * here), max(h2 - s2 * here, 0.0))
    return most_disagreement(n, m, here) > (limit + rare) * (1.0 - _SLACK)


@njit(cache=True)
def place_stands_out(n, m, here, k, limit):
    """True if the mean `n` of `m` pixels is not what the ring of `k` pixels with the
    mean `here` lets expect."""
    return abs(disagreement(n, m, here, k)) > least(limit, here) * (1.0 - _SLACK)
