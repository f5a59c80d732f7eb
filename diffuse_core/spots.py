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

from diffuse_core.poisson import disagreement, most_disagreement
from diffuse_core.quick_tests import ONE_PIXEL, least, place_stands_out
from diffuse_core.ring_sums import ALL_ARMS, REACH, SPOT
from diffuse_core.scan import KEY, MEAN, in_order, longer, look, scan
from diffuse_core.spot_shapes import leave_out, typical_width
from diffuse_core.squares import squares
from diffuse_core.surroundings import ring_mean, ring_shape
from diffuse_core.windows import all_cells, is_marked, mark, windows_of

FAINT = 0.1
"""Counts a pixel below which places take the cheaper test first: most do not pass."""

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
    limit *= 1.0 + m * uneven / max(expected, 1e-9)
    if most_disagreement(n, m, expected) <= limit:
        return False
    return abs(disagreement(n, m, expected, k)) > limit


@njit(cache=True)
def _may_stick_out(n, m, k, mean, limit):
    """True unless even smooth surroundings let expect it."""
    if k == 0.0 or most_disagreement(n, m, mean) <= limit:
        return False
    return abs(disagreement(n, m, mean, k)) > limit


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
    pixels, _ = look(sums, counts, valid, valid, True, windows, (limit, 0.0))
    found, smooth = np.zeros(counts.shape, np.bool_), valid.copy()
    _outliers_among(sums, counts, valid, pixels, limit, found, smooth)
    return found, smooth


@njit(cache=True)
def _outliers_among(sums, counts, valid, pixels, limit, found, smooth):
    """As `single_outliers`, from the keys of pixels; returns those of the outliers and
    the cells where they have an effect.

    Args:
        found, smooth: Where to write; before all False, and as `valid`.
    """
    pixels = pixels[in_order(pixels, counts.shape)]
    outliers, n_outliers = np.empty(256, np.int64), 0
    values, used, shape = counts.reshape(-1), smooth.reshape(-1), counts.shape
    changed = all_cells(counts.shape)
    changed[:] = False
    asked = ~changed
    for screen in range(SCREENS):
        near = np.zeros_like(changed)
        for key in pixels:
            y, x = key // shape[1], key % shape[1]
            if not (is_marked(asked, y, x) or is_marked(near, y, x)) or found[y, x]:
                continue
            n = counts[y, x]
            k, mean, arms = ring_mean(values, used, shape, y, x, True)
            if not _may_stick_out(n, 1.0, k, mean, limit):
                continue
            uneven, top = ring_shape(values, used, shape, y, x, k, mean, arms)
            if _sticks_out(n, 1.0, k, mean, uneven, top, limit):
                found[y, x] = True
                outliers = longer(outliers, n_outliers, 1)
                outliers[n_outliers] = key
                n_outliers += 1
                for b in range(max(y - 1, 0), min(y + 2, shape[0])):
                    for a in range(max(x - 1, 0), min(x + 2, shape[1])):
                        smooth[b, a] = False
                far = REACH + 1
                mark(near, y - far, y + far + 1, x - far, x + far + 1)
        if not near.any():
            break
        changed |= near
        if screen + 1 < SCREENS:
            windows = windows_of(near, shape)
            again, _ = look(sums, counts, valid, smooth, False, windows, (limit, 0.0))
            pixels = np.concatenate((_outside(pixels, near, shape[1]), again))
            pixels = pixels[in_order(pixels, shape)]
        asked = near
    return outliers[:n_outliers], changed


