"""Sums over the ring of pixels around a pixel, and over the four arms that make it up.

The ring holds the pixels `SPOT` < r <= `REACH`, r = max(|dx|, |dy|). Four arms tile it
like a pinwheel. Inside the image the whole square around the pixel is summed, column by
column, with weights that are 0 for what does not belong to the ring: compilers make
vector instructions of that, but none of a list of pixels.
"""

from __future__ import annotations

import numpy as np
from numba import njit

SPOT = 2
"""Pixels from its centre that a spot may reach; they do not tell its surroundings."""

REACH = 6
"""Pixels from its centre that tell the surroundings of a spot."""

NARROWEST = 2.6
"""Sigma in pixels of the narrowest halo that does not stick out."""

ALL_ARMS = 15
"""A bit for each."""

_SIDE, _LONG, _SHORT = 2 * REACH + 1, REACH + SPOT + 1, REACH - SPOT
"""Sides of the square around the ring, and of an arm."""

_WIDE = 16
"""Columns that are looked at: those of the square, and a few that do not count."""


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


def _chosen(arms: np.ndarray) -> np.ndarray:
    """(16, `_SIDE`, `_WIDE`) float64: 1 for the pixels of the square that belong to
    arms of which a bit is set, 0 for others."""
    result = np.zeros((ALL_ARMS + 1, _SIDE, _WIDE))
    for bits in range(ALL_ARMS + 1):
        for arm in range(4):
            if bits >> arm & 1:
                rows, columns = (arms[arm] + REACH).T
                result[bits, rows, columns] = 1.0
    return result


_ARMS = _arms()
_PIXELS = _ARMS.shape[1]
_HALO = np.exp(-0.5 * (_ARMS[0] ** 2).sum(-1) / NARROWEST**2)
"""A halo of the width `NARROWEST` at the pixels of an arm: the same for all arms."""

_G, _GG = float(_HALO.sum()), float((_HALO**2).sum())
_CHOSEN = _chosen(_ARMS)
_LINE = np.exp(-0.5 * (np.arange(_WIDE) - REACH) ** 2 / NARROWEST**2)
_HALOS = _CHOSEN * _LINE[:_SIDE, np.newaxis] * _LINE
"""The same at the pixels of `_CHOSEN`."""

_ONES = np.zeros((4, _WIDE))
"""1 for the columns of the four arms."""

for _arm in range(4):
    _ONES[_arm, _ARMS[_arm, :, 1] + REACH] = 1.0
_BYTES = (255 * _ONES).astype(np.uint8)
_ZERO = np.float32(0.0)


@njit(cache=True)
def _inside(shape, y, x):
    """True if the ring and the columns beside it lie inside the image."""
    more = REACH + 1
    return more <= y < shape[0] - more and more <= x < shape[1] - _WIDE + REACH


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
def _value(values, used, at):
    """A count, 0 where it is not used."""
    value = values[at]
    return np.float64(value if used[at] else _ZERO)


@njit(cache=True, error_model="numpy", inline="always")
def _four(values, used, at, step):
    """Counts of 4 pixels of a column."""
    b, c, d = at + step, at + step + step, at + step + step + step
    return (_value(values, used, at) + _value(values, used, b)) + (
        _value(values, used, c) + _value(values, used, d)
    )


@njit(cache=True, error_model="numpy", inline="always")
def _four_used(used, at, step):
    """How many of 4 pixels of a column are used."""
    b, c, d = at + step, at + step + step, at + step + step + step
    return (np.uint8(used[at]) + np.uint8(used[b])) + (
        np.uint8(used[c]) + np.uint8(used[d])
    )


@njit(cache=True, error_model="numpy", fastmath={"reassoc"})
def _pixels_of_arms(used, first, n_fast):
    """Pixels of the four arms of a ring inside the image.

    Args:
        used: (n_slow n_fast,) bool.
        first: Where the square around the ring begins.
        n_fast: Of the image.
    """
    step = np.uintp(n_fast)
    a = np.uintp(first)
    b, c = a + np.uintp(_SHORT) * step, a + np.uintp(_LONG) * step
    middle = c - step
    k0 = k1 = k2 = k3 = np.int32(0)
    for i in range(np.uintp(_WIDE)):
        above = np.uint8(_four_used(used, a + i, step))
        below = np.uint8(_four_used(used, c + i, step))
        beside = np.uint8(_four_used(used, b + i, step) + np.uint8(used[middle + i]))
        k0 += np.int32(above & _BYTES[0, i])
        k1 += np.int32((above + beside) & _BYTES[1, i])
        k2 += np.int32(below & _BYTES[2, i])
        k3 += np.int32((beside + below) & _BYTES[3, i])
    return float(k0), float(k1), float(k2), float(k3)


