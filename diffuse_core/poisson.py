"""Counts that do not come from the smooth expectation around them, by relative entropy.

m D(n || l) = m [ n ln(n / l) - n + l ] is m times the relative entropy (Kullback and
Leibler) of Poisson distributions with means n and l. By Chernoff's bound the mean of m
pixels reaches n by chance with a probability below exp(-m D). Where l is itself
estimated from k pixels, both samples are compared with their common mean u:

    G = m D(n || u) + k D(l || u),    u = (m n + k l) / (m + k)

G / m goes to D(n || l) for large k. Counts below the expectation give G as those above.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

SPOT = 2
"""Pixels from its centre that a spot may reach; they do not tell its surroundings."""

OUTER = 4
"""The outer part of the surroundings lies beyond."""

REACH = 6
"""Pixels from its centre that tell the surroundings of a spot."""

SCREENS = 3
"""Passes, each without what the last one found in the surroundings."""

FEWEST = 12
"""Pixels that must be left of the surroundings."""

TILE = 32
"""Pixels along the side of the squares whose variance and mean are compared."""

PHOTONS = 1.5
"""Variance over mean up to which a detector counts photons."""

STEEPNESS = 3.0
"""A halo rises to its centre by up to this times its rise from the outer part of the
surroundings to the innermost: Gaussians wider than 2.6 pixels do not stick out."""


@njit(cache=True)
def entropy(n, mean):
    """Relative entropy of Poisson distributions with means `n` and `mean` > 0."""
    if n <= 0.0:
        return mean
    return n * math.log(n / mean) - n + mean


@njit(cache=True)
def disagreement(n, m, mean, k):
    """G of the mean `n` of `m` pixels and the `mean` of `k`; negative if n is below."""
    common = (m * n + k * mean) / (m + k)
    if common <= 0.0:
        return 0.0
    value = m * entropy(n, common) + k * entropy(mean, common)
    return value if n >= mean else -value


@njit(cache=True)
def _tables(counts, use, number, total, squares):
    """Summed-area tables (n_slow + 1, n_fast + 1): pixels, counts, their squares."""
    n_slow, n_fast = counts.shape
    for y in range(n_slow):
        pixels = 0
        row = row2 = 0.0
        for x in range(n_fast):
            if use[y, x]:
                n = counts[y, x]
                pixels += 1
                row += n
                row2 += n * n
            number[y + 1, x + 1] = number[y, x + 1] + pixels
            total[y + 1, x + 1] = total[y, x + 1] + row
            squares[y + 1, x + 1] = squares[y, x + 1] + row2


@njit(cache=True, inline="always")
def _box(table, y, x, half):
    y0, y1 = max(y - half, 0), min(y + half + 1, table.shape[0] - 1)
    x0, x1 = max(x - half, 0), min(x + half + 1, table.shape[1] - 1)
    return table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0]


@njit(cache=True)
def _surroundings(number, total, squares, y, x):
    """Pixels, mean and variance beyond chance of the counts around a pixel."""
    k = float(_box(number, y, x, REACH) - _box(number, y, x, SPOT))
    if k < FEWEST:
        return 0.0, 0.0, 0.0
    mean = (_box(total, y, x, REACH) - _box(total, y, x, SPOT)) / k
    square = (_box(squares, y, x, REACH) - _box(squares, y, x, SPOT)) / k
    chance = mean + math.sqrt((mean + 2.0 * mean * mean) / k)
    return k, mean, max(square - mean * mean - chance, 0.0)


@njit(cache=True)
def _top(number, total, y, x, mean):
    """The largest expectation that a smooth halo could have at a pixel."""
    n_inner = _box(number, y, x, SPOT + 1) - _box(number, y, x, SPOT)
    n_outer = _box(number, y, x, REACH) - _box(number, y, x, OUTER)
    if n_inner < FEWEST // 2 or n_outer < FEWEST // 2:
        return mean
    inner = (_box(total, y, x, SPOT + 1) - _box(total, y, x, SPOT)) / n_inner
    outer = (_box(total, y, x, REACH) - _box(total, y, x, OUTER)) / n_outer
    return max(mean, outer + STEEPNESS * (inner - outer))


@njit(cache=True)
def _sticks_out(n, m, k, mean, top, uneven, limit):
    """True if the mean `n` of `m` pixels isn't what its surroundings let expect.

    What makes the surroundings uneven does not average out over the m pixels.
    """
    expected = mean if n < mean else top
    if mean <= n <= top:
        return False
    g = abs(disagreement(n, m, expected, k))
    if g <= limit:
        return False
    return g > limit * (1.0 + m * uneven / max(expected, 1e-9))


@njit(cache=True)
def find_outliers(counts, valid, single, limit, grow):
    """Pixels whose counts disagree with their surroundings.

    The surroundings are the pixels `SPOT` < r <= `REACH` (in square rings). Their
    variance beyond that of Poisson counts, from slopes and halos, adds to the noise,
    and a centre that goes on rising as a halo does is no outlier.

    Args:
        counts: (n_slow, n_fast) float32: photons.
        valid: (n_slow, n_fast) bool: pixels that count.
        single: (n_slow, n_fast) bool: where pixels are judged one by one and nothing
            grows; elsewhere squares of 3 x 3 pixels are looked at too.
        limit: Smallest G that is no chance: -ln of the probability of a false alarm.
        grow: Pixels around an outlier that are left out with it.

    Returns:
        (n_slow, n_fast) bool, True = outlier.
    """
    n_slow, n_fast = counts.shape
    shape = (n_slow + 1, n_fast + 1)
    number, total = np.zeros(shape, np.int32), np.zeros(shape)
    squares = np.zeros(shape)
    smooth = valid.copy()
    core = np.zeros((n_slow, n_fast), np.bool_)
    for _ in range(SCREENS):
        _tables(counts, smooth, number, total, squares)
        again = False
        for y in range(n_slow):
            for x in range(n_fast):
                n = counts[y, x]
                if not valid[y, x] or core[y, x]:
                    continue
                k, mean, uneven = _surroundings(number, total, squares, y, x)
                if k == 0.0 or abs(n - mean) < 3.0 * math.sqrt(mean):
                    continue
                top = _top(number, total, y, x, mean) if n > mean else mean
                if _sticks_out(n, 1.0, k, mean, top, uneven, limit):
                    core[y, x] = True
                    again = True
                    for b in range(max(y - 1, 0), min(y + 2, n_slow)):
                        for a in range(max(x - 1, 0), min(x + 2, n_fast)):
                            smooth[b, a] = False
        if not again:
            break
    every, pixels = np.zeros(shape), np.zeros(shape, np.int32)
    _tables(counts, valid, pixels, every, squares.copy())
    found = np.zeros((n_slow, n_fast), np.bool_)
    for y in range(n_slow):
        for x in range(n_fast):
            if not valid[y, x]:
                continue
            reach = grow if core[y, x] else -1
            k, mean, uneven = _surroundings(number, total, squares, y, x)
            m = float(_box(pixels, y, x, 1))
            if not single[y, x] and k > 0.0 and m > 5.0:
                n = _box(every, y, x, 1) / m
                if abs(n - mean) > math.sqrt(mean):
                    top = _top(number, total, y, x, mean) if n > mean else mean
                    if _sticks_out(n, m, k, mean, top, uneven, limit):
                        reach = grow + 1
            if reach >= 0:
                for b in range(max(y - reach, 0), min(y + reach + 1, n_slow)):
                    for a in range(max(x - reach, 0), min(x + reach + 1, n_fast)):
                        if not single[b, a]:
                            found[b, a] = True
            found[y, x] |= core[y, x]
    return found


@njit(cache=True)
def near_points(s, to_hkl, radius):
    """(n_slow, n_fast) bool: within `radius` of a whole hkl, in Miller indices.

    Args:
        s: (n_slow, n_fast, 3) float32, 1/A.
        to_hkl: (n, 3, 4) float64: s to hkl of each crystal.
        radius: In Miller indices.
    """
    near = np.zeros(s.shape[:2], np.bool_)
    for y in range(s.shape[0]):
        for x in range(s.shape[1]):
            for i in range(to_hkl.shape[0]):
                square = 0.0
                for c in range(3):
                    a = to_hkl[i, c]
                    h = a[0] * s[y, x, 0] + a[1] * s[y, x, 1] + a[2] * s[y, x, 2] + a[3]
                    h -= math.floor(h + 0.5)
                    square += h * h
                if square < radius * radius:
                    near[y, x] = True
    return near


@njit(cache=True)
def dispersion(counts, valid, tile):
    """Variance over mean, the median of square tiles; NaN if nothing is known.

    1 for photons, the gain for a detector that integrates. The variance is half the
    mean square of differences over three pixels, so that slopes do not count and the
    neighbours that share a photon's light do not either.
    """
    n_slow, n_fast = counts.shape
    rows, columns = n_slow // tile, n_fast // tile
    ratio = np.empty(rows * columns + 1)
    n = 0
    for j in range(rows):
        for i in range(columns):
            total = squares = 0.0
            pixels = pairs = 0
            for y in range(j * tile, (j + 1) * tile):
                for x in range(i * tile, (i + 1) * tile):
                    if not valid[y, x]:
                        continue
                    total += counts[y, x]
                    pixels += 1
                    if x + 3 < (i + 1) * tile and valid[y, x + 3]:
                        difference = counts[y, x] - counts[y, x + 3]
                        squares += 0.5 * difference * difference
                        pairs += 1
            if pixels >= 64 and pairs >= 32 and total > 4.0:
                ratio[n] = squares / pairs / (total / pixels)
                n += 1
    if n == 0:
        return np.nan
    return np.median(ratio[:n])


def as_photons(counts: np.ndarray, valid: np.ndarray) -> np.ndarray | None:
    """(n_slow, n_fast) float32 >= 0: counts in units that vary as photons do.

    Counts of a detector that integrates are divided by their dispersion. None if it is
    not known, as where the mean is not above 0.

    Args:
        counts: (n_slow, n_fast) float32, pedestal subtracted.
        valid: (n_slow, n_fast) bool.
    """
    photon = dispersion(counts, valid, TILE)
    if not np.isfinite(photon):
        return None
    photon = 1.0 if photon < PHOTONS else photon
    return np.maximum(counts / np.float32(photon), np.float32(0.0))
