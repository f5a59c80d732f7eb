"""Which parts of an image to look at: all of it, or what changed, as windows.

An image is divided into cells of `CELL` x `CELL` pixels; windows are whole cells. They
do not overlap, so nothing is seen twice.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from diffuse_core.squares import HEIGHT, WIDTH

CELL = 8
"""Pixels along the side of a cell."""


@njit(cache=True)
def all_cells(shape):
    """(rows, columns) bool, True: everything is to be looked at."""
    return np.ones((-(-shape[0] // CELL), -(-shape[1] // CELL)), np.bool_)


@njit(cache=True)
def mark(cells, y0, y1, x0, x1):
    """Marks what holds rows y0 ... y1 - 1, columns x0 ... x1 - 1 (inside the image)."""
    for j in range(max(y0, 0) // CELL, min((y1 - 1) // CELL + 1, cells.shape[0])):
        for i in range(max(x0, 0) // CELL, min((x1 - 1) // CELL + 1, cells.shape[1])):
            cells[j, i] = True


@njit(cache=True)
def is_marked(cells, y, x):
    """True if the cell of a pixel is marked."""
    return cells[y // CELL, x // CELL]


@njit(cache=True)
def windows_of(cells, shape):
    """(n, 4) int64: first and end row, first and end column of disjoint rectangles.

    Args:
        cells: (rows, columns) bool: marked cells, all of which the rectangles hold.
        shape: Of the image.
    """
    left = cells.copy()
    result = np.empty((64, 4), np.int64)
    n = 0
    for j in range(cells.shape[0]):
        for i in range(cells.shape[1]):
            if not left[j, i]:
                continue
            right = i
            most = min(cells.shape[1], i + WIDTH // CELL)
            while right < most and left[j, right]:
                right += 1
            below = j
            most = min(cells.shape[0], j + HEIGHT // CELL)
            while below < most and left[below, i:right].all():
                left[below, i:right] = False
                below += 1
            if n == len(result):
                result = np.concatenate((result, np.empty_like(result)))
            result[n, 0], result[n, 1] = j * CELL, min(below * CELL, shape[0])
            result[n, 2], result[n, 3] = i * CELL, min(right * CELL, shape[1])
            n += 1
    return result[:n]
