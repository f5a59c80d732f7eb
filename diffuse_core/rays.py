"""Rays from the sample to the pixels of a panel, without temporary arrays."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

CUBIC = 4
"""Points of a cubic."""


def cubic(values: np.ndarray, n: int, axis: int) -> np.ndarray:
    """Values at n even steps from the first to the last, by cubics through `CUBIC`.

    Lagrange's formula. The error is that of the fourth differences, times 3/128 away
    from the ends.

    Args:
        values: float64 with `CUBIC` values at least along the axis.
        n: Values to give.
        axis: Along which.
    """
    size = values.shape[axis]
    at = np.linspace(0.0, size - 1, n)
    first = np.clip(at.astype(int) - 1, 0, size - CUBIC)
    u = np.expand_dims(at - first, tuple(range(1, values.ndim - axis)))
    terms = (
        np.take(values, first + k, axis)
        * math.prod((u - j) / (k - j) for j in range(CUBIC) if j != k)
        for k in range(CUBIC)
    )
    return sum(terms)


@njit(cache=True, nogil=True)
def _columns(n_fast, m):
    """Of each pixel along fast: which of m even intervals it lies in, and where."""
    index = np.empty(n_fast, np.uintp)
    share = np.empty(n_fast)
    for x in range(n_fast):
        u = x * (m - 1) / max(1, n_fast - 1)
        i = min(int(u), m - 2)
        index[x] = i
        share[x] = u - i
    return index, share


@njit(cache=True, nogil=True, error_model="numpy")
def _enter_row(shifts, pixel_size, y, n_slow, index, share, between, fast, slow):
    """Writes fast and slow (mm) where the rays to the pixels of row y enter the panel.

    Args:
        shifts, pixel_size: As for `positions`.
        y, n_slow: Row, and number of rows.
        index, share: Of `_columns`.
        between: (m, 2) float64: scratch.
        fast, slow: (n_fast,) float64.
    """
    v = y * (shifts.shape[0] - 1) / max(1, n_slow - 1)
    j = min(int(v), shifts.shape[0] - 2)
    v -= j
    for i in range(shifts.shape[1]):
        for c in range(2):
            between[i, c] = (1 - v) * shifts[j, i, c] + v * shifts[j + 1, i, c]
    middle = (y + 0.5) * pixel_size[1]
    for x in range(len(index)):
        i = index[x]
        u = share[x]
        fast[x] = (x + 0.5) * pixel_size[0] + (
            (1 - u) * between[i, 0] + u * between[i + np.uintp(1), 0]
        )
        slow[x] = middle + ((1 - u) * between[i, 1] + u * between[i + np.uintp(1), 1])


@njit(cache=True, nogil=True)
def positions(shifts, pixel_size, frame, shape):
    """(n_slow, n_fast, 3) float64, mm: where rays to pixel centres enter the panel.

    Args:
        shifts: (k, m, 2) float64, at least 2 by 2: how far (mm, fast and slow) from its
            pixel's centre a ray enters, at evenly spaced pixels from the first to the
            last, linear between them.
        pixel_size: Fast, slow (mm).
        frame: (3, 3) float64: columns fast axis, slow axis, origin (mm).
        shape: n_slow, n_fast.
    """
    index, share = _columns(shape[1], shifts.shape[1])
    between = np.empty((shifts.shape[1], 2))
    fast = np.empty(shape[1])
    slow = np.empty(shape[1])
    out = np.empty((shape[0], shape[1], 3))
    for y in range(shape[0]):
        _enter_row(shifts, pixel_size, y, shape[0], index, share, between, fast, slow)
        for x in range(shape[1]):
            for c in range(3):
                out[y, x, c] = (
                    frame[c, 0] * fast[x] + frame[c, 1] * slow[x] + frame[c, 2]
                )
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _row(fast, slow, frame, normal, s0, wavelength, s, cosine, distance):
    """Writes what `rays` returns of one row, whose s is flat.

    Indices that can't be negative let compilers make vector instructions of the loop.
    """
    fx, fy, fz = frame[0, 0], frame[1, 0], frame[2, 0]
    sx, sy, sz = frame[0, 1], frame[1, 1], frame[2, 1]
    ox, oy, oz = frame[0, 2], frame[1, 2], frame[2, 2]
    nx, ny, nz = normal[0], normal[1], normal[2]
    bx, by, bz = s0[0], s0[1], s0[2]
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    for i in range(len(fast)):
        x = np.uintp(i)
        px = fx * fast[x] + sx * slow[x] + ox
        py = fy * fast[x] + sy * slow[x] + oy
        pz = fz * fast[x] + sz * slow[x] + oz
        r = math.sqrt(px * px + py * py + pz * pz)
        scale = 1.0 / (r * wavelength)
        s[three * x] = px * scale - bx
        s[three * x + one] = py * scale - by
        s[three * x + two] = pz * scale - bz
        cosine[x] = abs(px * nx + py * ny + pz * nz) / r
        distance[x] = r


@njit(cache=True, nogil=True)
def rays(shifts, pixel_size, frame, shape, normal, s0, wavelength):
    """s = s1 - s0, |cos| of incidence and distance of all pixels.

    Computed in float64, stored as float32.

    Args:
        shifts, pixel_size, frame, shape: As for `positions`.
        normal: (3,) float64: unit normal of the panel.
        s0: (3,) float64, 1/A.
        wavelength: A.

    Returns:
        (n_slow, n_fast, 3) 1/A, (n_slow, n_fast), (n_slow, n_fast) mm.
    """
    n_slow, n_fast = shape
    index, share = _columns(n_fast, shifts.shape[1])
    between = np.empty((shifts.shape[1], 2))
    fast = np.empty(n_fast)
    slow = np.empty(n_fast)
    s = np.empty((n_slow, 3 * n_fast), np.float32)
    cosine = np.empty(shape, np.float32)
    distance = np.empty(shape, np.float32)
    for y in range(n_slow):
        _enter_row(shifts, pixel_size, y, n_slow, index, share, between, fast, slow)
        _row(fast, slow, frame, normal, s0, wavelength, s[y], cosine[y], distance[y])
    return s.reshape(n_slow, n_fast, 3), cosine, distance
