"""One pass over windows of an image: the pixels and places that the exact tests see."""

from __future__ import annotations

import numpy as np
from numba import njit

from diffuse_core.quick_tests import (
    ONE_PIXEL,
    PIXEL,
    PLACE,
    flag_pixels,
    flag_places,
    pixel_stands_out,
    place_stands_out,
)
from diffuse_core.squares import load, sum_large, sum_small, sum_spot
from diffuse_core.surroundings import REACH
from diffuse_core.vector_loops import FOUR, SIX, marked

KEY, MEAN, PIXELS, RING_MEAN, RING_PIXELS = range(5)
"""Columns of a table: y n_fast + x, the counts there, and of how many pixels they are
the mean; of places also the mean of the ring around, and its pixels."""

_ALL = np.float32(256.0)
_ONE = np.float32(ONE_PIXEL)


@njit(cache=True)
def empty_table():
    """(rows, 5) float64."""
    return np.empty((256, 5))


@njit(cache=True)
def add_row(table, n, key, mean, pixels, ring_mean=0.0, ring_pixels=0.0):
    """The table with a row after the first n: twice as long if there was no room."""
    if n == len(table):
        table = np.concatenate((table, np.empty_like(table)))
    table[n, KEY], table[n, MEAN], table[n, PIXELS] = key, mean, pixels
    table[n, RING_MEAN], table[n, RING_PIXELS] = ring_mean, ring_pixels
    return table


@njit(cache=True)
def in_order(table):
    """The table, sorted by key."""
    return table[np.argsort(table[:, KEY])]


@njit(cache=True)
def _flags(sums, counts, use, smooth, same, window, limits):
    """Sums and flags of a window; arguments as in `scan`."""
    y0, y1, x0, x1 = window
    height, wide = y1 - y0, x1 - x0 + 2 * REACH
    n = height * wide - 2 * REACH
    flags = sums.flags[: (n + 7) // 8 * 8]
    flags[:] = 0
    load(sums, counts, smooth, window)
    sum_large(sums, height, wide)
    if limits[1] > 0.0:
        sum_small(sums, height, wide)
    if not same:
        load(sums, counts, use, window)
    centre = REACH * (wide + 1)
    asked = sums.pixels[centre : centre + n]
    if limits[0] > 0.0:
        here = sums.photons[centre : centre + n]
        flag_pixels(
            here, asked, sums.fours, sums.large, sums.in_large, limits[0], flags
        )
    if limits[1] > 0.0:
        sum_spot(sums, height, wide)
        flag_places(asked, sums, limits[1], flags)
    return flags


@njit(cache=True)
def _photons_around(sums, i):
    """Photons of the large square."""
    f = sums.fours
    return np.float64((f[i] + f[i + 4]) + (f[i + 8] + sums.large[i + 12]))


@njit(cache=True)
def _mean_around(sums, i):
    """Mean of the large square."""
    return np.float32(_photons_around(sums, i) / sums.in_large[i])


@njit(cache=True)
def _place(sums, i):
    """Weighted mean, how many pixels it is worth, pixels and mean of the ring."""
    a, t, weight = sums.spot[i : i + 5], sums.small[i : i + 5], sums.in_spot[i]
    n = (a[0] + a[4] + FOUR * (a[1] + a[3]) + SIX * a[2]) / np.float32(weight)
    k = np.float64(sums.in_ring[i])
    inner = np.float64(t[0] + t[1] + t[2] + t[3] + t[4])
    ring = max(_photons_around(sums, i) - inner, 0.0) / k
    return n, np.float32(weight) / _ALL / _ONE, k, ring


@njit(cache=True)
def scan(sums, counts, use, smooth, same, windows, limits):
    """Tables of the pixels and of the places that stand out in windows.

    Args:
        sums: `squares.Squares`: memory.
        counts: (n_slow, n_fast) float32: photons >= 0.
        use: (n_slow, n_fast) bool: pixels that are asked, and that make up places.
        smooth: (n_slow, n_fast) bool: pixels that tell what is expected.
        same: True if both are the same.
        windows: (n, 4) int64: first and end row, first and end column.
        limits: -ln of the probability of a false alarm, of pixels and of places; 0:
            they are not looked for.
    """
    pixels, places = empty_table(), empty_table()
    n_pixels = n_places = 0
    for y0, y1, x0, x1 in windows:
        window = y0, y1, x0, x1
        width, wide = x1 - x0, x1 - x0 + 2 * REACH
        flags = _flags(sums, counts, use, smooth, same, window, limits)
        for i in sums.hits[: marked(flags, sums.hits)]:
            if i % wide >= width:
                continue
            key = (y0 + i // wide) * counts.shape[1] + x0 + i % wide
            if flags[i] & PIXEL:
                n, mean = sums.photons[i + REACH * (wide + 1)], _mean_around(sums, i)
                if pixel_stands_out(n, mean, limits[0]):
                    pixels = add_row(pixels, n_pixels, key, n, 1.0)
                    n_pixels += 1
            if flags[i] & PLACE:
                n, m, k, ring = _place(sums, i)
                if place_stands_out(n, m, _mean_around(sums, i), ring, k, limits[1]):
                    places = add_row(places, n_places, key, n, m, ring, k)
                    n_places += 1
    return pixels[:n_pixels], places[:n_places]
