"""Sums of neighbours in rows of windows, written as plain loops over flat arrays.

A window of an image is a flat array of rows with a margin; the neighbour below is one
row further on, the neighbour to the right one element. What runs over the end of a row
is never looked at. Without branches and without wrapped indices, compilers make vector
instructions of these loops, and a sum costs a fraction of a nanosecond a pixel.
"""

from __future__ import annotations

import numpy as np
from numba import njit

ZERO = np.float32(0.0)
FOUR = np.float32(4.0)
SIX = np.float32(6.0)


@njit(cache=True, error_model="numpy")
def only_used(values, use, start, n_fast, rows, n, out, used, to, wide):
    """Writes n float32 of some rows that count, others as 0; and 1 or 0 as uint8.

    Args:
        values, use: (size,) float32, bool, from `start` on, rows `n_fast` apart.
        out, used: (size,) float32, uint8, from `to` on, rows `wide` apart.
    """
    for row in range(rows):
        a, b = np.uintp(start + row * n_fast), np.uintp(to + row * wide)
        for i in range(np.uintp(n)):
            value = values[a + i]
            out[b + i] = value if use[a + i] else ZERO
        for i in range(np.uintp(n)):
            used[b + i] = use[a + i]


@njit(cache=True, error_model="numpy")
def rows_of_4(terms, wide, n, out):
    """Writes n sums of 4 terms of a column, `wide` apart.

    Args:
        terms: (n + 3 wide,) or more, float32 or uint8.
        out: (n,) or more, of that type.
    """
    wide = np.uintp(wide)
    two, three = wide + wide, wide + wide + wide
    for i in range(np.uintp(n)):
        out[i] = (terms[i] + terms[i + wide]) + (terms[i + two] + terms[i + three])


@njit(cache=True, error_model="numpy")
def columns_13(terms, rows, at, wide, n, out):
    """Writes the sums of n columns of 13 terms, from `at` on.

    Args:
        terms, rows: (size,) float32 or uint8, and of `rows_of_4`.
        out: (n,) or more, of that type.
    """
    a, four = np.uintp(at), np.uintp(4 * wide)
    b, c = a + four, a + four + four
    last = c + four
    for i in range(np.uintp(n)):
        out[i] = (rows[a + i] + rows[b + i]) + (rows[c + i] + terms[last + i])


@njit(cache=True, error_model="numpy")
def columns_5(terms, rows, at, wide, n, out):
    """As `columns_13`, of 5 terms."""
    a, last = np.uintp(at), np.uintp(at + 4 * wide)
    for i in range(np.uintp(n)):
        out[i] = rows[a + i] + terms[last + i]


@njit(cache=True, error_model="numpy")
def fours(terms, n, out):
    """Writes n sums of 4 neighbours, the first of them that of the place."""
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    for i in range(np.uintp(n)):
        out[i] = (terms[i] + terms[i + one]) + (terms[i + two] + terms[i + three])


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def spot_columns(terms, at, wide, n, out):
    """Writes the sums of n columns of 5 terms with the weights 1, 4, 6, 4, 1.

    Args:
        terms: (size,) float32, `wide` apart from `at` on.
        out: (n,) or more.
    """
    a, wide = np.uintp(at), np.uintp(wide)
    b, c = a + wide, a + wide + wide
    d, e = b + wide + wide, c + wide + wide
    for i in range(np.uintp(n)):
        sides = terms[b + i] + terms[d + i]
        out[i] = (terms[a + i] + terms[e + i]) + FOUR * sides + SIX * terms[c + i]


@njit(cache=True, error_model="numpy")
def spot_column_pixels(terms, at, wide, n, out):
    """As `spot_columns`, of uint8."""
    a, wide = np.uintp(at), np.uintp(wide)
    b, c = a + wide, a + wide + wide
    d, e = b + wide + wide, c + wide + wide
    for i in range(np.uintp(n)):
        middle = terms[c + i]
        out[i] = (terms[a + i] + terms[e + i]) + (
            ((terms[b + i] + terms[d + i] + middle) << 2) + (middle << 1)
        )


@njit(cache=True, error_model="numpy")
def large_pixels(column, fours, n, in_large):
    """Writes the pixels of n large squares.

    Args:
        column, fours: (n + 12,) uint8: of columns of squares, and 4 of them.
        in_large: (n,) or more, uint8.
    """
    four, eight, twelve = np.uintp(4), np.uintp(8), np.uintp(12)
    for i in range(np.uintp(n)):
        in_large[i] = (fours[i] + fours[i + four]) + (
            fours[i + eight] + column[i + twelve]
        )


@njit(cache=True, error_model="numpy")
def ring_pixels(in_large, small, n, in_ring):
    """Writes the pixels of n large squares that are not in the small ones."""
    one, two, three, four = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4)
    for i in range(np.uintp(n)):
        inner = ((small[i] + small[i + four]) + (small[i + one] + small[i + three])) + (
            small[i + two]
        )
        in_ring[i] = in_large[i] - inner


@njit(cache=True, error_model="numpy")
def spot_weights(spot, n, in_spot):
    """Writes the weights of n spots, uint16, from those of their columns, uint8."""
    one, two, three, four = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(4)
    for i in range(np.uintp(n)):
        middle = np.uint16(spot[i + two])
        sides = np.uint16(spot[i + one]) + np.uint16(spot[i + three])
        ends = np.uint16(spot[i]) + np.uint16(spot[i + four])
        in_spot[i] = ends + (sides << 2) + (middle << 2) + (middle << 1)


@njit(cache=True)
def marked(flags, n, places):
    """Writes where the first n flags are not 0, in order, and returns how many are.

    Args:
        flags: (size,) uint8, size a multiple of 8; those after n up to a multiple of 8
            are set to 0.
        places: (size,) int64.
    """
    words = flags.view(np.uint64)
    n_words = (n + 7) // 8
    for i in range(n, 8 * n_words):
        flags[i] = 0
    found = 0
    for word in range(n_words):
        if words[word] != 0:
            for i in range(8 * word, 8 * word + 8):
                if flags[i]:
                    places[found] = i
                    found += 1
    return found
