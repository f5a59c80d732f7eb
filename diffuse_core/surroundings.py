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


def _arms() -> np.ndarray:
    """(4, 36, 2) int64: dy, dx of the pixels of the arms, each a quarter turn from the
    one before."""
    rows = np.arange(-REACH, -SPOT)
    columns = np.arange(-REACH, SPOT + 1)
    arm = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    arms = [arm]
    for _ in range(3):
        arm = np.stack([arm[:, 1], -arm[:, 0]], -1)
        arms.append(arm)
    return np.array(arms)


_ARMS = _arms()
_HALO = np.exp(-0.5 * (_ARMS[0] ** 2).sum(-1) / NARROWEST**2)
"""A halo of the width `NARROWEST` at the pixels of an arm: the same for all arms."""

_G, _GG = float(_HALO.sum()), float((_HALO**2).sum())
_PIXELS = len(_HALO)
_ZERO = np.float32(0.0)
ALL_ARMS = 15
"""A bit for each."""


@njit(cache=True)
def ring_of(n_fast):
    """(4, 36) int64: distance in memory of the pixels of the arms from the centre."""
    return _ARMS[:, :, 0] * n_fast + _ARMS[:, :, 1]


@njit(cache=True)
def _inside(shape, y, x):
    """True if the whole ring lies inside the image."""
    return REACH <= y < shape[0] - REACH and REACH <= x < shape[1] - REACH


@njit(cache=True)
def _partly(values, used, shape, y, x, arm):
    """Pixels, counts, squares of an arm that the image cuts off; sums of the halo, of
    its square, and of halo times counts."""
    k = n = squares = g = gg = gn = 0.0
    for i in range(_PIXELS):
        b, a = y + _ARMS[arm, i, 0], x + _ARMS[arm, i, 1]
        if not (0 <= b < shape[0] and 0 <= a < shape[1]):
            continue
        at = b * shape[1] + a
        if used[at]:
            value = np.float64(values[at])
            k += 1.0
            n += value
            squares += value * value
            g += _HALO[i]
            gg += _HALO[i] * _HALO[i]
            gn += _HALO[i] * value
    return k, n, squares, g, gg, gn


@njit(cache=True, error_model="numpy", inline="always")
def _arm_sums(values, used, shape, y, x, ring):
    """Pixels and counts of the four arms."""
    if not _inside(shape, y, x):
        a = _partly(values, used, shape, y, x, 0)
        b = _partly(values, used, shape, y, x, 1)
        c = _partly(values, used, shape, y, x, 2)
        d = _partly(values, used, shape, y, x, 3)
        return (a[0], b[0], c[0], d[0]), (a[1], b[1], c[1], d[1])
    centre = y * shape[1] + x
    k0 = k1 = k2 = k3 = 0
    n0 = n1 = n2 = n3 = 0.0
    for i in range(_PIXELS):
        a, b = np.uintp(centre + ring[0, i]), np.uintp(centre + ring[1, i])
        c, d = np.uintp(centre + ring[2, i]), np.uintp(centre + ring[3, i])
        k0 += used[a]
        k1 += used[b]
        k2 += used[c]
        k3 += used[d]
        n0 += np.float64(values[a] if used[a] else _ZERO)
        n1 += np.float64(values[b] if used[b] else _ZERO)
        n2 += np.float64(values[c] if used[c] else _ZERO)
        n3 += np.float64(values[d] if used[d] else _ZERO)
    return (float(k0), float(k1), float(k2), float(k3)), (n0, n1, n2, n3)


@njit(cache=True)
def ring_mean(values, used, shape, y, x, robust, ring):
    """Pixels k, their mean, and the arms that they are in, a bit for each.

    k = 0 where the pixels are too few.

    Args:
        values: (n_slow n_fast,) float32: photons.
        used: (n_slow n_fast,) bool: pixels that tell the surroundings.
        shape: n_slow, n_fast.
        y, x: The centre.
        robust: Leave out the brightest and the faintest of the four arms (of three the
            brightest), since neighbouring spots have not been found yet.
        ring: Of `ring_of`.
    """
    pixels, photons = _arm_sums(values, used, shape, y, x, ring)
    arms = ALL_ARMS
    if robust:
        arms = _middle(pixels, photons)
    k = n = 0.0
    for i in range(4):
        if arms >> i & 1:
            k += pixels[i]
            n += photons[i]
    if k < FEWEST:
        return 0.0, 0.0, 0
    return k, n / k, arms


@njit(cache=True)
def _middle(pixels, photons):
    """The arms that are neither the brightest nor the faintest; see `ring_mean`."""
    low = high = -1
    have = 0
    for i in range(4):
        if pixels[i] == 0.0:
            continue
        have += 1
        if low < 0:
            low = high = i
        elif photons[i] * pixels[low] < photons[low] * pixels[i]:
            low = i
        elif photons[i] * pixels[high] >= photons[high] * pixels[i]:
            high = i
    arms = ALL_ARMS
    if have >= 3:
        arms -= 1 << high
    if have == 4:
        arms -= 1 << low
    return arms


@njit(cache=True, error_model="numpy", inline="always")
def _whole_arm(values, used, centre, ring, arm):
    """Sums as in `_partly`, without the first two, of an arm inside the image."""
    squares = g = gg = gn = 0.0
    for i in range(_PIXELS):
        at = np.uintp(centre + ring[arm, i])
        value = np.float64(values[at] if used[at] else _ZERO)
        halo = _HALO[i] if used[at] else 0.0
        squares += value * value
        g += halo
        gg += halo * halo
        gn += halo * value
    return squares, g, gg, gn


@njit(cache=True, error_model="numpy", inline="always")
def _full_arm(values, centre, ring, arm):
    """The same of an arm whose pixels are all used."""
    squares = gn = more_squares = more_gn = 0.0
    for i in range(0, _PIXELS, 2):
        a = np.float64(values[np.uintp(centre + ring[arm, i])])
        b = np.float64(values[np.uintp(centre + ring[arm, i + 1])])
        squares += a * a
        more_squares += b * b
        gn += _HALO[i] * a
        more_gn += _HALO[i + 1] * b
    return squares + more_squares, _G, _GG, gn + more_gn


@njit(cache=True)
def ring_shape(values, used, shape, y, x, k, mean, arms, ring):
    """Variance beyond chance, and the most that a halo could reach.

    The last is the mean, or the height at the centre of a halo of the width `NARROWEST`
    that fits the ring best, on a constant, if that is higher.

    Args:
        values, used, shape, y, x, ring: As in `ring_mean`.
        k, mean, arms: What it said, k > 0.
    """
    squares = g = gg = gn = 0.0
    inside, centre = _inside(shape, y, x), y * shape[1] + x
    chosen = 0
    for i in range(4):
        chosen += arms >> i & 1
    full = k == chosen * _PIXELS
    for i in range(4):
        if not arms >> i & 1:
            continue
        if full:
            sums = _full_arm(values, centre, ring, i)
        elif inside:
            sums = _whole_arm(values, used, centre, ring, i)
        else:
            sums = _partly(values, used, shape, y, x, i)[2:]
        squares += sums[0]
        g += sums[1]
        gg += sums[2]
        gn += sums[3]
    chance = mean + math.sqrt((mean + 2.0 * mean * mean) / k)
    uneven = max(squares / k - mean * mean - chance, 0.0)
    top = mean
    contrast = gg - g * g / k
    if contrast > 0.0:
        top += max((gn - g * mean) / contrast, 0.0) * (1.0 - g / k)
    return uneven, top
