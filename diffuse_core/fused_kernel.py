"""The fast path: masks, voxels and sums of whole panels in one compiled loop.

For mappings that are affine, without oversampling; `kernels` does the rest, and is the
reference of this module.

A tile of the panel is taken through all images of a chunk, so that what does not change
from image to image is read once. Along a row, neighbouring pixels mostly share a voxel:
such a run is the difference of two cumulated sums, added to the row of its voxel, which
a hash table finds. So neither time nor memory depends on how fine the grid is, and no
array of the size of an image is made.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from diffuse_core.grid import BITS, OFFSET
from diffuse_core.near_regions import NOWHERE, leave_out, scratch
from diffuse_core.region_kernels import reach_within

TILE = (16, 640)
"""Pixels of a tile, slow and fast: what it needs stays in the second-level cache, and
its rows are long enough for the processor to read ahead."""
SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Multiplier that spreads keys over the hash table (D. Knuth, TAOCP 3, 6.4)."""


def most_rows(n_images: int) -> int:
    """Rows that one tile can give at most."""
    return TILE[0] * TILE[1] * n_images


@njit(cache=True, nogil=True)
def _pick(keep, s, response, background, tile, where, s_kept, before):
    """Number of kept pixels of a tile, and what the images have in common of them.

    Args:
        where: (n,) uint32, written: place of the pixels in the raw values.
        s_kept: (3, n) float32, written: s.
        before: (n + 1, 5) float64, written: sums over the kept pixels before each, of
            response, background, x, y and |s|.

    Returns:
        Number of pixels, largest |s| (1/A).
    """
    y0, y1, x0, x1 = tile
    n = 0
    longest = sum_response = sum_rate = sum_x = sum_y = sum_s = 0.0
    for y in range(y0, y1):
        for x in range(x0, x1):
            if not keep[y, x]:
                continue
            px, py, pz = s[y, x, 0], s[y, x, 1], s[y, x, 2]
            length = math.sqrt(px * px + py * py + pz * pz)
            where[n] = y * keep.shape[1] + x
            s_kept[0, n], s_kept[1, n], s_kept[2, n] = px, py, pz
            longest = max(longest, length)
            sum_response += response[y, x]
            if background.size:
                sum_rate += background[y, x]
            sum_x += x + 0.5
            sum_y += y + 0.5
            sum_s += length
            n += 1
            before[n, 0] = sum_response
            before[n, 1] = sum_rate
            before[n, 2] = sum_x
            before[n, 3] = sum_y
            before[n, 4] = sum_s
    return n, longest


@njit(cache=True, nogil=True)
def _voxels(a, sx, sy, sz, keys):
    """Writes the keys (`grid.keys_of`) of the voxels of pixels, for one image."""
    a00, a01, a02, a03 = a[0, 0], a[0, 1], a[0, 2], a[0, 3]
    a10, a11, a12, a13 = a[1, 0], a[1, 1], a[1, 2], a[1, 3]
    a20, a21, a22, a23 = a[2, 0], a[2, 1], a[2, 2], a[2, 3]
    for p in range(len(keys)):
        x, y, z = sx[p], sy[p], sz[p]
        i = np.int64(math.floor(a00 * x + a01 * y + a02 * z + a03 + 0.5))
        j = np.int64(math.floor(a10 * x + a11 * y + a12 * z + a13 + 0.5))
        k = np.int64(math.floor(a20 * x + a21 * y + a22 * z + a23 + 0.5))
        keys[p] = ((i + OFFSET) << (2 * BITS)) + ((j + OFFSET) << BITS) + (k + OFFSET)


@njit(cache=True, nogil=True)
def _read(image, limits, where, raw, keys):
    """Writes the raw values of the kept pixels; no voxel for those not to be used."""
    low, high = limits
    none = raw[0] * 0
    for p in range(len(keys)):
        raw[p] = image[where[p]]
    for p in range(len(keys)):
        good = (raw[p] >= low) & (raw[p] <= high)
        keys[p] = keys[p] if good else NOWHERE
        raw[p] = raw[p] if good else none