@njit(cache=True)
def _outside(keys, cells, n_fast):
    """The keys of pixels that are not in marked cells."""
    result = np.empty_like(keys)
    n = 0
    for key in keys:
        if not is_marked(cells, key // n_fast, key % n_fast):
            result[n] = key
            n += 1
    return result[:n]


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
def _hits_at_pixels(counts, use, smooth, outliers, hits):
    """Writes a row of `hits` for single pixels that stick out; returns how many.

    Args:
        counts: (n_slow, n_fast) float32: photons.
        use: (n_slow, n_fast) bool: pixels that make up places.
        smooth: (n_slow, n_fast) bool: pixels that tell what is expected.
        outliers: Their keys; those that are used count.
        hits: (n, 3) float64: key, photons above or below what is expected there, and
            that level.
    """
    values, used, shape = counts.reshape(-1), smooth.reshape(-1), counts.shape
    n_hits = 0
    for key in outliers:
        y, x = key // shape[1], key % shape[1]
        if not use[y, x]:
            continue
        n, m = _smoothed(counts, use, y, x)
        here = ring_mean(values, used, shape, y, x, False)[1]
        photons = m * (n - here) if counts[y, x] > here else -1.0
        if photons != 0.0:
            hits[n_hits, 0], hits[n_hits, 1], hits[n_hits, 2] = key, photons, here
            n_hits += 1
    return n_hits


@njit(cache=True)
def _hits_among(places, cells, counts, smooth, single, limit, hits):
    """The same for places that stick out.

    Args:
        places: Table of the places to look at, if they are no single pixels that stick
            out.
        cells: Places in marked ones are not looked at.
        single: (n_slow, n_fast) bool: single pixels that stick out.
        limit: Smallest G that is no chance.
        counts, smooth, hits: As in `_hits_at_pixels`.
    """
    values, used, shape = counts.reshape(-1), smooth.reshape(-1), counts.shape
    n_hits = 0
    for i in range(len(places)):
        key, n, m = int(places[i, 0]), places[i, 1], places[i, 2]
        here, k = places[i, 3], places[i, 4]
        y, x = key // shape[1], key % shape[1]
        if is_marked(cells, y, x) or single[y, x]:
            continue
        if here < FAINT and not place_stands_out(n, m, here, k, limit):
            continue
        uneven, top = ring_shape(values, used, shape, y, x, k, here, ALL_ARMS)
        if _sticks_out(n, m, k, here, uneven, top, least(limit, here)):
            hits[n_hits, 0], hits[n_hits, 1] = key, m * (n - here)
            hits[n_hits, 2] = here
            n_hits += 1
    return n_hits


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
    """What `find_in` needs for images of a shape; it may be used again, as it is left.

    To be handed new pages by the system can take a third as long as the search itself.
    """
    return (
        np.zeros(shape, np.bool_),
        np.zeros(shape, np.bool_),
        np.zeros(shape, np.bool_),
        np.zeros(shape, np.float32),
    )


@njit(cache=True, nogil=True)
def find_in(memory, counts, valid, pixel_limit, spot_limit, leak):
    """As `find_spots`, with what `memory_of` gave."""
    single, smooth, use, score = memory
    smooth[:], use[:] = valid, valid
    sums, shape = squares(), counts.shape
    windows = windows_of(all_cells(shape), shape)
    limits, spots_only = (pixel_limit, spot_limit), (0.0, spot_limit)
    pixels, places = look(sums, counts, valid, valid, True, windows, limits)
    outliers, changed = _outliers_among(
        sums, counts, valid, pixels, pixel_limit, single, smooth
    )
    nowhere = np.zeros_like(changed)
    windows = windows_of(changed, shape)
    _, again = look(sums, counts, use, smooth, False, windows, spots_only)
    found = np.zeros(shape, np.bool_)
    width = 0.0
    for turn in range(PASSES):
        hits = np.empty((len(outliers) + len(places) + len(again), 3))
        n = _hits_at_pixels(counts, use, smooth, outliers, hits)
        to = counts, smooth, single, spot_limit
        n += _hits_among(places, changed, *to, hits[n:])
        n += _hits_among(again, nowhere, *to, hits[n:])
        if n == 0:
            break
        hits = hits[in_order(hits[:n, KEY], shape)]
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
            places = places[:0]
            _, again = scan(sums, counts, use, smooth, False, windows, spots_only)
    for key in outliers:
        single[key // shape[1], key % shape[1]] = False
    return found
