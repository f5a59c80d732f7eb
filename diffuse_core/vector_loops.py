"""Sums of neighbours in whole windows, written as plain loops over flat arrays.

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
def five(terms, step, n):
    """Views of five terms `step` apart, for n places each."""
    return (
        terms[:n],
        terms[step : n + step],
        terms[2 * step : n + 2 * step],
        terms[3 * step : n + 3 * step],
        terms[4 * step : n + 4 * step],
    )


@njit(cache=True, error_model="numpy")
def sum_4(terms, step, out):
    """Writes the sums of 4 terms `step` apart, the first of them that of the place.

    Args:
        terms: (n + 3 step,) or more, float32 or uint8.
        step: 1 or the length of a row.
        out: (n,), of that type.
    """
    n = out.size
    a, b, c = terms[:n], terms[step : n + step], terms[2 * step : n + 2 * step]
    d = terms[3 * step : n + 3 * step]
    for i in range(n):
        out[i] = (a[i] + b[i]) + (c[i] + d[i])


@njit(cache=True, error_model="numpy")
def sum_13(fours, terms, step, out):
    """Writes the sums of 13 terms `step` apart from what `sum_4` gave; the same way."""
    n = out.size
    a, b, c = fours[:n], fours[4 * step : n + 4 * step], fours[8 * step : n + 8 * step]
    d = terms[12 * step : n + 12 * step]
    for i in range(n):
        out[i] = (a[i] + b[i]) + (c[i] + d[i])


@njit(cache=True, error_model="numpy")
def sum_5(terms, step, out):
    """Writes the sums of 5 terms `step` apart; as `sum_4`."""
    a, b, c, d, e = five(terms, step, out.size)
    for i in range(out.size):
        out[i] = (a[i] + e[i]) + (b[i] + d[i]) + c[i]


@njit(cache=True, error_model="numpy")
def weighted_5(terms, step, out):
    """Writes a + 4 b + 6 c + 4 d + e of float32 terms; as `sum_4`."""
    a, b, c, d, e = five(terms, step, out.size)
    for i in range(out.size):
        out[i] = (a[i] + e[i]) + FOUR * (b[i] + d[i]) + SIX * c[i]


@njit(cache=True, error_model="numpy")
def weights_5(terms, step, out):
    """Writes a + 4 b + 6 c + 4 d + e of uint8 terms as uint8 or uint16."""
    a, b, c, d, e = five(terms, step, out.size)
    for i in range(out.size):
        out[i] = (a[i] + e[i]) + ((b[i] + d[i]) << 2) + (c[i] << 2) + (c[i] << 1)


@njit(cache=True)
def marked(flags, places):
    """Writes where flags are not 0, in order, and returns how many are.

    Args:
        flags: (n,) uint8, n a multiple of 8.
        places: (n,) int64.
    """
    words = flags.view(np.uint64)
    n = 0
    for word in range(words.size):
        if words[word] != 0:
            for i in range(8 * word, 8 * word + 8):
                if flags[i]:
                    places[n] = i
                    n += 1
    return n
