"""The fast path: masks, voxels and sums of whole panels in one compiled loop.

For mappings that are affine, without oversampling; `kernels` does the rest, and is the
reference of this module.

A tile of the panel is taken through all images of a chunk, so that what does not
change from image to image is read once. Down a column, neighbouring pixels mostly share
a voxel: such a run is added to the row of its voxel at once, which a hash table finds.
So neither time nor memory depends on how fine the grid is, and no array of the size of
an image is made.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from diffuse_core.fused_rows import (
    add_background,
    add_runs,
    find_rows,
    write_rows,
)
from diffuse_core.fused_tile import (
    COLUMNS,
    ROWS,
    find_runs,
    pick,
    pick_rows,
    sum_runs,
    write_keys,
)
from diffuse_core.local_keys import NOWHERE, exact_key, key_frame, key_terms, whole_key
from diffuse_core.near_blocks import describe_blocks
from diffuse_core.near_regions import leave_out, scratch
from diffuse_core.region_kernels import in_region, reach_within

NO_KEY = np.int32(-(2**31))
"""No pixel has this local key."""
SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Multiplier that spreads keys over the hash table (D. Knuth, TAOCP 3, 6.4)."""


def most_rows(n_images: int) -> int:
    """Rows that one tile can give at most."""
    return ROWS * COLUMNS * n_images


@njit(cache=True, nogil=True)
def _settled(p, exact):
    """Key of an unsure pixel by the rules in double precision; `NOWHERE`: left out."""
    i, a, regions, s, box, frame = exact
    affine, b, inverse_b, axis, size, rot, trans, n_op, den, offsets, n_off = regions
    y, x = box[0] + p // COLUMNS, box[2] + p % COLUMNS
    x, y, z = s[y, x, 0], s[y, x, 1], s[y, x, 2]
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
            return np.int64(NOWHERE)
    return exact_key(a, x, y, z, frame)


@njit(cache=True, nogil=True)
def _stays(keys, exact, n_fast, time, variance, stay_key, stay_time, sums):
    """Writes sums, above each pixel, of what an image adds to the shared variance.

    T^2 of a pixel that stays in its voxel grows by dt (2 T + dt): see `stays`.
    """
    y0, y1, x0, x1 = exact[4]
    for y in range(y0, y1):
        for x in range(x0, x1):
            p = (y - y0) * COLUMNS + x - x0
            more = 0.0
            local = keys[p] if keys[p] >= NOWHERE else _settled(p, exact)
            if local != NOWHERE:
                key = whole_key(exact[5], local)
                at = y * n_fast + x
                if stay_key[at] != key:
                    stay_key[at] = key
                    stay_time[at] = 0.0
                more = variance[at] * time * (2.0 * stay_time[at] + time)
                stay_time[at] += time
            sums[p + COLUMNS] = sums[p] + more


@njit(cache=True, nogil=True)
def _settle(n_unsure, unsure, ends, exact, keys):
    """Writes the keys of unsure pixels, which are runs of their own."""
    for k in range(n_unsure):
        keys[k] = _settled(np.int64(ends[unsure[k]]), exact)


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
    across = (n_fast + COLUMNS - 1) // COLUMNS
    columns = (n_fast + across - 1) // across
    n_tiles = across * ((n_slow + ROWS - 1) // ROWS)
    most = ROWS * COLUMNS
    local = np.empty((3, most), np.float32)
    length = np.empty(COLUMNS, np.float32)
    before = np.zeros((most + COLUMNS, 2))
    rates, variances = np.zeros(most + COLUMNS), np.zeros(most + COLUMNS)
    all_keys = np.empty(most + 2 * COLUMNS, np.int32)
    all_keys[:COLUMNS] = NO_KEY
    near = scratch(most)
    counts = np.zeros(most + COLUMNS, images[0].dtype).cumsum()
    ends, rows = np.empty(most + 8, np.uint32), np.empty(most, np.uint32)
    unsure, tops = np.empty(most, np.uint32), np.empty(COLUMNS, np.uint64)
    settled, settled_rows = np.empty(most, np.int64), np.empty(most, np.uint32)
    in_turn = np.arange(most).astype(np.uint32)
    room = most * n_images + 1
    bits = int(math.ceil(math.log2(2 * room)))
    row_of, slots = np.zeros(2**bits, np.uint32), np.empty(room, np.uint32)
    shift = np.uint64(64 - bits)
    keys_found = np.empty(room, np.int64)
    tile_sums, extra = np.empty((room, 4)), np.zeros((room, 2))
    places = np.empty((room, 2), np.uint64)
    flat_variance = variance.reshape(-1)
    n_rows = 0
    for tile in range(start, n_tiles):
        if n_rows + most * n_images > len(found):
            return tile, n_rows
        y0, x0 = (tile // across) * ROWS, (tile % across) * columns
        box = pick_rows(keep, y0, min(y0 + ROWS, n_slow), x0, min(x0 + columns, n_fast))
        n = (box[1] - box[0]) * COLUMNS
        if n == 0:
            continue
        longest, middle, radius = pick(
            keep, s, response, background, box, local, length, before, rates
        )
        sx, sy, sz = local[0, :n], local[1, :n], local[2, :n]
        describe_blocks(sx, sy, sz, near[0])
        reach = reach_within(longest, regions)
        frame, compact = key_frame(affine, middle, radius)
        spread = (np.uint64(1) << shift if compact <= bits else SPREAD), shift
        all_keys[n + COLUMNS : n + 2 * COLUMNS] = NO_KEY
        keys = all_keys[COLUMNS : n + COLUMNS]
        n_found = 0
        for i in range(n_images):
            a = affine[i]
            scale, time, phi = per_image[i, 0], per_image[i, 1], per_image[i, 2]
            write_keys(
                key_terms(a, middle, radius, frame),
                local,
                keep,
                images[i],
                masks[i],
                limits,
                box,
                keys,
            )
            for r in range(reach.shape[1]):
                leave_out(
                    i,
                    r,
                    regions,
                    reach,
                    longest,
                    middle,
                    radius,
                    sx,
                    sy,
                    sz,
                    n,
                    near,
                    keys,
                )
            exact = i, a, regions, s, box, frame
            if stay_key.size:
                _stays(
                    keys,
                    exact,
                    n_fast,
                    time,
                    flat_variance,
                    stay_key,
                    stay_time,
                    variances,
                )
            n_runs = find_runs(n, all_keys, ends)
            sum_runs(images[i], n_fast, box, all_keys, counts)
            known = n_found
            n_found, n_unsure = find_rows(
                keys,
                n_runs,
                ends,
                spread,
                row_of,
                slots,
                known,
                keys_found,
                rows,
                unsure,
            )
            if n_unsure:
                _settle(n_unsure, unsure, ends, exact, settled)
                n_found, _ = find_rows(
                    settled,
                    n_unsure,
                    in_turn,
                    spread,
                    row_of,
                    slots,
                    n_found,
                    keys_found,
                    settled_rows,
                    unsure,
                )
                for k in range(n_unsure):
                    rows[unsure[k]] = settled_rows[k]
            tile_sums[known:n_found] = 0.0
            places[known:n_found] = 0
            add_runs(
                n_runs, ends, rows, counts, before, scale, phi, tops, tile_sums, places
            )
            if background.size:
                extra[known:n_found] = 0.0
                add_background(n_runs, ends, rows, rates, variances, time, tops, extra)
        n_rows += write_rows(
            n_found,
            frame,
            (box[0], box[2]),
            keys_found,
            tile_sums,
            places,
            extra,
            readout,
            found[n_rows:],
            sums[n_rows:],
        )
    return -1, n_rows
