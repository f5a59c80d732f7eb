"""Compiled loops over pixels: masks, voxel and sums in one pass, no temporaries.

Every function works on one tile of one panel and all images of a chunk. A tile falls
into a small box of the grid, so its sums stay in the processor's cache.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from diffuse_core.grid import BITS, OFFSET
from diffuse_core.region_kernels import in_region, region_reach, within_reach

COLUMNS = (
    "counts",
    "pixels",
    "exposure",
    "background",
    "background_variance",
    "phi",
    "x",
    "y",
    "s",
)
"""Columns of the sums; the last four are weighted by pixels until divided."""


@njit(cache=True)
def tile_box(s, affine, sub_pixels, y0, y1, x0, x1):
    """(2, 3) int64: lowest and highest voxel index that the tile can reach."""
    low = np.array([np.inf, np.inf, np.inf])
    high = -low
    for y in range(y0, y1):
        for x in range(x0, x1):
            for c in range(3):
                v = s[y, x, c]
                low[c] = min(low[c], v)
                high[c] = max(high[c], v)
    if sub_pixels[0] > 1 or sub_pixels[1] > 1:
        margin = (high - low) / max(1, min(y1 - y0, x1 - x0) - 1)
        low -= margin
        high += margin
    box = np.empty((2, 3), np.int64)
    for g in range(3):
        lowest, highest = np.inf, -np.inf
        for i in range(affine.shape[0]):
            for j in range(affine.shape[1]):
                a = affine[i, j, g]
                below = a[3]
                above = a[3]
                for c in range(3):
                    below += min(a[c] * low[c], a[c] * high[c])
                    above += max(a[c] * low[c], a[c] * high[c])
                lowest = min(lowest, below)
                highest = max(highest, above)
        box[0, g] = math.floor(lowest + 0.5)
        box[1, g] = math.floor(highest + 0.5)
    return box


@njit(cache=True)
def voxel_key(i, j, k):
    """`grid.keys_of` for one voxel."""
    return ((i + OFFSET) << (2 * BITS)) | ((j + OFFSET) << BITS) | (k + OFFSET)


@njit(cache=True)
def pixel_slope(s, y, x, c, along_x):
    """d s[c] per pixel along fast or slow, one-sided at the panel's edge."""
    n = s.shape[1] if along_x else s.shape[0]
    p = x if along_x else y
    lo = max(p - 1, 0)
    hi = min(p + 1, n - 1)
    if hi == lo:
        return 0.0
    if along_x:
        return (s[y, hi, c] - s[y, lo, c]) / (hi - lo)
    return (s[hi, x, c] - s[lo, x, c]) / (hi - lo)


