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
from diffuse_core.squares import BLOCK, load, sum_large, sum_small
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


@njit(cache=True, inline="always")
def _flag(sums, same, at, wide, n, limits):
    """Sums and flags of n places; arguments as in `scan` and `squares.sum_large`."""
    centre = at + REACH * (wide + 1)
    pixels = sums.pixels if same else sums.spot_pixels
    sum_large(sums, at, wide, n)
    if limits[1] > 0.0:
        sum_small(sums, same, at, wide, n)
    if limits[0] > 0.0:
        photons = sums.photons if same else sums.spot_photons
        flag_pixels(
            photons,
            pixels,
            centre,
            sums.fours,
            sums.large,
            sums.in_large,
            sums.flags,
            n,
            limits[0],
        )
    else:
        sums.flags[:n] = 0
    if limits[1] > 0.0:
        flag_places(
            pixels,
            centre,
            sums.fours,
            sums.large,
            sums.small,
            sums.spot,
            sums.in_spot,
            sums.in_ring,
            sums.flags,
            n,
            limits[1],
        )


@njit(cache=True)
def _with_room(table, n, more):
    """The table, longer if there is no room for more rows after the first n."""
    while n + more > len(table):
        table = np.concatenate((table, np.empty_like(table)))
    return table


@njit(cache=True)
def _test(sums, n_hits, values, window, n_fast, limits, pixels, places):
    """Writes the rows of what was flagged in a block and passes the tests of
    `quick_tests`; returns how many pixels and places.

    Args:
        sums, limits: As in `scan`.
        n_hits: Of `marked`.
        values: (size,) float32: photons of the image.
        window: Row, first and end column of the block.
        n_fast: Of the image.
        pixels, places: (n_hits, 5) or more float64: where to write.
    """
    flags, hits = sums.flags, sums.hits
    large, fours, in_large = sums.large, sums.fours, sums.in_large
    small, spot, in_spot, in_ring = sums.small, sums.spot, sums.in_spot, sums.in_ring
    y, x0, x1 = window
    wide = x1 - x0 + 2 * REACH
    n_pixels = n_places = 0
    for hit in range(n_hits):
        i = hits[hit]
        row, column = i // wide, i % wide
        if column >= x1 - x0:
            continue
        key = (y + row) * n_fast + x0 + column
        around = np.float64((fours[i] + fours[i + 4]) + (fours[i + 8] + large[i + 12]))
        mean = np.float32(around / in_large[i])
        if flags[i] & PIXEL:
            n = values[key]
            if pixel_stands_out(n, mean, limits[0]):
                pixels[n_pixels, KEY], pixels[n_pixels, MEAN] = key, n
                pixels[n_pixels, PIXELS] = 1.0
                n_pixels += 1
        if flags[i] & PLACE:
            weight = np.float32(in_spot[i])
            ends, sides = spot[i] + spot[i + 4], spot[i + 1] + spot[i + 3]
            n, m = (ends + FOUR * sides + SIX * spot[i + 2]) / weight, weight / _ALL
            m /= _ONE
            inner = small[i] + small[i + 1] + small[i + 2] + small[i + 3] + small[i + 4]
            k = np.float64(in_ring[i])
            ring = max(around - np.float64(inner), 0.0) / k
            if place_stands_out(n, m, mean, ring, k, limits[1]):
                places[n_places, KEY], places[n_places, MEAN] = key, n
                places[n_places, PIXELS], places[n_places, RING_MEAN] = m, ring
                places[n_places, RING_PIXELS] = k
                n_places += 1
    return n_pixels, n_places


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
    n_fast, values = counts.shape[1], counts.reshape(-1)
    for y0, y1, x0, x1 in windows:
        window = y0, y1, x0, x1
        wide = x1 - x0 + 2 * REACH
        load(sums.photons, sums.pixels, counts, smooth, window)
        if not same:
            load(sums.spot_photons, sums.spot_pixels, counts, use, window)
        rows = max(BLOCK // wide, 1)
        for y in range(y0, y1, rows):
            at = (y - y0) * wide
            n = min(rows, y1 - y) * wide - 2 * REACH
            _flag(sums, same, at, wide, n, limits)
            n_hits = marked(sums.flags, n, sums.hits)
            if n_hits == 0:
                continue
            pixels = _with_room(pixels, n_pixels, n_hits)
            places = _with_room(places, n_places, n_hits)
            to = pixels[n_pixels:], places[n_places:]
            more = _test(sums, n_hits, values, (y, x0, x1), n_fast, limits, *to)
            n_pixels += more[0]
            n_places += more[1]
    return pixels[:n_pixels], places[:n_places]
