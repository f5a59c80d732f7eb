"""Pixels of a tile: what all images have in common of them, and their runs.

A tile is a rectangle of `COLUMNS` columns, row after row. Neighbours in a column are
taken together, so that the processor works on many columns at once.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from diffuse_core.local_keys import NOWHERE, local_keys
from diffuse_core.vectors import changes_of_eight, write_eight

COLUMN_BITS = 8
COLUMNS = 1 << COLUMN_BITS
ROWS = 32
"""Pixels of a tile, fast and slow: what it needs stays in the second-level cache. Those
beyond the edge of the panel, to the full number of columns, do not count."""
STRIP = 8
"""Rows of which the keys are written together."""
_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], 1, bitorder="little")
_PLACES = np.argsort(1 - _BITS, axis=1, kind="stable").astype(np.uint32).reshape(-1)
"""Which bits of a byte are set, for each byte; then which are not."""
_NUMBER = _BITS.sum(axis=1, dtype=np.uint8)


@njit(cache=True, nogil=True)
def pick_rows(keep, y0, y1, x0, x1):
    """The box of a tile without the first and last rows of which nothing is kept."""
    while y0 < y1 and not keep[y0, x0:x1].any():
        y0 += 1
    while y0 < y1 and not keep[y1 - 1, x0:x1].any():
        y1 -= 1
    return y0, y1, x0, x1


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _vectors(s, middle, lx, ly, lz):
    """Writes the vectors of a row; the largest parts of them."""
    m0, m1, m2 = middle
    r0 = r1 = r2 = np.float32(0.0)
    for p in range(len(s)):
        x, y, z = s[p, 0] - m0, s[p, 1] - m1, s[p, 2] - m2
        lx[p], ly[p], lz[p] = x, y, z
        r0, r1, r2 = max(r0, abs(x)), max(r1, abs(y)), max(r2, abs(z))
    return r0, r1, r2


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _lengths(s, length):
    """Writes |s| of a row; the largest."""
    longest = np.float32(0.0)
    for p in range(len(s)):
        x, y, z = s[p, 0], s[p, 1], s[p, 2]
        norm = np.sqrt(x * x + y * y + z * z)
        length[p] = norm
        longest = max(longest, norm)
    return longest


@njit(cache=True, nogil=True)
def _sum_row(keep, response, length, above, below):
    """Writes sums until a row of response, where it is kept, and |s|."""
    for x in range(len(keep)):
        value = response[x] if keep[x] else np.float32(0.0)
        below[x, 0] = above[x, 0] + value
        below[x, 1] = above[x, 1] + length[x]


@njit(cache=True, nogil=True)
def pick(keep, s, response, background, box, local, length, before, rates):
    """What all images have in common of the pixels of a tile.

    Args:
        keep: (n_slow, n_fast) bool.
        s: (n_slow, n_fast, 3) float32, 1/A.
        response: (n_slow, n_fast) float32.
        background: (n_slow, n_fast) float32, or (0, 0).
        box: First and last row, first and last column.
        local: (3, n) float32, written: s less that of the middle.
        length: (COLUMNS,) float32: memory.
        before: (n + COLUMNS, 2) float64, written: sums of response and |s| over the
            pixels above each.
        rates: (n + COLUMNS,) float64, written where there is a background: its sums.

    Returns:
        Largest |s|, (3,) float64 s of the middle and (3,) float64 how far the tile
        reaches from there (1/A).
    """
    y0, y1, x0, x1 = box
    middle, radius = np.empty(3), np.zeros(3)
    longest = np.float32(0.0)
    vector = s[(y0 + y1) // 2, (x0 + x1) // 2]
    vector = vector[0], vector[1], vector[2]
    middle[0], middle[1], middle[2] = vector
    for y in range(y0, y1):
        first = (y - y0) * COLUMNS
        last, stop = first + x1 - x0, first + COLUMNS
        longest = max(longest, _lengths(s[y, x0:x1], length))
        found = _vectors(
            s[y, x0:x1],
            vector,
            local[0, first:last],
            local[1, first:last],
            local[2, first:last],
        )
        for c in range(3):
            radius[c] = max(radius[c], found[c])
            local[c, last:stop] = local[c, last - 1]
        _sum_row(
            keep[y, x0:x1],
            response[y, x0:x1],
            length,
            before[first:last],
            before[stop : last + COLUMNS],
        )
        if background.size:
            for x in range(x1 - x0):
                rate = background[y, x0 + x] if keep[y, x0 + x] else np.float32(0.0)
                rates[stop + x] = rates[first + x] + rate
    return np.float64(longest), middle, radius


@njit(cache=True, nogil=True)
def write_keys(terms, local, keep, image, mask, limits, box, keys):
    """Writes the local keys of the pixels of a tile; `NOWHERE` if not to be used.

    Args:
        terms: Of `local_keys.key_terms`.
        local: Of `pick`.
        keep: (n_slow, n_fast) bool.
        image: (n_slow * n_fast,) raw values.
        mask: (n_slow * n_fast,) bool, True = keep, or (0,).
        limits: Lowest and highest raw value that may be used.
        box: First and last row, first and last column.
        keys: (n,) int32, written.
    """
    low, high = limits
    y0, y1, x0, x1 = box
    columns = x1 - x0
    matrix, begin = terms
    n_fast = keep.shape[1]
    for start in range(y0, y1, STRIP):
        end = min(start + STRIP, y1)
        strip = slice((start - y0) * COLUMNS, (end - y0) * COLUMNS)
        x, y, z = local[0, strip], local[1, strip], local[2, strip]
        local_keys(matrix, begin, x, y, z, keys[strip])
        for row in range(start, end):
            source = row * n_fast + x0
            values = image[source : source + columns]
            use = keep[row, x0:x1]
            first = np.uint64((row - y0) * COLUMNS)
            if mask.size:
                kept = mask[source : source + columns]
                for c in range(columns):
                    p = first + np.uint64(c)
                    good = use[c] & kept[c] & (values[c] >= low) & (values[c] <= high)
                    keys[p] = keys[p] if good else NOWHERE
            else:
                for c in range(columns):
                    p = first + np.uint64(c)
                    good = use[c] & (values[c] >= low) & (values[c] <= high)
                    keys[p] = keys[p] if good else NOWHERE
            for c in range(columns, COLUMNS):
                keys[first + np.uint64(c)] = NOWHERE


@njit(cache=True, nogil=True)
def sum_runs(image, n_fast, box, keys, sums):
    """Writes sums of the raw values of each pixel and those above with the same key.

    Args:
        image: (n_slow * n_fast,) raw values.
        n_fast: Columns of the panel.
        box: First and last row, first and last column.
        keys: int32: of the row above the box, then of its pixels.
        sums: In the same way, of a type for sums of raw values, written.
    """
    y0, y1, x0, x1 = box
    none = sums[0] * 0
    columns = x1 - x0
    for y in range(y1 - y0):
        above = np.uintp(y * COLUMNS)
        here = above + np.uintp(COLUMNS)
        source = (y0 + y) * n_fast + x0
        values = image[source : source + columns]
        for x in range(columns):
            p, q = above + np.uintp(x), here + np.uintp(x)
            sums[q] = (sums[p] if keys[q] == keys[p] else none) + values[x]


@njit(cache=True, nogil=True)
def find_runs(n, keys, ends):
    """Number of runs of equal keys down the columns of a tile.

    Args:
        n: Number of pixels.
        keys: int32: of the row above the tile, of its pixels, and of the row below.
        ends: (n + 8,) uint32, written: the last pixels of runs.
    """
    eight, width = np.uint64(8), np.uint64(COLUMNS)
    m = here = np.uint64(0)
    for _ in range(n // 8):
        after = here + width
        changes = changes_of_eight(keys, after, after + width)
        write_eight(ends, m, _PLACES, changes * eight, np.uint32(here))
        m += np.uint64(_NUMBER[changes])
        here += eight
    return np.int64(m)