@njit(cache=True)
def accumulate_tile(
    counts,
    usable,
    static,
    s,
    response,
    image_response,
    scale,
    background,
    variance,
    image_background,
    image_variance,
    time,
    readout,
    affine,
    phi,
    sub_pixels,
    regions,
    tile,
    box,
    stay_key,
    stay_time,
    sums,
):
    """Adds the pixels of a tile to `sums`.

    The variance of the panel's background is that of one estimate that serves all
    images, so the times for which a pixel stays in one voxel add up before they are
    squared: T^2 grows by dt (2 T + dt) with each image.

    Args:
        counts: (n_images, n_slow, n_fast): raw values.
        usable: (n_images, n_slow, n_fast) bool.
        static: (n_slow, n_fast) bool: product of the masks of the panel.
        s: (n_slow, n_fast, 3) float32, 1/A.
        response: (n_slow, n_fast) float32.
        image_response: (n_images, n_slow, n_fast) float32, or (0, 0, 0).
        scale: (n_images,) float64: exposure time times scalar responses (s).
        background, variance: (n_slow, n_fast) float32 per s and per s^2, or (0, 0).
        image_background, image_variance: (n_images, n_slow, n_fast), or (0, 0, 0).
        time: (n_images,) float64: exposure time (s).
        readout: (2,) float64: pedestal and gain; photons = (raw - pedestal) / gain.
        affine: (n_images, n_rotation, 3, 4) float64: s to voxel index.
        phi: (n_images, n_rotation) float64: deg.
        sub_pixels: (2,) int64: sub-divisions along fast and slow.
        regions: packed `LatticeRegion`s, see `regions.pack_regions`.
        tile: y0, y1, x0, x1.
        box: (2, 3) int64 of `tile_box`.
        stay_key, stay_time: (n_slow, n_fast) int64 key of the voxel that each pixel
            was in last, and float64 how long it has been there (s); (0, 0) where
            `variance` is 0. Kept from call to call within a block.
        sums: (n0, n1, n2, 9) float64: `COLUMNS` for the box.
    """
    y0, y1, x0, x1 = tile
    n_images = counts.shape[0]
    n_rotation = affine.shape[1]
    n_x, n_y = sub_pixels[0], sub_pixels[1]
    share = 1.0 / (n_rotation * n_x * n_y)
    has_image_response = image_response.shape[0] > 0
    has_background = background.shape[0] > 0
    has_image_background = image_background.shape[0] > 0
    reach = region_reach(s, y0, y1, x0, x1, regions)
    lattices, basis, inverse_b, axis, size, rot, trans, n_op, den, offsets, n_off = (
        regions
    )
    n_regions = lattices.shape[1]
    flat = sums.reshape(-1)
    stride0 = sums.shape[1] * sums.shape[2] * sums.shape[3]
    stride1 = sums.shape[2] * sums.shape[3]
    stride2 = sums.shape[3]
    low0, low1, low2 = box[0, 0], box[0, 1], box[0, 2]
    for y in range(y0, y1):
        for x in range(x0, x1):
            if not static[y, x]:
                continue
            px = s[y, x, 0]
            py = s[y, x, 1]
            pz = s[y, x, 2]
            length = math.sqrt(px * px + py * py + pz * pz)
            rate = 0.0
            rate_variance = 0.0
            if has_background:
                rate = background[y, x]
                if stay_key.size:
                    rate_variance = variance[y, x]
            for i in range(n_images):
                if not usable[i, y, x]:
                    continue
                masked = False
                for r in range(n_regions):
                    if within_reach(px, py, pz, i, r, lattices, reach):
                        if in_region(
                            px,
                            py,
                            pz,
                            i,
                            r,
                            lattices,
                            basis,
                            inverse_b,
                            axis,
                            size,
                            rot,
                            trans,
                            n_op,
                            den,
                            offsets,
                            n_off,
                        ):
                            masked = True
                            break
                if masked:
                    continue
                n = (counts[i, y, x] - readout[0]) / readout[1]
                e = response[y, x] * scale[i]
                if has_image_response:
                    e *= image_response[i, y, x]
                b = rate * time[i]
                v = 0.0
                if has_image_background:
                    b += image_background[i, y, x] * time[i]
                    v = image_variance[i, y, x] * time[i] * time[i]
                for a in range(n_x):
                    for c in range(n_y):
                        u = (a + 0.5) / n_x - 0.5
                        w = (c + 0.5) / n_y - 0.5
                        qx, qy, qz = px, py, pz
                        if n_x > 1:
                            qx += u * pixel_slope(s, y, x, 0, True)
                            qy += u * pixel_slope(s, y, x, 1, True)
                            qz += u * pixel_slope(s, y, x, 2, True)
                        if n_y > 1:
                            qx += w * pixel_slope(s, y, x, 0, False)
                            qy += w * pixel_slope(s, y, x, 1, False)
                            qz += w * pixel_slope(s, y, x, 2, False)
                        for j in range(n_rotation):
                            g0 = (
                                affine[i, j, 0, 0] * qx
                                + affine[i, j, 0, 1] * qy
                                + affine[i, j, 0, 2] * qz
                                + affine[i, j, 0, 3]
                            )
                            g1 = (
                                affine[i, j, 1, 0] * qx
                                + affine[i, j, 1, 1] * qy
                                + affine[i, j, 1, 2] * qz
                                + affine[i, j, 1, 3]
                            )
                            g2 = (
                                affine[i, j, 2, 0] * qx
                                + affine[i, j, 2, 1] * qy
                                + affine[i, j, 2, 2] * qz
                                + affine[i, j, 2, 3]
                            )
                            k0 = int(math.floor(g0 + 0.5)) - low0
                            k1 = int(math.floor(g1 + 0.5)) - low1
                            k2 = int(math.floor(g2 + 0.5)) - low2
                            at = k0 * stride0 + k1 * stride1 + k2 * stride2
                            flat[at] += share * n
                            flat[at + 1] += share
                            flat[at + 2] += share * e
                            flat[at + 3] += share * b
                            flat[at + 4] += share * v
                            flat[at + 5] += share * phi[i, j]
                            flat[at + 6] += share * (x + 0.5 + u)
                            flat[at + 7] += share * (y + 0.5 + w)
                            flat[at + 8] += share * length
                            if rate_variance > 0.0:
                                key = voxel_key(k0 + low0, k1 + low1, k2 + low2)
                                dt = share * time[i]
                                if stay_key[y, x] != key:
                                    stay_key[y, x] = key
                                    stay_time[y, x] = 0.0
                                together = stay_time[y, x]
                                flat[at + 4] += (
                                    rate_variance * dt * (2.0 * together + dt)
                                )
                                stay_time[y, x] = together + dt


@njit(cache=True)
def rows_of_box(sums, box):
    """Index (n, 3) int64 and sums (n, 9) float64 of the voxels that were hit."""
    n = 0
    shape = sums.shape
    for i in range(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                if sums[i, j, k, 1] > 0.0:
                    n += 1
    index = np.empty((n, 3), np.int64)
    values = np.empty((n, shape[3]))
    n = 0
    for i in range(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                if sums[i, j, k, 1] > 0.0:
                    index[n, 0] = i + box[0, 0]
                    index[n, 1] = j + box[0, 1]
                    index[n, 2] = k + box[0, 2]
                    values[n] = sums[i, j, k]
                    n += 1
    return index, values
