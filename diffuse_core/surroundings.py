"""What a pixel may be expected to count, from the ring of pixels around it.

The ring is far enough from the centre not to hold the spot that is looked for, near
enough to tell the level. A neighbouring spot falls into one or two of its four arms.
"""

from __future__ import annotations

import math

from numba import njit

from diffuse_core.ring_sums import ALL_ARMS, arm_sums, moments

FEWEST = 12
"""Pixels that must be left of the surroundings."""


@njit(cache=True)
def ring_mean(values, used, shape, y, x, robust):
    """Pixels and mean of the ring around y, x, and the arms that they are in, a bit for
    each.

    k = 0 where the pixels are too few.

    Args:
        values: (n_slow n_fast,) float32: photons.
        used: (n_slow n_fast,) bool: pixels that tell the surroundings.
        shape: n_slow, n_fast.
        y, x: The centre.
        robust: Leave out the brightest and the faintest of the four arms (of three the
            brightest), since neighbouring spots have not been found yet.
    """
    pixels, photons = arm_sums(values, used, shape, y, x)
    k0, k1, k2, k3 = pixels
    n0, n1, n2, n3 = photons
    arms = ALL_ARMS
    if robust:
        if min(min(k0, k1), min(k2, k3)) > 0.0:
            arms -= _extremes(pixels, photons)
        else:
            arms -= _brightest(pixels, photons)
    a, b = float(arms & 1), float(arms >> 1 & 1)
    c, d = float(arms >> 2 & 1), float(arms >> 3)
    k = (a * k0 + b * k1) + (c * k2 + d * k3)
    n = (a * n0 + b * n1) + (c * n2 + d * n3)
    if k < FEWEST:
        return 0.0, 0.0, 0
    return k, n / k, arms


@njit(cache=True, inline="always")
def _extremes(pixels, photons):
    """The bits of the faintest arm and of the brightest, if all have pixels.

    Without branches, which nobody could foresee.
    """
    k0, k1, k2, k3 = pixels
    n0, n1, n2, n3 = photons
    less, more = n1 * k0 < n0 * k1, n1 * k0 >= n0 * k1
    low, low_k, low_n = (2, k1, n1) if less else (1, k0, n0)
    high, high_k, high_n = (2, k1, n1) if more else (1, k0, n0)
    less, more = n2 * low_k < low_n * k2, n2 * high_k >= high_n * k2
    low, low_k, low_n = (4, k2, n2) if less else (low, low_k, low_n)
    high, high_k, high_n = (4, k2, n2) if more else (high, high_k, high_n)
    less, more = n3 * low_k < low_n * k3, n3 * high_k >= high_n * k3
    return (8 if less else low) + (8 if more else high)


@njit(cache=True)
def _brightest(pixels, photons):
    """The bit of the brightest arm if three have pixels, else 0."""
    high, have = -1, 0
    for i in range(4):
        if pixels[i] > 0.0:
            have += 1
            if high < 0 or photons[i] * pixels[high] >= photons[high] * pixels[i]:
                high = i
    return 1 << high if have == 3 else 0


@njit(cache=True)
def ring_shape(values, used, shape, y, x, k, mean, arms):
    """Variance beyond chance, and the most that a halo could reach.

    The last is the mean, or the height at the centre of a halo of the width `NARROWEST`
    that fits the ring best, on a constant, if that is higher.

    Args:
        values, used, shape, y, x: As in `ring_mean`.
        k, mean, arms: What it said, k > 0.
    """
    squares, g, gg, gn = moments(values, used, shape, y, x, k, arms)
    chance = mean + math.sqrt((mean + 2.0 * mean * mean) / k)
    uneven = max(squares / k - mean * mean - chance, 0.0)
    top = mean
    contrast = gg - g * g / k
    if contrast > 0.0:
        top += max((gn - g * mean) / contrast, 0.0) * (1.0 - g / k)
    return uneven, top
