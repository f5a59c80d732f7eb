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

from diffuse_core.fused_tile import apply_mask, pick, read_raw, tile_memory
from diffuse_core.local_keys import NOWHERE, exact_key, local_keys, whole_key
from diffuse_core.near_regions import BLOCK, leave_out, scratch
from diffuse_core.region_kernels import in_region, reach_within

TILE = (32, 320)
"""Pixels of a tile, slow and fast: what it needs stays in the second-level cache, and
its rows are long enough for the processor to read ahead."""
SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Multiplier that spreads keys over the hash table (D. Knuth, TAOCP 3, 6.4)."""


def most_rows(n_images: int) -> int:
    """Rows that one tile can give at most."""
    return TILE[0] * TILE[1] * n_images


@njit(cache=True, nogil=True)
def _settled(p, exact):
    """Key of an unsure pixel by the rules in double precision; -1: left out."""
    i, a, regions, s, where = exact
    affine, b, inverse_b, axis, size, rot, trans, n_op, den, offsets, n_off = regions
    at = where[p]
    x, y, z = s[at, 0], s[at, 1], s[at, 2]
    for r in range(affine.shape[1]):
        if in_region(
            x,
            y,
            z,
            i,
            r,
            affine,
            b,
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
            return np.int64(-1)
    return exact_key(a, x, y, z)


@njit(cache=True, nogil=True)
def _stays(keys, begin, exact, time, variance, stay_key, stay_time, before):
    """Writes sums, before each pixel, of what an image adds to the shared variance.

    T^2 of a pixel that stays in its voxel grows by dt (2 T + dt): see `stays`.
    """
    where = exact[4]
    total = 0.0
    for p in range(len(keys)):
        before[p] = total
        if keys[p] == NOWHERE:
            continue
        key = whole_key(begin, keys[p]) if keys[p] >= 0 else _settled(p, exact)
        if key < 0:
            continue
        at = where[p]
        if stay_key[at] != key:
            stay_key[at] = key
            stay_time[at] = 0.0
        total += variance[at] * time * (2.0 * stay_time[at] + time)
        stay_time[at] += time
    before[len(keys)] = total


@njit(cache=True, nogil=True)
def _runs(keys, raw, changes, ends, counts):
    """Number of runs of equal keys; where they end, and the raw values until then."""
    last = len(keys) - 1
    for p in range(last):
        changes[p] = keys[p] != keys[p + 1]
    total = raw[0] * 0
    n = np.uint64(0)
    one = np.uint64(1)
    ends[0] = 0
    for p in range(last):
        total += raw[p]
        ends[n + one] = p + 1
        counts[n + one] = total
        n += np.uint64(changes[p])
    ends[n + one] = last + 1
    counts[n + one] = total + raw[last]
    return np.int64(n) + 1


@njit(cache=True, nogil=True)
def _rows_of(keys, begin, n_runs, ends, exact, table, n_found, found, runs):
    """Numbers of rows so far, and of the runs that count.

    Args:
        begin: Of `local_keys`.
        n_runs, ends: Of `_runs`.
        exact: Arguments of `_settled`.
        table: (2^k,) uint32 and (n,) uint32: the row of a slot, the slot of a row. A
            slot is empty unless its row knows of it, so nothing is ever cleared.
        n_found: Number of rows so far.
        found: (n,) int64, written: keys of the rows.
        runs: (n, 2) uint32, written: row and number of each run that counts.
    """
    rows, slots = table
    shift = np.uint64(64 - int(math.log2(len(rows)) + 0.5))
    wrap = np.uint64(len(rows) - 1)
    after = np.uint32(n_found)
    n = 0
    for e in range(n_runs):
        first = ends[e]
        local = keys[first]
        if local == NOWHERE:
            continue
        key = whole_key(begin, local) if local >= 0 else _settled(first, exact)
        if key < 0:
            continue
        slot = (np.uint64(key) * SPREAD) >> shift
        while True:
            row = rows[slot]
            if row >= after or slots[row] != slot:
                row = after
                after += np.uint32(1)
                rows[slot], slots[row] = row, slot
                found[row] = key
                break
            if found[row] == key:
                break
            slot = (slot + np.uint64(1)) & wrap
        runs[n, 0], runs[n, 1] = row, e
        n += 1
    return np.int64(after), n


@njit(cache=True, nogil=True)
def _add(runs, n_runs, ends, counts, before, scale, phi, sums):
    """Adds the runs of an image to the rows of their voxels.

    Args:
        runs, n_runs: Of `_rows_of`.
        ends, counts: Of `_runs`.
        before: Of `pick`.
        scale, phi: Of the image (s, deg).
        sums: (n, 8) float64: response times scale, x, y, |s|, raw values, pixels, phi;
            in this order, as the processor adds four neighbours at once.
    """
    for k in range(n_runs):
        row, e = np.uint64(runs[k, 0]), np.uint64(runs[k, 1])
        f = e + np.uint64(1)
        first, last = np.uint64(ends[e]), np.uint64(ends[f])
        pixels = np.float64(last - first)
        response = before[last, 0] - before[first, 0]
        x = before[last, 1] - before[first, 1]
        y = before[last, 2] - before[first, 2]
        length = before[last, 3] - before[first, 3]
        sums[row, 0] += scale * response
        sums[row, 1] += x
        sums[row, 2] += y
        sums[row, 3] += length
        sums[row, 4] += np.float64(counts[f] - counts[e])
        sums[row, 5] += pixels
        sums[row, 6] += pixels * phi


@njit(cache=True, nogil=True)
def _add_background(runs, n_runs, ends, rates, variances, time, sums):
    """Adds background and shared variance of an image to (n, 2) float64 of the rows."""
    for k in range(n_runs):
        row, e = runs[k, 0], runs[k, 1]
        first, last = ends[e], ends[e + 1]
        sums[row, 0] += time * (rates[last] - rates[first])
        sums[row, 1] += variances[last] - variances[first]


@njit(cache=True, nogil=True)
def _write_rows(n, sums, extra, readout, out):
    """Writes the `kernels.COLUMNS` of n rows."""
    pedestal, gain = readout
    for row in range(n):
        response, x, y, length = sums[row, 0], sums[row, 1], sums[row, 2], sums[row, 3]
        raw, pixels, phi = sums[row, 4], sums[row, 5], sums[row, 6]
        out[row, 0] = (raw - pixels * pedestal) / gain
        out[row, 1] = pixels
        out[row, 2] = response
        out[row, 3], out[row, 4] = extra[row, 0], extra[row, 1]
        out[row, 5], out[row, 6], out[row, 7], out[row, 8] = phi, x, y, length


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
        limits: Lowest and highest raw value that may be used, of their type.
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
    memory = tile_memory(most)
    where, use, local, _, stretches = memory
    before, rates = np.zeros((most + 1, 4)), np.zeros(most + 1)
    variances = np.zeros(most + 1)
    all_keys = np.empty(most + BLOCK, np.int32)
    near = scratch(most)
    raw = np.empty(most, images[0].dtype)
    changes = np.empty(most, np.bool_)
    ends = np.empty(most + 1, np.uint32)
    counts = np.zeros(most + 1, raw.dtype).cumsum()
    runs = np.empty((most, 2), np.uint32)
    size = 2 ** int(math.ceil(math.log2(2 * most * n_images)))
    table = np.zeros(size, np.uint32), np.empty(most * n_images, np.uint32)
    tile_sums = np.empty((most * n_images, 8))
    extra = np.empty((most * n_images, 2))
    flat_s, flat_variance = s.reshape(-1, 3), variance.reshape(-1)
    n_rows = 0
    for tile in range(start, n_tiles):
        if n_rows + most * n_images > len(found):
            return tile, n_rows
        y0, x0 = (tile // across) * TILE[0], (tile % across) * TILE[1]
        y1, x1 = min(y0 + TILE[0], n_slow), min(x0 + TILE[1], n_fast)
        n, n_stretches, longest, middle, radius = pick(
            keep,
            flat_s,
            response.reshape(-1),
            background.reshape(-1),
            (y0, y1, x0, x1),
            memory,
            near[0],
            before,
            rates,
        )
        if n == 0:
            continue
        reach = reach_within(longest, regions)
        keys = all_keys[:n]
        sx, sy, sz = local[0], local[1], local[2]
        n_found = 0
        for i in range(n_images):
            a = affine[i]
            begin = local_keys(a, middle, radius, sx[:n], sy[:n], sz[:n], keys)
            read_raw(images[i], limits, stretches, n_stretches, use, raw, keys)
            if masks[i].size:
                apply_mask(masks[i], stretches, n_stretches, keys)
            for r in range(reach.shape[1]):
                leave_out(
                    i, r, regions, reach, middle, radius, sx, sy, sz, n, near, all_keys
                )
            exact = i, a, regions, flat_s, where
            scale, time, phi = per_image[i, 0], per_image[i, 1], per_image[i, 2]
            if stay_key.size:
                _stays(
                    keys,
                    begin,
                    exact,
                    time,
                    flat_variance,
                    stay_key,
                    stay_time,
                    variances,
                )
            n_runs = _runs(keys, raw, changes, ends, counts)
            known = n_found
            n_found, n_runs = _rows_of(
                keys, begin, n_runs, ends, exact, table, known, found[n_rows:], runs
            )
            tile_sums[known:n_found] = 0.0
            extra[known:n_found] = 0.0
            _add(runs, n_runs, ends, counts, before, scale, phi, tile_sums)
            if background.size:
                _add_background(runs, n_runs, ends, rates, variances, time, extra)
        _write_rows(n_found, tile_sums, extra, readout, sums[n_rows:])
        n_rows += n_found
    return -1, n_rows
