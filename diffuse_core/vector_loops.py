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
def only_used(values, use, start, n, out, used, to):
    """Writes n float32 that count, others as 0; and 1 or 0 as uint8.

    Args:
        values, use: (size,) float32, bool, from `start` on.
        out, used: (size,) float32, uint8, from `to` on.
    """
    start, to = np.uintp(start), np.uintp(to)
    for i in range(np.uintp(n)):
        out[to + i] = values[start + i] if use[start + i] else ZERO
    for i in range(np.uintp(n)):
        used[to + i] = use[start + i]


@njit(cache=True, error_model="numpy")
def columns_13(terms, at, wide, n, out):
    """Writes the sums of n columns of 13 terms, from `at` on, `wide` apart.

    Args:
        terms: (size,) float32 or uint8.
        out: (n,) or more, of that type.
    """
    i0, wide = np.uintp(at), np.uintp(wide)
    i1, i2, i3 = i0 + wide, i0 + wide * np.uintp(2), i0 + wide * np.uintp(3)
    step = wide * np.uintp(4)
    j0, j1, j2, j3 = i0 + step, i1 + step, i2 + step, i3 + step
    k0, k1, k2, k3 = j0 + step, j1 + step, j2 + step, j3 + step
    last = k0 + step
    for i in range(np.uintp(n)):
        a = (terms[i0 + i] + terms[i1 + i]) + (terms[i2 + i] + terms[i3 + i])
        b = (terms[j0 + i] + terms[j1 + i]) + (terms[j2 + i] + terms[j3 + i])
        c = (terms[k0 + i] + terms[k1 + i]) + (terms[k2 + i] + terms[k3 + i])
        out[i] = (a + b) + (c + terms[last + i])


@njit(cache=True, error_model="numpy")
def fours(terms, n, out):
    """Writes n sums of 4 neighbours, the first of them that of the place."""
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    for i in range(np.uintp(n)):
        out[i] = (terms[i] + terms[i + one]) + (terms[i + two] + terms[i + three])


@njit(cache=True, error_model="numpy")
def small_columns(terms, weighted, at, wide, n, out, spot):
    """Writes sums of n columns of 5 `terms`; and of 5 `weighted` with 1, 4, 6, 4, 1.

    Args:
        terms, weighted: (size,) float32, `wide` apart from `at` on.
        out, spot: (n,) or more.
    """
    a, wide = np.uintp(at), np.uintp(wide)
    b, c = a + wide, a + wide * np.uintp(2)
    d, e = b + wide * np.uintp(2), c + wide * np.uintp(2)
    for i in range(np.uintp(n)):
        out[i] = (
            (terms[a + i] + terms[e + i]) + (terms[b + i] + terms[d + i])
        ) + terms[c + i]
        spot[i] = (
            (weighted[a + i] + weighted[e + i])
            + FOUR * (weighted[b + i] + weighted[d + i])
        ) + SIX * weighted[c + i]


@njit(cache=True, error_model="numpy")
def small_column_pixels(terms, weighted, at, wide, n, out, spot):
    """As `small_columns`, of uint8."""
    a, wide = np.uintp(at), np.uintp(wide)
    b, c = a + wide, a + wide * np.uintp(2)
    d, e = b + wide * np.uintp(2), c + wide * np.uintp(2)
    for i in range(np.uintp(n)):
        out[i] = (
            (terms[a + i] + terms[e + i]) + (terms[b + i] + terms[d + i])
        ) + terms[c + i]
        middle = weighted[c + i]
        spot[i] = (weighted[a + i] + weighted[e + i]) + (
            ((weighted[b + i] + weighted[d + i] + middle) << 2) + (middle << 1)
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
