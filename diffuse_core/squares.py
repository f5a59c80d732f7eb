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

from diffuse_core.ring_sums import REACH, SPOT
from diffuse_core.vector_loops import (
    columns_5,
    columns_13,
    fours,
    large_pixels,
    only_used,
    ring_pixels,
    spot_column_pixels,
    spot_columns,
    spot_weights,
)

HEIGHT, WIDTH = 128, 256
"""Largest window in pixels: what is read of it stays in the cache."""

BLOCK = 2048
"""Pixels, or one row, whose sums are held at a time: they stay in the cache."""

_ROOM = (HEIGHT + 2 * REACH) * (WIDTH + 2 * REACH)
_SUMS = BLOCK + WIDTH + 8 * REACH


class Squares(NamedTuple):
    """A window, and sums over the squares of a block of its rows.

    The window, as flat arrays of rows `2 REACH` longer than it is wide, with as many
    rows more:

    Attributes:
        photons, pixels: (n,) float32, uint8: counts, 0 where they do not tell what is
            expected; and where they do.
        rows, pixel_rows: (n,) float32, uint8: sums of 4 of these, one below the other.
        spot_photons, spot_pixels: The same of the pixels that make up places; not used
            where they are the same.

    Of a block, from its first row on:

    Attributes:
        large, fours: (n,) float32: columns of the large squares, and 4 of them.
        in_large: (n,) uint8: pixels of the large squares.
        small: (n,) float32: columns of the small squares.
        in_ring: (n,) uint8: pixels of the large squares that are not in the small ones.
        spot, in_spot: (n,) float32, uint16: columns with the weights of a spot; the
            weights of the whole square.
        columns, column_fours: (n,) uint8: memory.
        high, flags, hits: (n,) uint8, uint8, int64: what stands out.
    """

    photons: np.ndarray
    pixels: np.ndarray
    rows: np.ndarray
    pixel_rows: np.ndarray
    spot_photons: np.ndarray
    spot_pixels: np.ndarray
    large: np.ndarray
    fours: np.ndarray
    in_large: np.ndarray
    small: np.ndarray
    in_ring: np.ndarray
    spot: np.ndarray
    in_spot: np.ndarray
    columns: np.ndarray
    column_fours: np.ndarray
    high: np.ndarray
    flags: np.ndarray
    hits: np.ndarray


@njit(cache=True)
def squares():
    """Memory for windows up to `HEIGHT` by `WIDTH`."""
    return Squares(
        np.zeros(_ROOM, np.float32),
        np.zeros(_ROOM, np.uint8),
        np.zeros(_ROOM, np.float32),
        np.zeros(_ROOM, np.uint8),
        np.zeros(_ROOM, np.float32),
        np.zeros(_ROOM, np.uint8),
        np.zeros(_SUMS, np.float32),
        np.zeros(_SUMS, np.float32),
        np.zeros(_SUMS, np.uint8),
        np.zeros(_SUMS, np.float32),
        np.zeros(_SUMS, np.uint8),
        np.zeros(_SUMS, np.float32),
        np.zeros(_SUMS, np.uint16),
        np.zeros(_SUMS, np.uint8),
        np.zeros(_SUMS, np.uint8),
        np.zeros(_SUMS, np.uint8),
        np.zeros(_SUMS // 8 * 8, np.uint8),
        np.zeros(_SUMS, np.int64),
    )


@njit(cache=True)
def load(photons, pixels, counts, use, window, margin):
    """Writes the photons and pixels of a window and of the margin around it.

    Args:
        photons, pixels: See `Squares`.
        counts: (n_slow, n_fast) float32, contiguous.
        use: (n_slow, n_fast) bool, contiguous.
        window: First and end row, first and end column.
        margin: Pixels, at most `REACH`; the rest up to there stays as it is.
    """
    y0, y1, x0, x1 = window
    n_slow, n_fast = counts.shape
    wide = x1 - x0 + 2 * REACH
    left, right = max(x0 - margin, 0), min(x1 + margin, n_fast)
    low, high = max(y0 - margin, 0), min(y1 + margin, n_slow)
    if high - low < y1 - y0 + 2 * margin or right - left < x1 - x0 + 2 * margin:
        n = (y1 - y0 + 2 * REACH) * wide
        photons[:n] = 0.0
        pixels[:n] = 0
    start = low * n_fast + left
    to = (low - y0 + REACH) * wide + left - x0 + REACH
    only_used(
        counts.reshape(-1),
        use.reshape(-1),
        start,
        n_fast,
        high - low,
        right - left,
        photons,
        pixels,
        to,
        wide,
    )


@njit(cache=True)
def sum_large(photons, rows, at, wide, n, large, large_fours):
    """Sums photons in the columns of the large squares of n places.

    Args:
        photons, rows, large, large_fours: See `Squares`.
        at: Of the first pixel of the first square, in the window.
        wide: Length of a row of the window with its margin.
    """
    more = n + 2 * REACH
    columns_13(photons, rows, at, wide, more, large)
    fours(large, more - 3, large_fours)


@njit(cache=True)
def count_large(pixels, rows, at, wide, n, columns, column_fours, in_large):
    """Counts the pixels of large squares; other arguments as in `sum_large`.

    Args:
        pixels, rows, in_large: See `Squares`: `pixels`, `pixel_rows`, `in_large`.
        columns, column_fours: Memory.
    """
    sum_large(pixels, rows, at, wide, n, columns, column_fours)
    large_pixels(columns, column_fours, n, in_large)


@njit(cache=True)
def sum_small(photons, rows, spot_photons, at, wide, n, small, spot):
    """Sums photons in the columns of small squares; arguments as in `sum_large`."""
    at += (REACH - SPOT) * (wide + 1)
    more = n + 2 * SPOT
    columns_5(photons, rows, at, wide, more, small)
    spot_columns(spot_photons, at, wide, more, spot)


@njit(cache=True)
def count_small(
    pixels, rows, spot_pixels, at, wide, n, in_large, columns, spots, in_ring, in_spot
):
    """Counts the pixels of rings and the weights of spots, after `count_large`; other
    arguments as in `sum_large`.

    Args:
        columns, spots: Memory.
    """
    at += (REACH - SPOT) * (wide + 1)
    more = n + 2 * SPOT
    columns_5(pixels, rows, at, wide, more, columns)
    ring_pixels(in_large, columns, n, in_ring)
    spot_column_pixels(spot_pixels, at, wide, more, spots)
    spot_weights(spots, n, in_spot)
