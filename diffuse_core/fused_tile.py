"""Pixels of a tile: what all images have in common of them, and their raw values.

Kept pixels are taken in stretches of a row, short gaps included, so that raw values are
read as they lie in memory.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from diffuse_core.local_keys import NOWHERE
from diffuse_core.near_regions import BLOCK, describe_blocks

GAP = 16
"""Pixels that are left out and do not end a stretch."""


@njit(cache=True, nogil=True)
def tile_memory(n):
    """Memory of `pick` for n pixels.

    where (n,) uint32: place of the pixels in the raw values; use (n,) bool: kept; s
    (3, n) float32: less that of the middle; length (n,) float32: |s|; stretches
    (n / 2 + 2, 2) int64: place in the raw values and in the tile where they begin.
    """
    return (
        np.empty(n, np.uint32),
        np.empty(n, np.bool_),
        np.empty((3, n + BLOCK), np.float32),
        np.empty(n, np.float32),
        np.empty((n // 2 + 2, 2), np.int64),
    )


@njit(cache=True, nogil=True)
def _stretches(keep, tile, stretches, use):
    """Numbers of pixels and of stretches of a tile."""
    y0, y1, x0, x1 = tile
    n = k = 0
    for y in range(y0, y1):
        row = keep[y, x0:x1]
        end = -1
        for x in range(len(row)):
            if not row[x]:
                continue
            if end < 0 or x - end > GAP:
                stretches[k, 0] = y * keep.shape[1] + x0 + x
                stretches[k, 1] = n
                k += 1
                end = x
            for _ in range(end, x):
                use[n] = False
                n += 1
            use[n] = True
            n += 1
            end = x + 1
    stretches[k, 1] = n
    return n, k


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _vectors(s, middle, source, where, lx, ly, lz, length):
    """Writes the vectors of a stretch; largest |s|, and largest parts of the rest."""
    m0, m1, m2 = middle
    longest = r0 = r1 = r2 = np.float32(0.0)
    for p in range(len(s)):
        px, py, pz = s[p, 0], s[p, 1], s[p, 2]
        x, y, z = px - m0, py - m1, pz - m2
        norm = np.sqrt(px * px + py * py + pz * pz)
        where[p] = source + p
        lx[p], ly[p], lz[p], length[p] = x, y, z, norm
        longest = max(longest, norm)
        r0, r1, r2 = max(r0, abs(x)), max(r1, abs(y)), max(r2, abs(z))
    return longest, r0, r1, r2


@njit(cache=True, nogil=True)
def pick(keep, s, response, background, tile, memory, blocks, before, rates):
    """Number of pixels and stretches of a tile, and what all images have in common.

    Args:
        keep: (n_slow, n_fast) bool.
        s: (n_slow * n_fast, 3) float32, 1/A.
        response: (n_slow * n_fast,) float32.
        background: (n_slow * n_fast,) float32, or (0,).
        tile: First and last row, first and last column.
        memory: Of `tile_memory`, written.
        blocks: Of `near_regions.describe_blocks`, written.
        before: (n + 1, 4) float64, written: sums over the pixels before each, of
            response, x, y and |s|.
        rates: (n + 1,) float64, written where there is a background: its sums.

    Returns:
        Number of pixels, of stretches, largest |s|, (3,) float64 s of the middle and
        (3,) float64 how far the tile reaches from there (1/A).
    """
    where, use, local, length, stretches = memory
    n, n_stretches = _stretches(keep, tile, stretches, use)
    middle, radius = np.zeros(3), np.zeros(3)
    longest = np.float32(0.0)
    if n == 0:
        return n, n_stretches, 0.0, middle, radius
    k = n_stretches // 2
    at = stretches[k, 0] + (stretches[k + 1, 1] - stretches[k, 1]) // 2
    vector = s[at, 0], s[at, 1], s[at, 2]
    middle[0], middle[1], middle[2] = vector
    width = keep.shape[1]
    sum_response = sum_rate = sum_x = sum_y = sum_s = 0.0
    for k in range(n_stretches):
        source, first, last = stretches[k, 0], stretches[k, 1], stretches[k + 1, 1]
        stop = source + last - first
        norm = length[first:last]
        found = _vectors(
            s[source:stop],
            vector,
            source,
            where[first:last],
            local[0, first:last],
            local[1, first:last],
            local[2, first:last],
            norm,
        )
        longest = max(longest, found[0])
        for c in range(3):
            radius[c] = max(radius[c], found[c + 1])
        y = source // width
        x = source - y * width + 0.5
        part, kept = response[source:stop], use[first:last]
        sums = before[first + 1 : last + 1]
        for p in range(len(part)):
            sum_response += part[p] if kept[p] else 0.0
            sum_x += x + p
            sum_y += y + 0.5
            sum_s += norm[p]
            sums[p, 0] = sum_response
            sums[p, 1] = sum_x
            sums[p, 2] = sum_y
            sums[p, 3] = sum_s
        if background.size:
            for p in range(len(part)):
                sum_rate += background[source + p] if kept[p] else 0.0
                rates[first + p + 1] = sum_rate
    padded = (n + BLOCK - 1) // BLOCK * BLOCK
    for c in range(3):
        local[c, n:padded] = local[c, n - 1]
    describe_blocks(local[0, :padded], local[1, :padded], local[2, :padded], blocks)
    return n, n_stretches, np.float64(longest), middle, radius


@njit(cache=True, nogil=True)
def read_raw(image, limits, stretches, n_stretches, use, raw, keys):
    """Writes the raw values of a tile; no voxel for those not to be used."""
    low, high = limits
    none = raw[0] * 0
    for k in range(n_stretches):
        source, first, last = stretches[k, 0], stretches[k, 1], stretches[k + 1, 1]
        part = image[source : source + last - first]
        to, key, kept = raw[first:last], keys[first:last], use[first:last]
        for p in range(len(part)):
            value = part[p]
            good = kept[p] & (value >= low) & (value <= high)
            key[p] = key[p] if good else NOWHERE
            to[p] = value if good else none


@njit(cache=True, nogil=True)
def apply_mask(mask, stretches, n_stretches, keys):
    """No voxel for the pixels that the mask of an image leaves out."""
    for k in range(n_stretches):
        source, first, last = stretches[k, 0], stretches[k, 1], stretches[k + 1, 1]
        part = mask[source : source + last - first]
        key = keys[first:last]
        for p in range(len(part)):
            key[p] = key[p] if part[p] else NOWHERE
