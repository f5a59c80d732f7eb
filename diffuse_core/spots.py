"""Pixels and spots that do not come from the smooth scattering around them.

Single pixels first, the brightest before the others, against surroundings from which a
neighbouring spot is kept out; then all places of the image, smoothed to the width of a
spot, against surroundings without what was found.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from diffuse_core.poisson import disagreement, entropy
from diffuse_core.spot_shapes import leave_out, typical_width
from diffuse_core.surroundings import box_means, surroundings

SCREENS = 4
"""Passes for single pixels, each without what the last one found around."""

PASSES = 2
"""Passes for spots: tails that the first one did not foresee are seen by the second."""

SIDE = np.float32(1 / 16), np.float32(4 / 16), np.float32(6 / 16)
"""Weights of a spot along a row or a column: 1 4 6 4 1, a sigma of 1 pixel. Of what
the best weights would tell of a spot with sigma 0.6 to 2 pixels, 80 % or more is left.
"""

ONE_PIXEL = np.float32((70 / 256) ** 2)
"""Sum of the squares of the weights; 1 / `ONE_PIXEL` = 13.4 pixels are averaged."""


@njit(cache=True)
def _sticks_out(n, m, k, mean, uneven, top, limit):
    """True if the mean `n` of `m` pixels isn't what its surroundings let expect.

    What makes the surroundings uneven does not average out over the m pixels.
    """
    if k == 0.0 or mean <= n <= top:
        return False
    expected = mean if n < mean else top
    g = abs(disagreement(n, m, expected, k))
    return g > limit and g > limit * (1.0 + m * uneven / max(expected, 1e-9))


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
    n_slow, n_fast = counts.shape
    found = np.zeros((n_slow, n_fast), np.bool_)
    smooth = valid.copy()
    level = np.empty((n_slow, n_fast), np.float32)
    for _ in range(SCREENS):
        box_means(counts, smooth, level)
        again = False
        for y in range(n_slow):
            for x in range(n_fast):
                n, mean = counts[y, x], level[y, x]
                if mean < 0.0 or (n - mean) ** 2 < 9.0 * mean:
                    continue
                if not valid[y, x] or found[y, x]:
                    continue
                if 2.0 * entropy(n, max(mean, 1e-6)) < limit:
                    continue
                k, mean, uneven, top = surroundings(counts, smooth, y, x, True)
                if _sticks_out(n, 1.0, k, mean, uneven, top, limit):
                    found[y, x] = again = True
                    for b in range(max(y - 1, 0), min(y + 2, n_slow)):
                        for a in range(max(x - 1, 0), min(x + 2, n_fast)):
                            smooth[b, a] = False
        if not again:
            break
    return found, smooth


@njit(cache=True)
def smoothed(counts, use, mean, pixels):
    """Writes the weighted mean around each pixel and how many pixels it is worth.

    Args:
        counts: (n_slow, n_fast) float32.
        use: (n_slow, n_fast) bool.
        mean, pixels: (n_slow, n_fast) float32: results; 0 where no pixel is used.
    """
    n_slow, n_fast = counts.shape
    far, near, middle = SIDE
    totals = np.zeros((5, n_fast), np.float32)
    weights = np.zeros((5, n_fast), np.float32)
    line = np.zeros(n_fast + 4, np.float32)
    used = np.zeros(n_fast + 4, np.float32)
    for row in range(n_slow + 2):
        total, weight = totals[row % 5], weights[row % 5]
        total[:] = weight[:] = np.float32(0.0)
        if row < n_slow:
            for x in range(n_fast):
                one = np.float32(1.0) if use[row, x] else np.float32(0.0)
                used[x + 2] = one
                line[x + 2] = counts[row, x] if use[row, x] else np.float32(0.0)
            for x in range(n_fast):
                total[x] = far * (line[x] + line[x + 4]) + middle * line[x + 2]
                total[x] += near * (line[x + 1] + line[x + 3])
                weight[x] = far * (used[x] + used[x + 4]) + middle * used[x + 2]
                weight[x] += near * (used[x + 1] + used[x + 3])
        y = row - 2
        if y < 0:
            continue
        a, b, c, d, e = (y - 2) % 5, (y - 1) % 5, y % 5, (y + 1) % 5, (y + 2) % 5
        for x in range(n_fast):
            t = far * (totals[a, x] + totals[e, x]) + middle * totals[c, x]
            t += near * (totals[b, x] + totals[d, x])
            w = far * (weights[a, x] + weights[e, x]) + middle * weights[c, x]
            w += near * (weights[b, x] + weights[d, x])
            pixels[y, x] = w / ONE_PIXEL
            mean[y, x] = t / w if w > np.float32(0.0) else np.float32(0.0)


@njit(cache=True)
def _least(limit, level):
    """Smallest G of a spot: below one count a pixel, chance may bring fewer spots, so
    that the photons they take stay the same share of all."""
    return limit - math.log(min(max(level, 1e-6), 1.0))


@njit(cache=True)
def _score(counts, use, smooth, single, limit, level, score):
    """Writes the level around each pixel, and the photons above or below it where the
    smoothed counts stick out, or the pixel alone did; else 0. How many did."""
    mean, pixels = np.empty_like(level), np.empty_like(level)
    smoothed(counts, use, mean, pixels)
    box_means(counts, smooth, level)
    hits = 0
    for y in range(counts.shape[0]):
        for x in range(counts.shape[1]):
            score[y, x] = 0.0
            if not use[y, x]:
                continue
            n, m = mean[y, x], pixels[y, x]
            alone = single[y, x]
            if not alone:
                away = (n - level[y, x]) ** 2 * m
                if level[y, x] < 0.0 or away < 1.5 * limit * level[y, x]:
                    continue
                if m * ONE_PIXEL < 0.5:
                    continue
            k, here, uneven, top = surroundings(counts, smooth, y, x, False)
            if alone and counts[y, x] <= here:
                score[y, x] = -1.0
            elif alone or _sticks_out(n, m, k, here, uneven, top, _least(limit, here)):
                score[y, x] = m * (n - here)
            if score[y, x] != 0.0:
                hits += 1
                level[y, x] = here
    return hits


@njit(cache=True)
def find_spots(counts, valid, pixel_limit, spot_limit, leak):
    """Pixels of spots, and single pixels that disagree with their surroundings.

    Args:
        counts: (n_slow, n_fast) float32: photons.
        valid: (n_slow, n_fast) bool: pixels that count.
        pixel_limit, spot_limit: Smallest G that is no chance, for single pixels and for
            spots: -ln of the probability of a false alarm.
        leak: Largest share of what is around that a spot may add to a pixel that is
            kept.

    Returns:
        (n_slow, n_fast) bool, True = outlier.
    """
    single, smooth = single_outliers(counts, valid, pixel_limit)
    level = np.empty(counts.shape, np.float32)
    score = np.empty(counts.shape, np.float32)
    found = np.zeros(counts.shape, np.bool_)
    use = valid.copy()
    width = 0.0
    for _ in range(PASSES):
        if _score(counts, use, smooth, single, spot_limit, level, score) == 0:
            break
        if width == 0.0:
            width = typical_width(counts, valid, level, score)
        leave_out(counts, use, level, score, leak, width, found)
        for y in range(counts.shape[0]):
            for x in range(counts.shape[1]):
                if found[y, x]:
                    use[y, x] = smooth[y, x] = False
                    found[y, x] = valid[y, x]
    return found
