"""Counts that do not come from the smooth expectation around them, by relative entropy.

m D(n || l) = m [ n ln(n / l) - n + l ] is m times the relative entropy (Kullback and
Leibler) of Poisson distributions with means n and l. By Chernoff's bound the mean of m
pixels reaches n by chance with a probability below exp(-m D). Where l is itself
estimated from k pixels, both samples are compared with their common mean u:

    G = m D(n || u) + k D(l || u),    u = (m n + k l) / (m + k)

G / m goes to D(n || l) for large k. Counts below the expectation give G as those above.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

TILE = 32
"""Pixels along the side of the squares whose variance and mean are compared."""

TILES = 400
"""Most squares that are looked at."""

PHOTONS = 1.5
"""Variance over mean up to which a detector counts photons."""

SMOOTHEST = 0.1
"""Share of the squares, those of the lowest ratio, that tells if photons are counted:
halos and weak spots only add to the variance."""

CLIP = 4.0
"""Sigmas above the mean of a square beyond which a pixel belongs to a spot."""


@njit(cache=True)
def entropy(n, mean):
    """Relative entropy of Poisson distributions with means `n` and `mean` > 0."""
    if n <= 0.0:
        return mean
    return n * math.log(n / mean) - n + mean


@njit(cache=True)
def disagreement(n, m, mean, k):
    """G of the mean `n` of `m` pixels and the `mean` of `k`; negative if n is below."""
    common = (m * n + k * mean) / (m + k)
    if common <= 0.0:
        return 0.0
    value = m * entropy(n, common) + k * entropy(mean, common)
    return value if n >= mean else -value


@njit(cache=True, error_model="numpy")
def most_disagreement(n, m, mean):
    """No less than the size of `disagreement` for any k, without logarithms.

    From the Pade approximant x (30 + 21 x + x^2) / (30 + 36 x + 9 x^2) >= ln(1 + x), of
    which the first missing term is + x^6 / 600, with x = n / mean - 1: a sample and a
    law disagree more than two samples.
    """
    if mean <= 0.0:
        return np.inf
    d = n - mean
    above = 15.0 * mean * mean + 13.0 * mean * d + d * d
    below = mean * (30.0 * mean * mean + 36.0 * mean * d + 9.0 * d * d)
    return (1.0 + 1e-9) * m * d * d * above / below


@njit(cache=True, nogil=True)
def dispersions(counts, valid, tile):
    """Variance over mean in square tiles, sorted; empty if nothing is known.

    1 for photons, the gain for a detector that integrates. The variance is half the
    mean square of differences over three pixels, so that slopes do not count and the
    neighbours that share a photon's light do not either. Spots are left out: what is
    `CLIP` sigma above the mean, again and again with the sigma of what is left.

    Args:
        counts: (n_slow, n_fast) float32, pedestal subtracted.
        valid: (n_slow, n_fast) bool.
        tile: Pixels along the side of a tile; at most `TILES` of them are looked at.
    """
    n_slow, n_fast = counts.shape
    rows, columns = n_slow // tile, n_fast // tile
    step = max(1, -(-rows * columns // TILES))
    ratio = np.empty(rows * columns + 1)
    n = 0
    for number in range(0, rows * columns, step):
        y, x = number // columns * tile, number % columns * tile
        cap, before = np.inf, -1
        for _ in range(8):
            pixels, pairs, mean, variance = _spread_of(counts, valid, y, x, tile, cap)
            if pixels < 64 or pairs < 32 or pixels == before:
                break
            before = pixels
            cap = mean + CLIP * math.sqrt(variance) + 1.0
        if pixels >= 64 and pairs >= 32 and mean * pixels > 4.0:
            ratio[n] = variance / mean
            n += 1
    return np.sort(ratio[:n])


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def _spread_of(counts, valid, y0, x0, tile, cap):
    """Pixels, pairs, mean and variance of the counts of a tile that are not above
    `cap`."""
    total = squares = 0.0
    pixels = pairs = 0
    cap, zero = np.float32(cap), np.float32(0.0)
    values, used = counts.reshape(-1), valid.reshape(-1)
    apart, pairs_a_row = np.uintp(3), np.uintp(tile - 3)
    for y in range(y0, y0 + tile):
        at = np.uintp(y * counts.shape[1] + x0)
        for x in range(np.uintp(tile)):
            n = values[at + x]
            good = used[at + x] & (n <= cap)
            total += np.float64(n if good else zero)
            pixels += np.int64(good)
        for x in range(pairs_a_row):
            n, other = values[at + x], values[at + x + apart]
            good = used[at + x] & used[at + x + apart] & (n <= cap) & (other <= cap)
            difference = n - other if good else zero
            squares += np.float64(difference * difference)
            pairs += np.int64(good)
    return pixels, pairs, total / max(pixels, 1), 0.5 * squares / max(pairs, 1)


def photon_of(counts: np.ndarray, valid: np.ndarray) -> float | None:
    """Counts that one photon makes: 1 for a detector that counts photons, for one that
    integrates the variance over the mean.

    None if it is not known, as where the mean is not above 0.

    Args:
        counts: (n_slow, n_fast) float32, pedestal subtracted.
        valid: (n_slow, n_fast) bool.
    """
    ratio = dispersions(counts, valid, TILE)
    if not len(ratio):
        return None
    if ratio[int(SMOOTHEST * len(ratio))] > PHOTONS:
        return float(np.median(ratio))
    return 1.0


def as_photons(counts: np.ndarray, valid: np.ndarray) -> np.ndarray | None:
    """(n_slow, n_fast) float32 >= 0: counts in units that vary as photons do.

    None where `photon_of` is not known; arguments as there.
    """
    photon = photon_of(counts, valid)
    if photon is None:
        return None
    if photon != 1.0:
        counts = counts / np.float32(photon)
    return np.maximum(counts, np.float32(0.0))
