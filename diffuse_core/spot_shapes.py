"""How far a spot reaches: its photons, centre and covariance, and what it adds around.

A spot that adds up to N photons, with covariance C, adds

    N / (2 pi |C|^(1/2)) exp(-d C^-1 d / 2)

to the pixel at d from its centre. Pixels where that is more than a given share of what
is expected there are left out: a strong spot takes more of its surroundings with it
than a weak one, and a clean pixel beside it is kept.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from diffuse_core.ring_sums import REACH, SPOT
from diffuse_core.windows import mark

STRONG = 100.0
"""Photons of a spot that tells the width of spots on its image."""

CLEAR = 20.0
"""Times its level that such a spot holds."""

FEWEST_STRONG = 5
"""With fewer of them, spots are taken to be `WIDTH` wide."""

WIDTH = 1.2
"""Sigma in pixels."""

PRIOR = 50.0
"""Photons that the width of the image's spots counts for in that of a single spot."""

WIDE = 1.3
"""Sigma in pixels above which a spot is measured in a larger square."""

LARGEST = 12
"""Pixels from its centre beyond which no spot is followed."""

FAINTEST = 0.02
"""Lowest level in counts: a single photon on nothing is no spot of infinite size."""


@njit(cache=True)
def is_peak(score, y, x):
    """True if the score is above 0, and none next to it is larger."""
    here = score[y, x]
    for b in range(max(y - 1, 0), min(y + 2, score.shape[0])):
        for a in range(max(x - 1, 0), min(x + 2, score.shape[1])):
            if score[b, a] > here:
                return False
    return here > 0.0


@njit(cache=True)
def shape_of(counts, use, y, x, level, half, width, prior):
    """Photons, centre (slow, fast) from y, x, and covariance (slow, fast, mixed).

    Moments of the counts above the level, in a square of side 2 half + 1, as if `prior`
    more photons of a round spot with sigma `width` had been seen.
    """
    n = sy = sx = yy = xx = yx = 0.0
    for j in range(max(y - half, 0), min(y + half + 1, counts.shape[0])):
        for i in range(max(x - half, 0), min(x + half + 1, counts.shape[1])):
            if use[j, i]:
                value = counts[j, i] - level
                b, a = j - y, i - x
                n += value
                sy += value * b
                sx += value * a
                yy += value * b * b
                xx += value * a * a
                yx += value * b * a
    if n <= 0.0:
        return 0.0, 0.0, 0.0, 1.0, 1.0, 0.0
    weight = n + prior
    cy, cx = min(max(sy / weight, -1.0), 1.0), min(max(sx / weight, -1.0), 1.0)
    round_ = prior * width * width
    yy = min(max((yy - n * cy * cy + round_) / weight, 0.1), 16.0)
    xx = min(max((xx - n * cx * cx + round_) / weight, 0.1), 16.0)
    most = 0.9 * math.sqrt(yy * xx)
    yx = min(max((yx - n * cy * cx) / weight, -most), most)
    return n, cy, cx, yy, xx, yx


@njit(cache=True)
def typical_width(counts, use, hits, score):
    """Median sigma (pixels) of the strong spots of an image; `WIDTH` if there are few.

    Args:
        counts: (n_slow, n_fast) float32: photons.
        use: (n_slow, n_fast) bool: pixels that count.
        hits: (n, 3) float64 or wider: y n_fast + x, photons of spots and level of
            places that stick out, in order.
        score: (n_slow, n_fast) float32: the photons of `hits`, else 0.
    """
    found = np.empty(1024)
    n = 0
    for i in range(len(hits)):
        key, photons, level = int(hits[i, 0]), hits[i, 1], hits[i, 2]
        y, x = key // score.shape[1], key % score.shape[1]
        strong = max(STRONG, CLEAR * level)
        if photons < strong or n == found.size or not is_peak(score, y, x):
            continue
        shape = shape_of(counts, use, y, x, level, SPOT, 1.0, 0.0)
        found[n] = (shape[3] * shape[4] - shape[5] * shape[5]) ** 0.25
        n += 1
    return np.median(found[:n]) if n >= FEWEST_STRONG else WIDTH


@njit(cache=True)
def leave_out(counts, use, hits, score, leak, width, found, changed):
    """Marks in `found` what has a score, and all that spots reach.

    Args:
        counts, use, hits, score: As in `typical_width`; a negative score is a place
            below its level, and reaches no further.
        leak: Largest share of the level that a spot may add to a pixel that is kept.
        width: Typical sigma of spots (pixels).
        found: (n_slow, n_fast) bool.
        changed: (rows, columns) bool: cells (see `windows`) for whose pixels `found`
            has an effect on what is around are marked.
    """
    n_slow, n_fast = score.shape
    for i in range(len(hits)):
        key, level = int(hits[i, 0]), hits[i, 2]
        y, x = key // n_fast, key % n_fast
        found[y, x] = True
        mark(changed, y - REACH, y + REACH + 1, x - REACH, x + REACH + 1)
        if not is_peak(score, y, x):
            continue
        here = max(level, FAINTEST)
        shape = shape_of(counts, use, y, x, here, SPOT, width, PRIOR)
        if shape[3] * shape[4] - shape[5] * shape[5] > WIDE**4:
            shape = shape_of(counts, use, y, x, here, 2 * SPOT, width, PRIOR)
        n, cy, cx, yy, xx, yx = shape
        determinant = yy * xx - yx * yx
        peak = n / (2.0 * math.pi * math.sqrt(determinant))
        if peak <= leak * here:
            continue
        bound = 2.0 * math.log(peak / (leak * here))
        slow = min(int(math.sqrt(bound * yy)) + 2, LARGEST)
        fast = min(int(math.sqrt(bound * xx)) + 2, LARGEST)
        far, wide = slow + REACH, fast + REACH
        mark(changed, y - far, y + far + 1, x - wide, x + wide + 1)
        for b in range(max(y - slow, 0), min(y + slow + 1, n_slow)):
            for a in range(max(x - fast, 0), min(x + fast + 1, n_fast)):
                dy, dx = b - y - cy, a - x - cx
                square = dy * dy * xx + dx * dx * yy - 2.0 * dy * dx * yx
                if square < bound * determinant:
                    found[b, a] = True
