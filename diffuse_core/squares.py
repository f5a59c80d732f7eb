"""Sums over the squares around all pixels of a window of an image.

The large square reaches `REACH` pixels from its centre, the small one `SPOT`. The terms
of a small one have either all the same weight or those of a spot: along a row and along
a column 1, 4, 6, 4, 1, together 256.

Pixels are counted here. Photons are summed over columns only: whoever looks at them
sums along the row, which is quicker than to write it down.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from diffuse_core.surroundings import REACH, SPOT
from diffuse_core.vector_loops import (
    only_used,
    sum_4,
    sum_5,
    sum_13,
    weighted_5,
    weights_5,
)

HEIGHT, WIDTH = 32, 512
"""Largest window in pixels: what its sums need stays in the cache."""

_ROOM = ((HEIGHT + 2 * REACH) * (WIDTH + 2 * REACH) + 7) // 8 * 8


class Squares(NamedTuple):
    """Sums, as flat arrays of rows `2 REACH` longer than the window.

    Attributes:
        photons, pixels: (n,) float32, uint8: of the window with its margin: counts, 0
            where they do not count, and what counts.
        large, fours: (n,) float32: columns of the large squares, and 4 of them.
        in_large: (n,) uint8: pixels of the large squares.
        small: (n,) float32: columns of the small squares.
        in_ring: (n,) uint8: pixels of the large squares that are not in the small ones.
        spot, in_spot: (n,) float32, uint16: columns with the weights of a spot; the
            weights of the whole square.
        memory, more: (n,) uint8.
        flags, hits: (n,) uint8, int64: what stands out.
    """

    photons: np.ndarray
    pixels: np.ndarray
    large: np.ndarray
    fours: np.ndarray
    in_large: np.ndarray
    small: np.ndarray
    in_ring: np.ndarray
    spot: np.ndarray
    in_spot: np.ndarray
    memory: np.ndarray
    more: np.ndarray
    flags: np.ndarray
    hits: np.ndarray


@njit(cache=True)
def squares():
    """Memory for windows up to `HEIGHT` by `WIDTH`."""
    return Squares(
        np.empty(_ROOM, np.float32),
        np.empty(_ROOM, np.uint8),
        np.empty(_ROOM, np.float32),
        np.empty(_ROOM, np.float32),
        np.empty(_ROOM, np.uint8),
        np.empty(_ROOM, np.float32),
        np.empty(_ROOM, np.uint8),
        np.empty(_ROOM, np.float32),
        np.empty(_ROOM, np.uint16),
        np.empty(_ROOM, np.uint8),
        np.empty(_ROOM, np.uint8),
        np.empty(_ROOM, np.uint8),
        np.empty(_ROOM, np.int64),
    )


@njit(cache=True)
def load(sums, counts, use, window):
    """Writes the photons and pixels of a window and of the margin around it.

    Args:
        sums: `Squares`.
        counts: (n_slow, n_fast) float32, contiguous.
        use: (n_slow, n_fast) bool, contiguous.
        window: First and end row, first and end column.
    """
    y0, y1, x0, x1 = window
    n_slow, n_fast = counts.shape
    values, used = counts.reshape(-1), use.reshape(-1)
    wide = x1 - x0 + 2 * REACH
    left, right = max(x0 - REACH, 0), min(x1 + REACH, n_fast)
    if y0 < REACH or y1 + REACH > n_slow or right - left < wide:
        n = (y1 - y0 + 2 * REACH) * wide
        sums.photons[:n] = 0.0
        sums.pixels[:n] = 0
    for row in range(max(y0 - REACH, 0), min(y1 + REACH, n_slow)):
        start = row * n_fast + left
        to = (row - y0 + REACH) * wide + left - x0 + REACH
        only_used(values, used, start, right - left, sums.photons, sums.pixels, to)


@njit(cache=True)
def sum_large(sums, height, wide):
    """Sums the large squares of `height` rows, each `wide` long with its margin."""
    n = height * wide
    column, fours = sums.large[:n], sums.fours
    in_column, in_fours = sums.memory[:n], sums.more
    sum_4(sums.photons, wide, fours[: n + 8 * wide])
    sum_13(fours, sums.photons, wide, column)
    sum_4(column, 1, fours[: n - 3])
    sum_4(sums.pixels, wide, in_fours[: n + 8 * wide])
    sum_13(in_fours, sums.pixels, wide, in_column)
    sum_4(in_column, 1, in_fours[: n - 3])
    sum_13(in_fours, in_column, 1, sums.in_large[: n - 2 * REACH])


@njit(cache=True)
def sum_small(sums, height, wide):
    """Sums the small squares, after the large ones."""
    first = (REACH - SPOT) * (wide + 1)
    n = height * wide - 2 * REACH
    columns = n + 2 * SPOT
    in_column, in_small = sums.memory[:columns], sums.more[:n]
    sum_5(sums.photons[first:], wide, sums.small[:columns])
    sum_5(sums.pixels[first:], wide, in_column)
    sum_5(in_column, 1, in_small)
    for i in range(n):
        sums.in_ring[i] = sums.in_large[i] - in_small[i]


@njit(cache=True)
def sum_spot(sums, height, wide):
    """Sums the small squares with the weights of a spot."""
    first = (REACH - SPOT) * (wide + 1)
    n = height * wide - 2 * REACH
    columns = n + 2 * SPOT
    in_column = sums.memory[:columns]
    weighted_5(sums.photons[first:], wide, sums.spot[:columns])
    weights_5(sums.pixels[first:], wide, in_column)
    weights_5(in_column, 1, sums.in_spot[:n])
