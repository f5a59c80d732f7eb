"""What a pixel may be expected to count, from the ring of pixels around it.

The ring holds the pixels `SPOT` < r <= `REACH`, r = max(|dx|, |dy|): far enough from
the centre not to hold the spot that is looked for, near enough to tell the level. Four
arms tile it like a pinwheel, so that a neighbouring spot falls into one or two of them.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

SPOT = 2
"""Pixels from its centre that a spot may reach; they do not tell its surroundings."""

REACH = 6
"""Pixels from its centre that tell the surroundings of a spot."""

FEWEST = 12
"""Pixels that must be left of the surroundings."""

NARROWEST = 2.6
"""Sigma in pixels of the narrowest halo that does not stick out."""

HALO = np.exp(
    -0.5 * np.add.outer(np.arange(7.0) ** 2, np.arange(7.0) ** 2) / NARROWEST**2
)
"""Such a halo at |dy|, |dx| from its centre."""


@njit(cache=True)
def box_means(counts, use, out):
    """Writes the mean of the pixels to use in squares of side 2 `REACH` + 1; -1 where
    there are fewer than `FEWEST`.

    Args:
        counts: (n_slow, n_fast) float32.
        use: (n_slow, n_fast) bool.
        out: (n_slow, n_fast) float32.
    """
    n_slow, n_fast = counts.shape
    column = np.zeros(n_fast)
    pixels = np.zeros(n_fast, np.int32)
    for row in range(-REACH, n_slow):
        new, old = row + REACH, row - REACH - 1
        if new < n_slow:
            for x in range(n_fast):
                if use[new, x]:
                    column[x] += counts[new, x]
                    pixels[x] += 1
        if old >= 0:
            for x in range(n_fast):
                if use[old, x]:
                    column[x] -= counts[old, x]
                    pixels[x] -= 1
        if row < 0:
            continue
        total = 0.0
        number = 0
        for x in range(min(REACH, n_fast)):
            total += column[x]
            number += pixels[x]
        for x in range(n_fast):
            if x + REACH < n_fast:
                total += column[x + REACH]
                number += pixels[x + REACH]
            if x - REACH - 1 >= 0:
                total -= column[x - REACH - 1]
                number -= pixels[x - REACH - 1]
            out[row, x] = max(total, 0.0) / number if number >= FEWEST else -1.0


@njit(cache=True)
def _arm(counts, use, y0, y1, x0, x1, y, x):
    """Pixels, counts, squares of a rectangle, ends included; sums of the halo around
    y, x, of its square, and of halo times counts."""
    k = n = squares = g = gg = gn = 0.0
    for j in range(max(y0, 0), min(y1 + 1, counts.shape[0])):
        for i in range(max(x0, 0), min(x1 + 1, counts.shape[1])):
            if use[j, i]:
                value = counts[j, i]
                halo = HALO[abs(j - y), abs(i - x)]
                k += 1.0
                n += value
                squares += value * value
                g += halo
                gg += halo * halo
                gn += halo * value
    return k, n, squares, g, gg, gn


@njit(cache=True)
def surroundings(counts, use, y, x, robust):
    """Pixels k, mean, variance beyond chance, and the most that a halo could reach.

    The last is the mean, or the height at the centre of a halo of the width `NARROWEST`
    that fits the ring best, on a constant, if that is higher. k = 0 where the pixels
    are too few.

    Args:
        counts: (n_slow, n_fast) float32: photons.
        use: (n_slow, n_fast) bool: pixels that tell the surroundings.
        y, x: The centre.
        robust: Leave out the brightest and the faintest of the four arms, since
            neighbouring spots have not been found yet.
    """
    a, b = SPOT, REACH
    arms = (
        _arm(counts, use, y - b, y - a - 1, x - b, x + a, y, x),
        _arm(counts, use, y - b, y + a, x + a + 1, x + b, y, x),
        _arm(counts, use, y + a + 1, y + b, x - a, x + b, y, x),
        _arm(counts, use, y - a, y + b, x - b, x - a - 1, y, x),
    )
    k, n, squares, g, gg, gn = _joined(arms, robust)
    if k < FEWEST:
        return 0.0, 0.0, 0.0, 0.0
    mean = n / k
    chance = mean + math.sqrt((mean + 2.0 * mean * mean) / k)
    uneven = max(squares / k - mean * mean - chance, 0.0)
    top = mean
    contrast = gg - g * g / k
    if contrast > 0.0:
        top += max((gn - g * mean) / contrast, 0.0) * (1.0 - g / k)
    return k, mean, uneven, top


@njit(cache=True)
def _joined(arms, robust):
    """Sums over all arms, or over those that are neither the brightest nor the faintest
    (of three, the two faintest)."""
    k, n, squares, g, gg, gn = arms[0]
    have = 1 if k > 0.0 else 0
    low = high = 0
    for i in range(1, 4):
        arm = arms[i]
        if arm[0] == 0.0:
            continue
        have += 1
        k += arm[0]
        n += arm[1]
        squares += arm[2]
        g += arm[3]
        gg += arm[4]
        gn += arm[5]
        if arms[low][0] == 0.0:
            low = high = i
        elif arm[1] * arms[low][0] < arms[low][1] * arm[0]:
            low = i
        elif arm[1] * arms[high][0] >= arms[high][1] * arm[0]:
            high = i
    if not robust or have < 3:
        return k, n, squares, g, gg, gn
    for i in (high, low):
        if i == low and have == 3:
            continue
        k -= arms[i][0]
        n -= arms[i][1]
        squares -= arms[i][2]
        g -= arms[i][3]
        gg -= arms[i][4]
        gn -= arms[i][5]
    return k, n, squares, g, gg, gn
