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
    high_places,
    pixel_stands_out,
    place_may_stand_out,
    place_stands_out,
)
from diffuse_core.ring_sums import REACH, SPOT
from diffuse_core.squares import (
    BLOCK,
    count_large,
    count_small,
    load,
    sum_large,
    sum_small,
)
from diffuse_core.vector_loops import FOUR, SIX, marked, rows_of_4

KEY, MEAN, PIXELS, RING_MEAN, RING_PIXELS = range(5)
"""Columns of a table of places: y n_fast + x, the counts there, and of how many pixels
they are the mean; the mean of the ring around, and its pixels."""

_ALL = np.float32(256.0)
_ONE = np.float32(ONE_PIXEL)


@njit(cache=True)
def empty_table():
    """(rows, 5) float64."""
    return np.empty((256, 5))


@njit(cache=True)
def longer(table, n, more):
    """The table or list, longer if there is no room for more after the first n."""
    while n + more > len(table):
        table = np.concatenate((table, np.empty_like(table)))
    return table


@njit(cache=True)
def in_order(keys, shape):
    """(n,) int64: where the keys of pixels of an image are, in order."""
    rows = np.zeros(shape[0] + 1, np.int64)
    for key in keys:
        rows[int(key) // shape[1] + 1] += 1
    for row in range(shape[0]):
        rows[row + 1] += rows[row]
    result = np.empty(len(keys), np.int64)
    first = rows.copy()
    for i in range(len(keys)):
        row = int(keys[i]) // shape[1]
        at = rows[row]
        rows[row] += 1
        while at > first[row] and keys[result[at - 1]] > keys[i]:
            result[at] = result[at - 1]
            at -= 1
        result[at] = i
    return result


@njit(cache=True)
def _test(n_hits, flags, hits, of_large, of_small, values, window, n_fast, limits, to):
    """Writes what was flagged in a block and passes the tests of `quick_tests`; returns
    how many pixels and places.

    Args:
        n_hits: Of `marked`.
        flags, hits: See `squares.Squares`.
        of_large, of_small: `large`, `fours` and `in_large`; `small`, `spot`, `in_spot`
            and `in_ring`.
        values: (size,) float32: photons of the image.
        window: Row, first and end column of the block.
        n_fast: Of the image.
        limits: As in `scan`.
        to: (n_hits,) or more int64, (n_hits, 5) float64: where to write.
    """
    large, fours, in_large = of_large
    small, spot, in_spot, in_ring = of_small
    pixels, places = to
    y, x0, x1 = window
    wide = x1 - x0 + 2 * REACH
    n_pixels = n_places = 0
    end, key0 = wide, y * n_fast + x0
    for hit in range(n_hits):
        i = hits[hit]
        while i >= end:
            end += wide
            key0 += n_fast - wide
        if i >= end - 2 * REACH:
            continue
        key = key0 + i
        around = np.float64((fours[i] + fours[i + 4]) + (fours[i + 8] + large[i + 12]))
        mean = np.float32(around / in_large[i])
        if flags[i] & PIXEL and pixel_stands_out(values[key], mean, limits[0]):
            pixels[n_pixels] = key
            n_pixels += 1
        if flags[i] & PLACE:
            weight = np.float32(in_spot[i])
            ends, sides = spot[i] + spot[i + 4], spot[i + 1] + spot[i + 3]
            n, m = (ends + FOUR * sides + SIX * spot[i + 2]) / weight, weight / _ALL
            m /= _ONE
            inner = small[i] + small[i + 1] + small[i + 2] + small[i + 3] + small[i + 4]
            k = np.float64(in_ring[i])
            ring = max(around - np.float64(inner), 0.0) / k
            if place_may_stand_out(n, m, mean, ring, limits[1]):
                places[n_places, KEY], places[n_places, MEAN] = key, n
                places[n_places, PIXELS], places[n_places, RING_MEAN] = m, ring
                places[n_places, RING_PIXELS] = k
                n_places += 1
    return n_pixels, n_places


@njit(cache=True)
def look(sums, counts, use, smooth, same, windows, limits):
    """As `scan`, with more places: all that the tests of vectors do not rule out.

    Arrays are taken out of `sums` before the loops: to count references to them costs
    as much as the sums of a block.
    """
    photons, pixels, rows, pixel_rows, spot_photons, spot_pixels = sums[:6]
    if same:
        spot_photons, spot_pixels = photons, pixels
    large, fours, in_large, small, in_ring, spot, in_spot = sums[6:13]
    columns, column_fours, high, flags, hits = sums[13:]
    found, places = np.empty(256, np.int64), empty_table()
    n_found = n_places = 0
    n_fast, values = counts.shape[1], counts.reshape(-1)
    for y0, y1, x0, x1 in windows:
        wide = x1 - x0 + 2 * REACH
        more = (y1 - y0 + 2 * REACH - 3) * wide
        load(photons, pixels, counts, smooth, (y0, y1, x0, x1), REACH)
        if not same:
            load(spot_photons, spot_pixels, counts, use, (y0, y1, x0, x1), SPOT)
        rows_of_4(photons, wide, more, rows)
        rows_of_4(pixels, wide, more, pixel_rows)
        block = max(BLOCK // wide, 1)
        for y in range(y0, y1, block):
            at = (y - y0) * wide
            centre = at + REACH * (wide + 1)
            n = min(block, y1 - y) * wide - 2 * REACH
            sum_large(photons, rows, at, wide, n, large, fours)
            count_large(
                pixels, pixel_rows, at, wide, n, columns, column_fours, in_large
            )
            if limits[0] > 0.0:
                flag_pixels(
                    spot_photons,
                    spot_pixels,
                    centre,
                    fours,
                    large,
                    in_large,
                    flags,
                    n,
                    limits[0],
                )
            else:
                flags[:n] = 0
            if limits[1] > 0.0:
                sum_small(photons, rows, spot_photons, at, wide, n, small, spot)
                count_small(
                    pixels,
                    pixel_rows,
                    spot_pixels,
                    at,
                    wide,
                    n,
                    in_large,
                    columns,
                    column_fours,
                    in_ring,
                    in_spot,
                )
                high_places(
                    fours, large, small, spot, in_spot, in_ring, high, n, limits[1]
                )
                flag_places(spot_pixels, centre, in_spot, in_ring, high, flags, n)
            n_hits = marked(flags, n, hits)
            if n_hits == 0:
                continue
            found = longer(found, n_found, n_hits)
            places = longer(places, n_places, n_hits)
            to = found[n_found:], places[n_places:]
            more_found, more_places = _test(
                n_hits,
                flags,
                hits,
                (large, fours, in_large),
                (small, spot, in_spot, in_ring),
                values,
                (y, x0, x1),
                n_fast,
                limits,
                to,
            )
            n_found += more_found
            n_places += more_places
    return found[:n_found], places[:n_places]


@njit(cache=True)
def scan(sums, counts, use, smooth, same, windows, limits):
    """Keys of the pixels and table of the places that stand out in windows.

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
    pixels, places = look(sums, counts, use, smooth, same, windows, limits)
    n = 0
    for i in range(len(places)):
        mean, m = places[i, MEAN], places[i, PIXELS]
        here, k = places[i, RING_MEAN], places[i, RING_PIXELS]
        if place_stands_out(mean, m, here, k, limits[1]):
            places[n] = places[i]
            n += 1
    return pixels, places[:n]