@njit(cache=True, nogil=True)
def _apply(mask, where, keys):
    """No voxel for the pixels that the mask of an image leaves out."""
    for p in range(len(keys)):
        keys[p] = keys[p] if mask[where[p]] else NOWHERE


@njit(cache=True, nogil=True)
def _runs(keys, raw, ends, counts):
    """Number of runs of equal keys; where they end, and the raw values until then."""
    total = raw[0] * 0
    n = 0
    ends[0] = 0
    for p in range(len(keys) - 1):
        total += raw[p]
        ends[n + 1] = p + 1
        counts[n + 1] = total
        n += keys[p] != keys[p + 1]
    ends[n + 1] = len(keys)
    counts[n + 1] = total + raw[len(keys) - 1]
    return n + 1


@njit(cache=True, nogil=True)
def _stays(keys, where, time, variance, stay_key, stay_time, before):
    """Writes sums, before each pixel, of what an image adds to the shared variance.

    T^2 of a pixel that stays in its voxel grows by dt (2 T + dt): see `stays`.
    """
    total = 0.0
    for p in range(len(keys)):
        before[p] = total
        if keys[p] == NOWHERE:
            continue
        at = where[p]
        if stay_key[at] != keys[p]:
            stay_key[at] = keys[p]
            stay_time[at] = 0.0
        total += variance[at] * time * (2.0 * stay_time[at] + time)
        stay_time[at] += time
    before[len(keys)] = total


@njit(cache=True, nogil=True)
def _add(
    keys, n_runs, ends, counts, before, variances, factors, table, n_found, found, sums
):
    """Adds the runs of one image to the rows of their voxels; the number of rows.

    Args:
        n_runs, ends, counts: Of `_runs`.
        before: Of `_pick`.
        variances: Of `_stays`.
        factors: Scale (s), time (s) and phi (deg) of the image, pedestal, gain.
        table: (2^k,) int32 and (n,) int32: the row of a slot, the slot of a row. A slot
            is empty unless its row knows of it, so nothing is ever cleared.
        n_found: Number of rows so far.
        found: (n,) int64: keys of the rows.
        sums: (n, 9) float64: the rows.
    """
    scale, time, phi, pedestal, gain = factors
    rows, slots = table
    shift = np.uint64(64 - int(math.log2(len(rows)) + 0.5))
    for e in range(n_runs):
        first, last = ends[e], ends[e + 1]
        key = keys[first]
        if key == NOWHERE:
            continue
        slot = np.int64((np.uint64(key) * SPREAD) >> shift)
        while True:
            row = rows[slot]
            if row >= n_found or slots[row] != slot:
                row = n_found
                n_found += 1
                rows[slot], slots[row] = row, slot
                found[row] = key
                sums[row] = 0.0
                break
            if found[row] == key:
                break
            slot = (slot + 1) & (len(rows) - 1)
        pixels = last - first
        sums[row, 0] += (counts[e + 1] - counts[e] - pixels * pedestal) / gain
        sums[row, 1] += pixels
        sums[row, 2] += scale * (before[last, 0] - before[first, 0])
        sums[row, 3] += time * (before[last, 1] - before[first, 1])
        sums[row, 4] += variances[last] - variances[first]
        sums[row, 5] += pixels * phi
        sums[row, 6] += before[last, 2] - before[first, 2]
        sums[row, 7] += before[last, 3] - before[first, 3]
        sums[row, 8] += before[last, 4] - before[first, 4]
    return n_found


