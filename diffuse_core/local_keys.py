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

LOCAL_BITS = 30
EXACT_BITS = 23
"""Whole numbers of so many bits are exact in single precision."""
NOWHERE = np.int32(-1)
"""Local key of pixels that do not count. Unsure pixels are marked by keys below it,
which differ from those above and below."""
ROUNDING = 6e-7
"""Bound on the error of an index in single precision, of the size of its terms: ten
roundings of 2^-24."""
SINGLE = np.float32
FAST = {"contract", "nsz", "arcp"}
WHOLE = np.float32(1.5 * 2**23)
"""A number below 2^22 to which this is added, and taken away again, is the nearest
whole number: two additions, which take less time than `floor`."""


@njit(cache=True, nogil=True)
def index_at(a, g, s):
    """Index along axis g (3) of an affine mapping (3, 4) of s."""
    return a[g, 0] * s[0] + a[g, 1] * s[1] + a[g, 2] * s[2] + a[g, 3]


@njit(cache=True, nogil=True)
def spread_of(a, g, radius):
    """Largest change of an index within `radius` (3) of the middle of a tile."""
    size = 0.0
    for c in range(3):
        size += abs(a[g, c]) * radius[c]
    return size


@njit(cache=True, nogil=True)
def _bits(n):
    return int(math.ceil(math.log2(n)))


@njit(cache=True, nogil=True)
def key_frame(affine, middle, radius):
    """Box of voxel indices that holds the pixels of a tile in all images.

    Args:
        affine: (n_images, 3, 4) float64: s (1/A) to voxel index.
        middle, radius: (3,) float64: middle of the tile, and how far it reaches (1/A).

    Returns:
        First index along each axis, and the bits by which the offsets from the first
        two are shifted in local keys, those of whole keys if local ones can't hold
        them; and the bits of a key.
    """
    first, size = np.empty(3, np.int64), np.empty(3, np.int64)
    for g in range(3):
        low, high = math.inf, -math.inf
        for i in range(len(affine)):
            at, spread = index_at(affine[i], g, middle), spread_of(affine[i], g, radius)
            low, high = min(low, at - spread), max(high, at + spread)
        first[g] = np.int64(math.floor(low)) - 1
        size[g] = np.int64(math.floor(high)) + 3 - first[g]
    last, middle_bits = _bits(size[2]), _bits(size[1])
    inner = last + middle_bits
    if inner > EXACT_BITS or inner + _bits(size[0]) > LOCAL_BITS:
        return (-OFFSET, -OFFSET, -OFFSET, 2 * BITS, BITS), 3 * BITS
    return (first[0], first[1], first[2], inner, last), inner + _bits(size[0])


@njit(cache=True, nogil=True)
def key_in(frame, i, j, k):
    """Local key of a voxel."""
    first_i, first_j, first_k, shift_i, shift_j = frame
    return ((i - first_i) << shift_i) + ((j - first_j) << shift_j) + (k - first_k)


@njit(cache=True, nogil=True)
def whole_key(frame, local):
    """The key (`grid.keys_of`) of a local key that is not negative."""
    first_i, first_j, first_k, shift_i, shift_j = frame
    key = np.int64(local)
    i = key >> shift_i
    j = (key - (i << shift_i)) >> shift_j
    k = key - (i << shift_i) - (j << shift_j)
    whole = (i + first_i + OFFSET) << (2 * BITS)
    return whole + ((j + first_j + OFFSET) << BITS) + (k + first_k + OFFSET)


@njit(cache=True, nogil=True)
def key_terms(a, middle, radius, frame):
    """Arguments of `local_keys` for the pixels of a tile in one image.

    Args:
        a: (3, 4) float64: s (1/A) to voxel index.
        middle, radius: (3,) float64: middle of the tile, and how far it reaches (1/A).
        frame: Of `key_frame`.

    Returns:
        (4, 4) float32: s less the middle to the index less a whole one, then the steps
        of a key along the first two axes and how far from a whole number an index may
        be (0 if there are no local keys); and int32: the key of the whole ones.
    """
    spread = 0.0
    whole = np.empty(3, np.int64)
    terms = np.zeros((4, 4), np.float32)
    for g in range(3):
        spread = max(spread, spread_of(a, g, radius))
        at = index_at(a, g, middle)
        whole[g] = np.int64(math.floor(at + 0.5))
        terms[g] = a[g]
        terms[g, 3] = at - whole[g]
    if frame[4] == BITS:
        return terms, np.int32(0)
    terms[3, 0], terms[3, 1] = 1 << frame[3], 1 << frame[4]
    terms[3, 2] = 0.5 - ROUNDING * (1.0 + spread)
    return terms, np.int32(key_in(frame, whole[0], whole[1], whole[2]))


@njit(cache=True, nogil=True, fastmath=FAST)
def local_keys(terms, begin, lx, ly, lz, keys):
    """Writes the local keys of some pixels of a tile, for one image.

    Args:
        terms, begin: Of `key_terms`.
        lx, ly, lz: (n,) float32: s of the pixels less the middle.
        keys: (n,) int32, written.
    """
    a00, a01, a02, a03 = terms[0, 0], terms[0, 1], terms[0, 2], terms[0, 3]
    a10, a11, a12, a13 = terms[1, 0], terms[1, 1], terms[1, 2], terms[1, 3]
    a20, a21, a22, a23 = terms[2, 0], terms[2, 1], terms[2, 2], terms[2, 3]
    step_i, step_j, edge = terms[3, 0], terms[3, 1], terms[3, 2]
    for p in range(len(keys)):
        x, y, z = lx[p], ly[p], lz[p]
        u = a00 * x + (a01 * y + (a02 * z + a03))
        v = a10 * x + (a11 * y + (a12 * z + a13))
        w = a20 * x + (a21 * y + (a22 * z + a23))
        i, j, k = (u + WHOLE) - WHOLE, (v + WHOLE) - WHOLE, (w + WHOLE) - WHOLE
        off = max(max(abs(u - i), abs(v - j)), abs(w - k))
        key = np.int32(np.int32(step_i * i) + np.int32(step_j * j + k) + begin)
        keys[p] = key if off < edge else np.int32(-2 - p)


@njit(cache=True, nogil=True)
def exact_key(a, x, y, z, frame):
    """The local key of s = x, y, z (1/A), in double precision."""
    i = np.int64(math.floor(a[0, 0] * x + a[0, 1] * y + a[0, 2] * z + a[0, 3] + 0.5))
    j = np.int64(math.floor(a[1, 0] * x + a[1, 1] * y + a[1, 2] * z + a[1, 3] + 0.5))
    k = np.int64(math.floor(a[2, 0] * x + a[2, 1] * y + a[2, 2] * z + a[2, 3] + 0.5))
    return key_in(frame, i, j, k)
