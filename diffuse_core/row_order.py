"""Rows sorted by voxel and panel, equal ones added up, in compiled code."""

from __future__ import annotations

import numpy as np
from numba import njit

DIGIT = 11


@njit(cache=True, nogil=True)
def order_of(key):
    """(n,) int64: stable order of (n,) int64 keys, none negative.

    Least significant digits first; digits in which no two keys differ cost nothing.
    """
    n = len(key)
    order, other = np.arange(n), np.empty(n, np.int64)
    keys, other_keys = key.copy(), np.empty(n, np.int64)
    differ = np.int64(0)
    for i in range(n):
        differ |= key[i] ^ key[0]
    starts = np.empty((1 << DIGIT) + 1, np.int64)
    last = (1 << DIGIT) - 1
    shift = 0
    while shift < 63 and differ >> shift:
        if (differ >> shift) & 1:
            starts[:] = 0
            for i in range(n):
                starts[((key[i] >> shift) & last) + 1] += 1
            for digit in range(last + 1):
                starts[digit + 1] += starts[digit]
            for i in range(n):
                digit = (keys[i] >> shift) & last
                place = starts[digit]
                starts[digit] = place + 1
                other[place], other_keys[place] = order[i], keys[i]
            order, other = other, order
            keys, other_keys = other_keys, keys
            shift += DIGIT
        else:
            shift += 1
    return order


@njit(cache=True, nogil=True)
def add_equal(order, key, panel, sums):
    """Rows of equal key and panel added up, in the order given.

    Args:
        order: (n,) int64: an order in which such rows follow one another.
        key: (n,) int64.
        panel: (n,) int16.
        sums: (n, m) float64.

    Returns:
        key (k,), panel (k,), sums (k, m).
    """
    n, width = sums.shape
    k = -1
    keys, panels = np.empty_like(key), np.empty_like(panel)
    total = np.empty((n, width))
    for i in range(n):
        row = order[i]
        if k < 0 or keys[k] != key[row] or panels[k] != panel[row]:
            k += 1
            keys[k], panels[k] = key[row], panel[row]
            for c in range(width):
                total[k, c] = 0.0
        for c in range(width):
            total[k, c] += sums[row, c]
    return keys[: k + 1], panels[: k + 1], total[: k + 1]


def combined(
    key: np.ndarray, panel: np.ndarray, sums: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same as `add_equal`, sorted by key, then panel."""
    if (panel == panel[:1]).all():
        order = order_of(key)
    else:
        order = order_of(panel.astype(np.int64))
        order = order[order_of(key[order])]
    return add_equal(order, key, panel, sums)


@njit(cache=True, nogil=True, error_model="numpy")
def split_sums(sums):
    """Sums and means of rows in one pass: (n, 9) float64, `kernels.COLUMNS`, apart.

    Returns:
        (4, n) float64: counts, exposure, background and its variance; (5, n) float32:
        pixels, and the means of phi, x, y and s over them.
    """
    n = len(sums)
    totals, means = np.empty((4, n)), np.empty((5, n), np.float32)
    for i in range(n):
        pixels = sums[i, 1]
        totals[0, i] = sums[i, 0]
        means[0, i] = pixels
        for c in range(3):
            totals[c + 1, i] = sums[i, c + 2]
        for c in range(4):
            means[c + 1, i] = sums[i, c + 5] / pixels
    return totals, means
