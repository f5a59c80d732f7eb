"""Loops over the pixels of a panel for `diffuse_core.faults`."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from diffuse_core.ring_sums import REACH
from diffuse_core.surroundings import FEWEST

CELL = 16
"""Pixels along the side of the squares of which the highest count is looked up."""


@njit(cache=True)
def add_image(counts, usable, found, images, sticks_out, sums):
    """Adds an image to the sums; counts that are too high as the mean around them.

    Args:
        counts: (n_slow, n_fast) float32.
        usable, found: (n_slow, n_fast) bool: pixels that count, and those among them
            that stick out.
        images, sticks_out, sums: (n_slow, n_fast): sums of `faults.PixelSums`.
    """
    for y in range(counts.shape[0]):
        for x in range(counts.shape[1]):
            if not usable[y, x]:
                continue
            images[y, x] += 1
            value = counts[y, x]
            if found[y, x]:
                sticks_out[y, x] += 1
                mean = _around(counts, usable, found, y, x)
                if mean >= 0.0:
                    value = min(value, mean)
            sums[y, x] += value


@njit(cache=True)
def _around(counts, usable, found, y, x):
    """Mean of the usable pixels within `REACH` that do not stick out, or -1."""
    n_slow, n_fast = counts.shape
    total = 0.0
    n = 0
    for j in range(max(y - REACH, 0), min(y + REACH + 1, n_slow)):
        for i in range(max(x - REACH, 0), min(x + REACH + 1, n_fast)):
            if usable[j, i] and not found[j, i]:
                total += counts[j, i]
                n += 1
    return total / n if n >= FEWEST else -1.0


@njit(cache=True)
def write_high(counts, usable, found, out):
    """Writes which of the outliers lie above their surroundings."""
    for y in range(counts.shape[0]):
        for x in range(counts.shape[1]):
            if found[y, x]:
                mean = _around(counts, usable, found, y, x)
                out[y, x] = counts[y, x] > mean


@njit(cache=True)
def add_silent(counts, usable, found, limit, out):
    """Adds to `out` the pixels without a count where chance would bring some.

    The mean around a pixel is above the limit only if a pixel there is.
    """
    n_slow, n_fast = counts.shape
    high = np.zeros(((n_slow - 1) // CELL + 1, (n_fast - 1) // CELL + 1), np.bool_)
    for y in range(n_slow):
        for x in range(n_fast):
            if usable[y, x] and counts[y, x] > limit:
                high[y // CELL, x // CELL] = True
    for y in range(n_slow):
        top, bottom = max(y - REACH, 0) // CELL, min(y + REACH, n_slow - 1) // CELL
        for x in range(n_fast):
            if usable[y, x] and counts[y, x] == 0.0:
                left, right = max(x - REACH, 0) // CELL, min(x + REACH, n_fast - 1)
                near = high[top : bottom + 1, left : right // CELL + 1]
                if near.any():
                    out[y, x] |= _around(counts, usable, found, y, x) > limit


@njit(cache=True)
def in_squares(s, cosine, distance, images, counts, size, beam):
    """Sums over squares of `size` pixels; those at the edges may be smaller.

    Args:
        s: (n_slow, n_fast, 3) float32, 1/A.
        cosine, distance: (n_slow, n_fast): incidence, and sample to pixel (mm).
        images, counts: (n_slow, n_fast): how often a pixel was seen, and its counts.
        size: Pixels along the side.
        beam: (8,) float64: wavelength (A), direction of the beam, normal of the plane
            of polarization, polarization fraction.

    Returns:
        (k, m) float64 each: mean of |s| (1/A), counts, and exposure: images times
        polarization and solid angle.
    """
    n_slow, n_fast = counts.shape
    shape = (n_slow - 1) // size + 1, (n_fast - 1) // size + 1
    norm, total, exposure = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    wavelength, kx, ky, kz, nx, ny, nz, f = beam
    for y in range(n_slow):
        row = y // size
        for x in range(n_fast):
            column = x // size
            sx, sy, sz = s[y, x, 0], s[y, x, 1], s[y, x, 2]
            ux, uy, uz = (
                wavelength * sx + kx,
                wavelength * sy + ky,
                wavelength * sz + kz,
            )
            out_of_plane = ux * nx + uy * ny + uz * nz
            along = ux * kx + uy * ky + uz * kz
            response = (1 - 2 * f) * (1 - out_of_plane**2) + f * (1 + along**2)
            norm[row, column] += math.sqrt(sx * sx + sy * sy + sz * sz)
            total[row, column] += counts[y, x]
            exposure[row, column] += (
                images[y, x] * response * cosine[y, x] / distance[y, x] ** 2
            )
    for row in range(shape[0]):
        for column in range(shape[1]):
            high = min(size, n_slow - row * size)
            wide = min(size, n_fast - column * size)
            norm[row, column] /= high * wide
    return norm, total, exposure