@njit(cache=True, error_model="numpy", fastmath={"reassoc"})
def _photons_of_arms(values, used, first, n_fast):
    """Counts of the four arms; arguments as in `_pixels_of_arms`."""
    step = np.uintp(n_fast)
    a = np.uintp(first)
    b, c = a + np.uintp(_SHORT) * step, a + np.uintp(_LONG) * step
    middle = c - step
    n0 = n1 = n2 = n3 = 0.0
    for i in range(np.uintp(_WIDE)):
        above = _four(values, used, a + i, step)
        below = _four(values, used, c + i, step)
        beside = _four(values, used, b + i, step) + _value(values, used, middle + i)
        n0 += above * _ONES[0, i]
        n1 += (above + beside) * _ONES[1, i]
        n2 += below * _ONES[2, i]
        n3 += (beside + below) * _ONES[3, i]
    return n0, n1, n2, n3


@njit(cache=True, error_model="numpy", inline="always")
def arm_sums(values, used, shape, y, x):
    """Pixels and counts of the four arms around y, x, two tuples of float64.

    Args:
        values: (n_slow n_fast,) float32: photons.
        used: (n_slow n_fast,) bool: pixels that count.
        shape: n_slow, n_fast.
    """
    if _inside(shape, y, x):
        first = (y - REACH) * shape[1] + x - REACH
        pixels = _pixels_of_arms(used, first, shape[1])
        return pixels, _photons_of_arms(values, used, first, shape[1])
    a = _partly(values, used, shape, y, x, 0)
    b = _partly(values, used, shape, y, x, 1)
    c = _partly(values, used, shape, y, x, 2)
    d = _partly(values, used, shape, y, x, 3)
    return (a[0], b[0], c[0], d[0]), (a[1], b[1], c[1], d[1])


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _some_moments(values, used, first, n_fast, arms):
    """Sums of squares, of the halo, of its square, and of halo times counts, of the
    arms of which a bit is set; other arguments as in `_pixels_of_arms`."""
    step = np.uintp(n_fast)
    squares = g = gg = gn = 0.0
    for i in range(np.uintp(_WIDE)):
        at = np.uintp(first) + i
        for row in range(_SIDE):
            value, halo = _value(values, used, at), _HALOS[arms, row, i]
            squares += _CHOSEN[arms, row, i] * (value * value)
            gn += halo * value
            halo = halo if used[at] else 0.0
            g += halo
            gg += halo * halo
            at += step
    return squares, g, gg, gn


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _full_moments(values, first, n_fast, arms):
    """The first and the last of `_some_moments`, of arms whose pixels are all used."""
    step = np.uintp(n_fast)
    squares = gn = 0.0
    for i in range(np.uintp(_WIDE)):
        at = np.uintp(first) + i
        for row in range(_SIDE):
            value = np.float64(values[at])
            squares += _CHOSEN[arms, row, i] * (value * value)
            gn += _HALOS[arms, row, i] * value
            at += step
    return squares, gn


@njit(cache=True)
def moments(values, used, shape, y, x, k, arms):
    """Sums of squares, of the halo, of its square, and of halo times counts.

    Args:
        values, used, shape, y, x: As in `arm_sums`.
        arms: A bit for each of those that count.
        k: Their pixels.
    """
    if _inside(shape, y, x):
        first = (y - REACH) * shape[1] + x - REACH
        full = k / _PIXELS
        if full < (arms & 1) + (arms >> 1 & 1) + (arms >> 2 & 1) + (arms >> 3):
            return _some_moments(values, used, first, shape[1], arms)
        squares, gn = _full_moments(values, first, shape[1], arms)
        return squares, full * _G, full * _GG, gn
    squares = g = gg = gn = 0.0
    for i in range(4):
        if arms >> i & 1:
            sums = _partly(values, used, shape, y, x, i)
            squares += sums[2]
            g += sums[3]
            gg += sums[4]
            gn += sums[5]
    return squares, g, gg, gn
