"""Rows of the voxels of a tile: found by their keys, and what is added to them."""

from __future__ import annotations

import numpy as np
from numba import njit

from diffuse_core.fused_tile import COLUMN_BITS, COLUMNS
from diffuse_core.local_keys import NOWHERE, whole_key
from diffuse_core.vectors import add_run

ONE_PIXEL = np.uint64(1 << 40)
"""What a pixel adds to the first of `places`; twice the sum of the numbers (in the
tile) of the pixels of all images of a chunk stays below it."""


@njit(cache=True, nogil=True)
def find_rows(keys, n_runs, ends, spread, row_of, slots, n_found, found, rows, unsure):
    """Writes the rows of runs; number of rows so far, and of unsure pixels.

    Args:
        keys: Local keys.
        n_runs, ends: Number of runs, and where their keys are.
        spread: Multiplier and shift (uint64) that give the slot of a key.
        row_of, slots: (2^k,) uint32 and (n,) uint32: the row of a slot, the slot of a
            row. A slot is empty unless its row knows of it, so nothing is ever cleared.
        n_found: Number of rows until then.
        found: (n,) int64, written: keys of the rows.
        rows: (n,) uint32, written: that of `NOWHERE` for unsure pixels.
        unsure: (n,) uint32, written: the runs that are unsure pixels.
    """
    multiplier, shift = spread
    wrap = np.uint64(len(row_of) - 1)
    after = np.uint32(n_found)
    n_unsure = 0
    for e in range(n_runs):
        key = np.int64(keys[np.uint64(ends[e])])
        if key < NOWHERE:
            unsure[n_unsure] = e
            n_unsure += 1
            key = np.int64(NOWHERE)
        slot = (np.uint64(key) * multiplier) >> shift
        row = row_of[slot]
        while row >= after or found[row] != key:
            if row >= after or slots[row] != slot:
                row = after
                row_of[slot], slots[row] = row, slot
                found[row] = key
                after += np.uint32(1)
                break
            slot = (slot + np.uint64(1)) & wrap
            row = row_of[slot]
        rows[e] = row
    return np.int64(after), n_unsure


@njit(cache=True, nogil=True)
def add_runs(n_runs, ends, rows, counts, before, scale, phi, tops, sums, places):
    """Adds the runs of an image to the rows of their voxels.

    Args:
        n_runs, ends: Of `find_runs`.
        rows: Of `find_rows`.
        counts: Of `sum_runs`.
        before: Of `pick`.
        scale, phi: Of the image (s, deg).
        tops: (COLUMNS,) uint64: memory for where the runs of columns begin.
        sums: (n, 4) float64, written: response times scale, |s|, raw values, phi of
            the rows.
        places: (n, 2) uint64, written: see `write_rows`.
    """
    two, four, width = np.uint64(2), np.uint64(4), np.uint64(COLUMNS)
    column, bits = np.uint64(COLUMNS - 1), np.uint64(COLUMN_BITS)
    for x in range(COLUMNS):
        tops[x] = x
    for e in range(n_runs):
        last = np.uint64(ends[e])
        row = np.uint64(rows[e])
        x, stop = last & column, last + width
        first = tops[x]
        tops[x] = stop
        n = (stop - first) >> bits
        add_run(
            sums,
            row * four,
            before,
            two * stop,
            two * first,
            scale,
            np.float64(counts[stop]),
            np.float64(np.int64(n)) * phi,
        )
        places[row, 0] += n * (ONE_PIXEL + first + last)
        places[row, 1] += n * x


@njit(cache=True, nogil=True)
def add_background(n_runs, ends, rows, rates, variances, time, tops, sums):
    """Adds background and shared variance of an image to (n, 2) float64 of the rows."""
    for x in range(COLUMNS):
        tops[x] = x
    for e in range(n_runs):
        row, last = rows[e], np.uint64(ends[e])
        x, stop = last & np.uint64(COLUMNS - 1), last + np.uint64(COLUMNS)
        first = tops[x]
        tops[x] = stop
        sums[row, 0] += time * (rates[stop] - rates[first])
        sums[row, 1] += variances[stop] - variances[first]


@njit(cache=True, nogil=True)
def write_rows(n, frame, corner, local, sums, places, extra, readout, found, out):
    """Writes keys and `kernels.COLUMNS` of the voxels among n rows; how many.

    Args:
        n: Number of rows.
        frame: Of `key_frame`.
        corner: Row and column of the first pixel of the tile.
        local: (n,) int64: local keys.
        sums: Of `add_runs`.
        places: (n, 2) uint64: number of pixels times `ONE_PIXEL` plus twice the sum of
            their numbers in the tile; sum of their columns.
        extra: Of `add_background`.
        readout: Pedestal and gain.
        found: (n,) int64, written.
        out: (n, 9) float64, written.
    """
    pedestal, gain = readout
    to = 0
    for row in range(n):
        if local[row] == NOWHERE:
            continue
        number = places[row, 0] // ONE_PIXEL
        x = np.int64(places[row, 1])
        y = (np.int64(places[row, 0] - number * ONE_PIXEL) // 2 - x) // COLUMNS
        pixels = np.float64(np.int64(number))
        found[to] = whole_key(frame, local[row])
        out[to, 0] = (sums[row, 2] - pixels * pedestal) / gain
        out[to, 1] = pixels
        out[to, 2] = sums[row, 0]
        out[to, 3], out[to, 4] = extra[row, 0], extra[row, 1]
        out[to, 5] = sums[row, 3]
        out[to, 6] = x + pixels * (corner[1] + 0.5)
        out[to, 7] = y + pixels * (corner[0] + 0.5)
        out[to, 8] = sums[row, 1]
        to += 1
    return to
