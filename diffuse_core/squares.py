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
    columns_13,
    fours,
    large_pixels,
    only_used,
    ring_pixels,
    small_column_pixels,
    small_columns,
    spot_weights,
)

HEIGHT, WIDTH = 128, 256
"""Largest window in pixels: what is read of it stays in the cache."""

BLOCK = 4096
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
        in_columns, in_fours, in_small: (n,) uint8: memory.
        flags, hits: (n,) uint8, int64: what stands out.
    """

    photons: np.ndarray
    pixels: np.ndarray
    spot_photons: np.ndarray
    spot_pixels: np.ndarray
    large: np.ndarray
    fours: np.ndarray
    in_large: np.ndarray
    small: np.ndarray
    in_ring: np.ndarray
    spot: np.ndarray
    in_spot: np.ndarray
    in_columns: np.ndarray
    in_fours: np.ndarray
    in_small: np.ndarray
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
def load(photons, pixels, counts, use, window):
    """Writes the photons and pixels of a window and of the margin around it.

    Args:
        photons, pixels: See `Squares`.
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
        photons[:n] = 0.0
        pixels[:n] = 0
    for row in range(max(y0 - REACH, 0), min(y1 + REACH, n_slow)):
        start = row * n_fast + left
        to = (row - y0 + REACH) * wide + left - x0 + REACH
        only_used(values, used, start, right - left, photons, pixels, to)


@njit(cache=True, inline="always")
def sum_large(sums, at, wide, n):
    """Sums the large squares of n places.

    Args:
        sums: `Squares`.
        at: Of the first pixel of the first square, in the window.
        wide: Length of a row of the window with its margin.
    """
    more = n + 2 * REACH
    columns_13(sums.photons, at, wide, more, sums.large)
    fours(sums.large, more - 3, sums.fours)
    columns_13(sums.pixels, at, wide, more, sums.in_columns)
    fours(sums.in_columns, more - 3, sums.in_fours)
    large_pixels(sums.in_columns, sums.in_fours, n, sums.in_large)


@njit(cache=True, inline="always")
def sum_small(sums, same, at, wide, n):
    """Sums the small squares of n places, after the large ones.

    Args:
        sums, at, wide: As in `sum_large`.
        same: The pixels that make up places are those that tell what is expected.
    """
    at += (REACH - SPOT) * (wide + 1)
    more = n + 2 * SPOT
    photons = sums.photons if same else sums.spot_photons
    pixels = sums.pixels if same else sums.spot_pixels
    small_columns(sums.photons, photons, at, wide, more, sums.small, sums.spot)
    small_column_pixels(
        sums.pixels, pixels, at, wide, more, sums.in_columns, sums.in_small
    )
    ring_pixels(sums.in_large, sums.in_columns, n, sums.in_ring)
    spot_weights(sums.in_small, n, sums.in_spot)
