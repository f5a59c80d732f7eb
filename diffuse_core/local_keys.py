"""Keys of the voxels of neighbouring pixels, in few bits, for many pixels at once.

Within a tile voxel indices differ by little, so single precision decides for nearly
every pixel in which voxel it lies. Pixels that it can't decide are marked, and the rule
in double precision is asked for those alone: the result is the rule's for all.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from diffuse_core.grid import BITS, OFFSET

LOCAL_BITS = 10
NOWHERE = np.int32(-1)
"""Local key of pixels that do not count; pixel p is marked as unsure by a key that no
other pixel has, `NOWHERE - 1 - p`."""
ROUNDING = 6e-7
"""Bound on the error of an index in single precision, of the size of its terms: ten
roundings of 2^-24."""
SINGLE = np.float32
FAST = {"contract", "reassoc", "nsz", "arcp"}
_HALF = 1 << (LOCAL_BITS - 1)
_MASK = (1 << LOCAL_BITS) - 1
_MIDDLE = np.int32(_HALF * ((1 << 2 * LOCAL_BITS) + (1 << LOCAL_BITS) + 1))


@njit(cache=True, nogil=True)
def index_at(a, g, s):
    """Index along axis g (3) of an affine mapping (3, 4) of s."""
    return a[g, 0] * s[0] + a[g, 1] * s[1] + a[g, 2] * s[2] + a[g, 3]


@njit(cache=True, nogil=True)
def spread_of(a, radius):
    """Largest change of an index within `radius` (3) of the middle of a tile."""
    most = 0.0
    for g in range(3):
        size = 0.0
        for c in range(3):
            size += abs(a[g, c]) * radius[c]
        most = max(most, size)
    return most


@njit(cache=True, nogil=True, fastmath=FAST)
def local_keys(a, middle, radius, lx, ly, lz, keys):
    """Writes the local keys of pixels, for one image; the key where they begin.

    Args:
        a: (3, 4) float64: s (1/A) to voxel index.
        middle, radius: (3,) float64: middle of the tile, and how far it reaches (1/A).
        lx, ly, lz: (n,) float32: s of the pixels less the middle.
        keys: (n,) int32, written.
    """
    spread = spread_of(a, radius)
    first = np.empty(3, np.int64)
    offset = np.empty(3, np.float32)
    for g in range(3):
        at = index_at(a, g, middle) + 0.5
        first[g] = np.int64(math.floor(at))
        offset[g] = at - first[g]
        first[g] += OFFSET - _HALF
    if spread > _HALF - 2:
        for p in range(len(keys)):
            keys[p] = np.int32(-2 - p)
        return 0
    edge = SINGLE(0.5 - ROUNDING * (1.0 + spread))
    f = a.astype(np.float32)
    a00, a01, a02, a03 = f[0, 0], f[0, 1], f[0, 2], offset[0]
    a10, a11, a12, a13 = f[1, 0], f[1, 1], f[1, 2], offset[1]
    a20, a21, a22, a23 = f[2, 0], f[2, 1], f[2, 2], offset[2]
    half = SINGLE(0.5)
    for p in range(len(keys)):
        x, y, z = lx[p], ly[p], lz[p]
        u = a00 * x + a01 * y + a02 * z + a03
        v = a10 * x + a11 * y + a12 * z + a13
        w = a20 * x + a21 * y + a22 * z + a23
        i, j, k = np.floor(u), np.floor(v), np.floor(w)
        off = max(max(abs(u - i - half), abs(v - j - half)), abs(w - k - half))
        key = np.int32(
            (np.int32(i) << (2 * LOCAL_BITS))
            + (np.int32(j) << LOCAL_BITS)
            + np.int32(k)
            + _MIDDLE
        )
        keys[p] = key if off < edge else np.int32(-2 - p)
    return (first[0] << (2 * BITS)) + (first[1] << BITS) + first[2]


@njit(cache=True, nogil=True)
def whole_key(begin, local):
    """The key (`grid.keys_of`) of a local key that is not negative."""
    wide = np.int64(local)
    return (
        begin
        + ((wide >> (2 * LOCAL_BITS)) << (2 * BITS))
        + (((wide >> LOCAL_BITS) & _MASK) << BITS)
        + (wide & _MASK)
    )


@njit(cache=True, nogil=True)
def exact_key(a, x, y, z):
    """The key of the voxel of s = x, y, z (1/A), in double precision."""
    i = np.int64(math.floor(a[0, 0] * x + a[0, 1] * y + a[0, 2] * z + a[0, 3] + 0.5))
    j = np.int64(math.floor(a[1, 0] * x + a[1, 1] * y + a[1, 2] * z + a[1, 3] + 0.5))
    k = np.int64(math.floor(a[2, 0] * x + a[2, 1] * y + a[2, 2] * z + a[2, 3] + 0.5))
    return ((i + OFFSET) << (2 * BITS)) + ((j + OFFSET) << BITS) + (k + OFFSET)
