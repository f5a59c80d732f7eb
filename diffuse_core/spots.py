"""Pixels and spots that do not come from the smooth scattering around them.

Single pixels first, the brightest before the others, against surroundings from which a
neighbouring spot is kept out; then all places of the image, smoothed to the width of a
spot, against surroundings without what was found.

All pixels take a quick test, few the exact one, and what is found has an effect on its
own neighbourhood only: the rest of the image is not looked at again.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from diffuse_core.poisson import disagreement
from diffuse_core.quick_tests import ONE_PIXEL, least
from diffuse_core.scan import KEY, MEAN, add_row, empty_table, in_order, scan
from diffuse_core.spot_shapes import leave_out, typical_width
from diffuse_core.squares import squares
from diffuse_core.surroundings import (
    ALL_ARMS,
    REACH,
    SPOT,
    ring_mean,
    ring_of,
    ring_shape,
)
from diffuse_core.windows import all_cells, is_marked, mark, windows_of

SCREENS = 4
"""Passes for single pixels, each without what the last one found around."""

PASSES = 2
"""Passes for spots: tails that the first one did not foresee are seen by the second."""

WEIGHTS = np.array([1.0, 4.0, 6.0, 4.0, 1.0], np.float32) / np.float32(16.0)
"""Of a spot along a row or a column, a sigma of 1 pixel. Of what the best weights would
tell of a spot with sigma 0.6 to 2 pixels, 80 % or more is left."""


@njit(cache=True)
def _sticks_out(n, m, k, mean, uneven, top, limit):
    """True if the mean `n` of `m` pixels isn't what its surroundings let expect.

    What makes the surroundings uneven does not average out over the m pixels.
    """
    if mean <= n <= top:
        return False
    expected = mean if n < mean else top
    g = abs(disagreement(n, m, expected, k))
    return g > limit and g > limit * (1.0 + m * uneven / max(expected, 1e-9))


@njit(cache=True)
def _may_stick_out(n, m, k, mean, limit):
    """True unless even smooth surroundings let expect it."""
    return k > 0.0 and abs(disagreement(n, m, mean, k)) > limit


@njit(cache=True)
def single_outliers(counts, valid, limit):
    """Single pixels whose counts disagree with their surroundings, above or below.

    Args:
        counts: (n_slow, n_fast) float32: photons.
        valid: (n_slow, n_fast) bool: pixels that count.
        limit: Smallest G that is no chance: -ln of the probability of a false alarm.

    Returns:
        (n_slow, n_fast) bool, True = outlier; and the valid pixels that are neither
        outliers nor next to one.
    """
    sums = squares()
    windows = windows_of(all_cells(counts.shape), counts.shape)
    pixels, _ = scan(sums, counts, valid, valid, True, windows, (limit, 0.0))
    found, smooth = np.zeros(counts.shape, np.bool_), valid.copy()
    _outliers_among(sums, counts, valid, pixels, limit, found, smooth)
    return found, smooth


@njit(cache=True)
def _outliers_among(sums, counts, valid, pixels, limit, found, smooth):
    """As `single_outliers`, from a table of pixels; returns that of the outliers and
    the cells where they have an effect.

    Args:
        found, smooth: Where to write; before all False, and as `valid`.
    """
    ring = ring_of(counts.shape[1])
    pixels = in_order(pixels)
    outliers, n_outliers = empty_table(), 0
    values, used, shape = counts.reshape(-1), smooth.reshape(-1), counts.shape
    changed = all_cells(counts.shape)
    changed[:] = False
    look = ~changed
    for screen in range(SCREENS):
        near = np.zeros_like(changed)
        for key in pixels[:, KEY]:
            y, x = int(key) // counts.shape[1], int(key) % counts.shape[1]
            if found[y, x] or not (is_marked(look, y, x) or is_marked(near, y, x)):
                continue
            n = counts[y, x]
            k, mean, arms = ring_mean(values, used, shape, y, x, True, ring)
            if not _may_stick_out(n, 1.0, k, mean, limit):
                continue
            uneven, top = ring_shape(values, used, shape, y, x, k, mean, arms, ring)
            if _sticks_out(n, 1.0, k, mean, uneven, top, limit):
                found[y, x] = True
                outliers = add_row(outliers, n_outliers, key, n, 1.0)
                n_outliers += 1
                for b in range(max(y - 1, 0), min(y + 2, counts.shape[0])):
                    for a in range(max(x - 1, 0), min(x + 2, counts.shape[1])):
                        smooth[b, a] = False
                far = REACH + 1
                mark(near, y - far, y + far + 1, x - far, x + far + 1)
        if not near.any():
            break
        changed |= near
        if screen + 1 < SCREENS:
            windows = windows_of(near, counts.shape)
            again, _ = scan(sums, counts, valid, smooth, False, windows, (limit, 0.0))
            pixels = in_order(_replaced(pixels, again, near, counts.shape[1]))
        look = near
    return outliers[:n_outliers], changed


@njit(cache=True)
def _replaced(table, new, cells, n_fast):
    """A table of which the rows in marked cells are new."""
    result = np.empty((len(table) + len(new), table.shape[1]))
    n = 0
    for i in range(len(table)):
        key = int(table[i, KEY])
        if not is_marked(cells, key // n_fast, key % n_fast):
            result[n] = table[i]
            n += 1
    result[n : n + len(new)] = new
    return result[: n + len(new)]


@njit(cache=True)
def _smoothed(counts, use, y, x):
    """The weighted mean around a pixel, and how many pixels it is worth."""
    total = weight = np.float32(0.0)
    for b in range(max(y - SPOT, 0), min(y + SPOT + 1, counts.shape[0])):
        for a in range(max(x - SPOT, 0), min(x + SPOT + 1, counts.shape[1])):
            if use[b, a]:
                w = WEIGHTS[b - y + SPOT] * WEIGHTS[a - x + SPOT]
                total += w * counts[b, a]
                weight += w
    if weight == 0.0:
        return np.float32(0.0), np.float32(0.0)
    return total / weight, weight / np.float32(ONE_PIXEL)


@njit(cache=True)
def _without(places, single, n_fast):
    """The table of places without those of single outliers."""
    result = np.empty_like(places)
    n = 0
    for i in range(len(places)):
        key = int(places[i, KEY])
        if not single[key // n_fast, key % n_fast]:
            result[n] = places[i]
            n += 1
    return result[:n]


@njit(cache=True)
def _hits(counts, use, smooth, outliers, places, limit):
    """Table of what sticks out, in order: key, photons above or below what is expected
    there, and that level.

    Args:
        counts: (n_slow, n_fast) float32: photons.
        use: (n_slow, n_fast) bool: pixels that make up places.
        smooth: (n_slow, n_fast) bool: pixels that tell what is expected.
        outliers: Table of the single pixels that stick out, if they are used.
        places: Table of the places to look at, without these: `scan` found them to
            stick out of smooth surroundings.
        limit: Smallest G that is no chance.
    """
    ring = ring_of(counts.shape[1])
    values, used, shape = counts.reshape(-1), smooth.reshape(-1), counts.shape
    hits, n_hits = empty_table(), 0
    for key in outliers[:, KEY]:
        y, x = int(key) // counts.shape[1], int(key) % counts.shape[1]
        if not use[y, x]:
            continue
        n, m = _smoothed(counts, use, y, x)
        here = ring_mean(values, used, shape, y, x, False, ring)[1]
        photons = m * (n - here) if counts[y, x] > here else -1.0
        if photons != 0.0:
            hits = add_row(hits, n_hits, key, photons, here)
            n_hits += 1
    for i in range(len(places)):
        key, n, m = places[i, 0], places[i, 1], places[i, 2]
        here, k = places[i, 3], places[i, 4]
        y, x = int(key) // counts.shape[1], int(key) % counts.shape[1]
        needed = least(limit, here)
        uneven, top = ring_shape(values, used, shape, y, x, k, here, ALL_ARMS, ring)
        if _sticks_out(n, m, k, here, uneven, top, needed):
            hits = add_row(hits, n_hits, key, m * (n - here), here)
            n_hits += 1
    return in_order(hits[:n_hits])


@njit(cache=True)
def find_spots(counts, valid, pixel_limit, spot_limit, leak):
    """Pixels of spots, and single pixels that disagree with their surroundings.

    Args:
        counts: (n_slow, n_fast) float32: photons >= 0.
        valid: (n_slow, n_fast) bool: pixels that count.
        pixel_limit, spot_limit: Smallest G that is no chance, for single pixels and for
            spots: -ln of the probability of a false alarm.
        leak: Largest share of what is around that a spot may add to a pixel that is
            kept.

    Returns:
        (n_slow, n_fast) bool, True = outlier.
    """
    memory = memory_of(counts.shape)
    return find_in(memory, counts, valid, pixel_limit, spot_limit, leak)


@njit(cache=True)
def memory_of(shape):
    """What `find_in` needs for images of a shape; it may be used again.

    To be handed new pages by the system can take a third as long as the search itself.
    """
    return (
        np.zeros(shape, np.bool_),
        np.zeros(shape, np.bool_),
        np.zeros(shape, np.bool_),
        np.zeros(shape, np.float32),
    )


@njit(cache=True)
def find_in(memory, counts, valid, pixel_limit, spot_limit, leak):
    """As `find_spots`, with what `memory_of` gave."""
    single, smooth, use, score = memory
    single[:], smooth[:], use[:] = False, valid, valid
    sums, shape = squares(), counts.shape
    windows = windows_of(all_cells(shape), shape)
    limits, spots_only = (pixel_limit, spot_limit), (0.0, spot_limit)
    pixels, places = scan(sums, counts, valid, valid, True, windows, limits)
    outliers, changed = _outliers_among(
        sums, counts, valid, pixels, pixel_limit, single, smooth
    )
    windows = windows_of(changed, shape)
    _, again = scan(sums, counts, use, smooth, False, windows, spots_only)
    places = _replaced(places, again, changed, shape[1])
    found = np.zeros(shape, np.bool_)
    width = 0.0
    for turn in range(PASSES):
        places = _without(places, single, shape[1])
        hits = _hits(counts, use, smooth, outliers, places, spot_limit)
        if len(hits) == 0:
            break
        flat = score.reshape(-1)
        for i in range(len(hits)):
            flat[int(hits[i, KEY])] = hits[i, MEAN]
        if width == 0.0:
            width = typical_width(counts, valid, hits, score)
        changed[:] = False
        leave_out(counts, use, hits, score, leak, width, found, changed)
        for key in hits[:, KEY]:
            flat[int(key)] = 0.0
        windows = windows_of(changed, shape)
        for y0, y1, x0, x1 in windows:
            for y in range(y0, y1):
                for x in range(x0, x1):
                    if found[y, x]:
                        use[y, x] = smooth[y, x] = False
                        found[y, x] = valid[y, x]
        if turn + 1 < PASSES:
            _, places = scan(
                sums, counts, use, smooth, False, windows, (0.0, spot_limit)
            )
    return found