@njit(cache=True, nogil=True)
def accumulate(
    images,
    masks,
    n_images,
    limits,
    keep,
    s,
    response,
    background,
    variance,
    stay_key,
    stay_time,
    affine,
    regions,
    per_image,
    readout,
    start,
    found,
    sums,
):
    """Sums of the voxels of tiles from number `start` on, while there is room.

    Args:
        images: Raw values (n_slow * n_fast,) of each image; as many arrays as
            `chunk.IMAGES`, of which `n_images` count.
        masks: True = keep, of each image, or (0,); as many.
        n_images: How many of them count.
        limits: Lowest and highest raw value that may be used.
        keep: (n_slow, n_fast) bool: what may be used in every image.
        s: (n_slow, n_fast, 3) float32, 1/A.
        response: (n_slow, n_fast) float32.
        background, variance: (n_slow, n_fast) float32 per s and per s^2, or (0, 0).
        stay_key, stay_time: (n_slow * n_fast,) of `stays.Stay`, written; (0,) where
            the variance is 0.
        affine: (n_images, 3, 4) float64: s to voxel index.
        regions: Packed `LatticeRegion`s, see `regions.pack_regions`.
        per_image: (n_images, 3) float64: exposure time times scalar responses (s),
            exposure time (s), phi (deg).
        readout: Pedestal and gain; photons = (raw - pedestal) / gain.
        start: First tile.
        found: (n,) int64, written: keys of voxels; a voxel comes once for each tile.
        sums: (n, 9) float64, written: `kernels.COLUMNS`.

    Returns:
        The next tile (-1 when all are done) and the number of rows.
    """
    n_slow, n_fast = keep.shape
    across = (n_fast + TILE[1] - 1) // TILE[1]
    n_tiles = across * ((n_slow + TILE[0] - 1) // TILE[0])
    most = TILE[0] * TILE[1]
    where = np.empty(most, np.uint32)
    s_kept = np.empty((3, most), np.float32)
    before = np.zeros((most + 1, 5))
    variances = np.zeros(most + 1)
    all_keys = np.empty(most, np.int64)
    near = scratch(most)
    raw = np.empty(most, images[0].dtype)
    ends = np.empty(most + 1, np.int64)
    counts = np.zeros(most + 1, raw.dtype).cumsum()
    size = 2 ** int(math.ceil(math.log2(2 * most * n_images)))
    table = np.zeros(size, np.int32), np.empty(most * n_images, np.int32)
    n_rows = 0
    for tile in range(start, n_tiles):
        if n_rows + most * n_images > len(found):
            return tile, n_rows
        y0, x0 = (tile // across) * TILE[0], (tile % across) * TILE[1]
        y1, x1 = min(y0 + TILE[0], n_slow), min(x0 + TILE[1], n_fast)
        n, longest = _pick(
            keep, s, response, background, (y0, y1, x0, x1), where, s_kept, before
        )
        if n == 0:
            continue
        reach = reach_within(longest, regions)
        keys = all_keys[:n]
        sx, sy, sz = s_kept[0, :n], s_kept[1, :n], s_kept[2, :n]
        n_found = 0
        for i in range(n_images):
            _voxels(affine[i], sx, sy, sz, keys)
            _read(images[i], limits, where, raw, keys)
            if masks[i].size:
                _apply(masks[i], where, keys)
            for r in range(reach.shape[1]):
                leave_out(i, r, regions, reach, longest, sx, sy, sz, near, keys)
            if stay_key.size:
                _stays(
                    keys,
                    where,
                    per_image[i, 1],
                    variance.reshape(-1),
                    stay_key,
                    stay_time,
                    variances,
                )
            n_runs = _runs(keys, raw, ends, counts)
            factors = (
                per_image[i, 0],
                per_image[i, 1],
                per_image[i, 2],
                readout[0],
                readout[1],
            )
            n_found = _add(
                keys,
                n_runs,
                ends,
                counts,
                before,
                variances,
                factors,
                table,
                n_found,
                found[n_rows:],
                sums[n_rows:],
            )
        n_rows += n_found
    return -1, n_rows
