"""Rays from the sample to the pixels of a panel, without temporary arrays."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def _on_panel(shifts, pixel_size, y, x, n_slow, n_fast):
    """Fast, slow (mm): where the ray to a pixel's centre enters the panel."""
    v = y * (shifts.shape[0] - 1) / max(1, n_slow - 1)
    u = x * (shifts.shape[1] - 1) / max(1, n_fast - 1)
    j = min(int(v), shifts.shape[0] - 2)
    i = min(int(u), shifts.shape[1] - 2)
    v -= j
    u -= i
    fast = (1 - v) * ((1 - u) * shifts[j, i, 0] + u * shifts[j, i + 1, 0]) + v * (
        (1 - u) * shifts[j + 1, i, 0] + u * shifts[j + 1, i + 1, 0]
    )
    slow = (1 - v) * ((1 - u) * shifts[j, i, 1] + u * shifts[j, i + 1, 1]) + v * (
        (1 - u) * shifts[j + 1, i, 1] + u * shifts[j + 1, i + 1, 1]
    )
    return (x + 0.5) * pixel_size[0] + fast, (y + 0.5) * pixel_size[1] + slow


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
    out = np.empty((shape[0], shape[1], 3))
    for y in range(shape[0]):
        for x in range(shape[1]):
            fast, slow = _on_panel(shifts, pixel_size, y, x, shape[0], shape[1])
            for c in range(3):
                out[y, x, c] = frame[c, 0] * fast + frame[c, 1] * slow + frame[c, 2]
    return out


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
    s = np.empty((shape[0], shape[1], 3), np.float32)
    cosine = np.empty(shape, np.float32)
    distance = np.empty(shape, np.float32)
    for y in range(shape[0]):
        for x in range(shape[1]):
            fast, slow = _on_panel(shifts, pixel_size, y, x, shape[0], shape[1])
            px = frame[0, 0] * fast + frame[0, 1] * slow + frame[0, 2]
            py = frame[1, 0] * fast + frame[1, 1] * slow + frame[1, 2]
            pz = frame[2, 0] * fast + frame[2, 1] * slow + frame[2, 2]
            r = math.sqrt(px * px + py * py + pz * pz)
            s[y, x, 0] = px / (r * wavelength) - s0[0]
            s[y, x, 1] = py / (r * wavelength) - s0[1]
            s[y, x, 2] = pz / (r * wavelength) - s0[2]
            cosine[y, x] = abs(px * normal[0] + py * normal[1] + pz * normal[2]) / r
            distance[y, x] = r
    return s, cosine, distance
