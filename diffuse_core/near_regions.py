"""Lattice regions for many pixels at a time, in single precision.

The rule is that of `region_kernels.in_region`. Most pixels are far from every lattice
point: a test that the processor does for many at once passes over them. Where only the
lattice point next to a pixel can be in question, the rule itself is tested in single
precision as well; pixels that are too close to the border of a region for that are
marked as unsure (`local_keys`), and the rule is asked for those alone.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from diffuse_core.local_keys import (
    FAST,
    NOWHERE,
    ROUNDING,
    SINGLE,
    index_at,
    spread_of,
)
from diffuse_core.near_blocks import BLOCK, near_blocks
from diffuse_core.region_kernels import absent, ball_within
from diffuse_core.vectors import copy_eight

OUTSIDE, INSIDE, UNSURE = np.uint8(0), np.uint8(1), np.uint8(2)
CLOSE = 0.49
"""Regions that reach less (Miller indices) concern one lattice point for each pixel."""


@njit(cache=True, nogil=True)
def scratch(n):
    """Memory of `leave_out` for n pixels: blocks, outcomes, numbers of blocks."""
    m = n // BLOCK + 1
    return (
        np.empty((7, m), np.float32),
        np.empty(m, np.uint64),
        np.empty(m, np.bool_),
        np.empty(m + 1, np.uint32),
        np.empty((3, m * BLOCK), np.float32),
    )


@njit(cache=True, nogil=True)
def _errors(b, inverse_b, size, error, shortest):
    """Relative errors of the two sides of the rule, for the ellipsoid and the floor.

    Args:
        error: Of an index.
        shortest: Lower bound of |s| (1/A).
    """
    sum_b = sum_inverse = 0.0
    for g in range(3):
        for c in range(3):
            sum_b += b[g, c] ** 2
            sum_inverse += inverse_b[g, c] ** 2
    place = error * math.sqrt(sum_b)
    short2 = shortest * shortest
    least = min(size[0] + size[1] * short2, size[2] + size[3] * short2)
    ellipsoid = 8.0 * place / math.sqrt(least) if least > 0.0 else np.inf
    floor = math.sqrt(size[4])
    index = 8.0 * place * math.sqrt(sum_inverse)
    return 1e-5 + ellipsoid, 1e-5 + (index / floor if floor > 0.0 else 0.0)


@njit(cache=True, nogil=True, fastmath=FAST)
def _outcomes(f, offset, m, m3, b, ib, u, q, lx, ly, lz, outcome):
    """Writes `OUTSIDE`, `INSIDE` or `UNSURE` of pixels.

    Only the lattice point next to a pixel is looked at; whether it is absent is not
    asked.

    Args:
        f, offset: s less the middle to Miller indices, less whole ones.
        m, m3: s less the middle to the Cartesian frame of the crystal.
        b, ib, u: B, its inverse, and the rotation axis in that frame.
        q: (10,): size of the region, see `regions.pack_regions`; then what the side of
            the rule that is compared is multiplied by to be surely inside and surely
            outside; the same of the floor, with the floor.
        lx, ly, lz: (n,) float32: s of the pixels less the middle (1/A).
        outcome: (n,) uint8, written.
    """
    f00, f01, f02, f03 = f[0, 0], f[0, 1], f[0, 2], offset[0]
    f10, f11, f12, f13 = f[1, 0], f[1, 1], f[1, 2], offset[1]
    f20, f21, f22, f23 = f[2, 0], f[2, 1], f[2, 2], offset[2]
    m00, m01, m02, m03 = m[0, 0], m[0, 1], m[0, 2], m3[0]
    m10, m11, m12, m13 = m[1, 0], m[1, 1], m[1, 2], m3[1]
    m20, m21, m22, m23 = m[2, 0], m[2, 1], m[2, 2], m3[2]
    b00, b01, b02 = b[0, 0], b[0, 1], b[0, 2]
    b10, b11, b12 = b[1, 0], b[1, 1], b[1, 2]
    b20, b21, b22 = b[2, 0], b[2, 1], b[2, 2]
    i00, i01, i02 = ib[0, 0], ib[0, 1], ib[0, 2]
    i10, i11, i12 = ib[1, 0], ib[1, 1], ib[1, 2]
    i20, i21, i22 = ib[2, 0], ib[2, 1], ib[2, 2]
    u0, u1, u2 = u[0], u[1], u[2]
    q0, q1, q2, q3, sweep = q[0], q[1], q[2], q[3], q[5]
    q6, q7, q8, q9 = q[6], q[7], q[8], q[9]
    half = SINGLE(0.5)
    one = SINGLE(1.0)
    zero = SINGLE(0.0)
    for n in range(len(outcome)):
        x, y, z = lx[n], ly[n], lz[n]
        h0 = f00 * x + f01 * y + f02 * z + f03
        h1 = f10 * x + f11 * y + f12 * z + f13
        h2 = f20 * x + f21 * y + f22 * z + f23
        cx = m00 * x + m01 * y + m02 * z + m03
        cy = m10 * x + m11 * y + m12 * z + m13
        cz = m20 * x + m21 * y + m22 * z + m23
        c2 = cx * cx + cy * cy + cz * cz
        d0 = h0 - np.floor(h0 + half)
        d1 = h1 - np.floor(h1 + half)
        d2 = h2 - np.floor(h2 + half)
        dx = b00 * d0 + b01 * d1 + b02 * d2
        dy = b10 * d0 + b11 * d1 + b12 * d2
        dz = b20 * d0 + b21 * d1 + b22 * d2
        vx = u1 * cz - u2 * cy
        vy = u2 * cx - u0 * cz
        vz = u0 * cy - u1 * cx
        v2 = vx * vx + vy * vy + vz * vz
        t = -(dx * vx + dy * vy + dz * vz) / (v2 if v2 > zero else one)
        t = min(sweep, max(-sweep, t))
        dx += t * vx
        dy += t * vy
        dz += t * vz
        d0 += t * (i00 * vx + i01 * vy + i02 * vz)
        d1 += t * (i10 * vx + i11 * vy + i12 * vz)
        d2 += t * (i20 * vx + i21 * vy + i22 * vz)
        along = dx * cx + dy * cy + dz * cz
        along2 = along * along
        across2 = max(zero, (dx * dx + dy * dy + dz * dz) * c2 - along2)
        radial2 = q0 + q1 * c2
        tangential2 = q2 + q3 * c2
        left = along2 * tangential2 + across2 * radial2
        right = c2 * radial2 * tangential2
        d = d0 * d0 + d1 * d1 + d2 * d2
        inside = (left < right * q6) | (d < q8)
        outside = (left > right * q7) & (d > q9)
        outcome[n] = INSIDE if inside else (OUTSIDE if outside else UNSURE)


@njit(cache=True, nogil=True)
def _some_absent(whole, spread, r, rot, n_op):
    """Whether points can be absent that differ from `whole` (3) by up to `spread`."""
    for o in range(n_op[r]):
        possible = True
        for c in range(3):
            at, change = -np.float64(whole[c]), 0.0
            for g in range(3):
                at += whole[g] * rot[r, o, g, c]
                change += abs(rot[r, o, g, c] - (g == c)) * spread
            possible = possible and abs(at) <= change
        if possible:
            return True
    return False


@njit(cache=True, nogil=True)
def _spare_absent(f, offset, whole, r, rot, trans, n_op, den, s, outcome):
    """Pixels of a block that are inside of the region of an absent point are not."""
    h = np.empty(3, np.int64)
    last = np.full(3, 1 << 40)
    gone = False
    for p in range(BLOCK):
        if outcome[p] != INSIDE:
            continue
        same = True
        for g in range(3):
            at = f[g, 0] * s[0, p] + f[g, 1] * s[1, p] + f[g, 2] * s[2, p] + offset[g]
            h[g] = whole[g] + np.int64(math.floor(at + 0.5))
            same = same and h[g] == last[g]
            last[g] = h[g]
        if not same:
            gone = absent(h[0], h[1], h[2], r, rot, trans, n_op, den)
        if gone:
            outcome[p] = OUTSIDE


@njit(cache=True, nogil=True)
def _gather(which, lx, ly, lz, close):
    """Writes s of the pixels of some blocks one after the other."""
    eight = np.uint64(BLOCK)
    row = np.uint64(close.shape[1])
    to = np.uint64(0)
    for k in range(len(which)):
        start = np.uint64(which[k]) * eight
        copy_eight(close, to, lx, start)
        copy_eight(close, to + row, ly, start)
        copy_eight(close, to + row + row, lz, start)
        to += eight


@njit(cache=True, nogil=True)
def leave_out(
    i, r, regions, reach, longest, middle, radius, lx, ly, lz, n, memory, keys
):
    """Sets the keys of the pixels that lie in a region to `NOWHERE`, or marks them.

    Args:
        i: Image of the chunk.
        r: Region.
        regions: Packed `LatticeRegion`s, see `regions.pack_regions`.
        reach: (n_images, n_regions, 3) of `region_kernels.reach_within`.
        longest: Largest |s| (1/A).
        middle, radius: (3,) float64: middle of the tile, and how far it reaches (1/A).
        lx, ly, lz: float32, to the next multiple of `BLOCK` beyond the pixels: their s
            less the middle (1/A).
        n: Number of pixels.
        memory: Of `scratch`, with the blocks described.
        keys: int32, to the next multiple of `BLOCK`, written.
    """
    affine, all_b, all_inverse_b, axis, size, rot, trans, n_op, den, _, _ = regions
    a, b, inverse_b = affine[i, r], all_b[r], all_inverse_b[r]
    if not reach[i, r].max() < CLOSE:
        for p in range(n):
            keys[p] = np.int32(-2 - p) if keys[p] != NOWHERE else NOWHERE
        return
    blocks, words, flags, which, close = memory
    outcome = words.view(np.uint8)
    spread = max(
        spread_of(a, 0, radius), spread_of(a, 1, radius), spread_of(a, 2, radius)
    )
    error = ROUNDING * (1.0 + spread)
    whole, index = np.empty(3, np.int64), np.empty(3)
    offset = np.empty(3, np.float32)
    for g in range(3):
        index[g] = index_at(a, g, middle)
        whole[g] = np.int64(math.floor(index[g] + 0.5))
        offset[g] = index[g] - whole[g]
    f = a.astype(np.float32)
    n_blocks = (n + BLOCK - 1) // BLOCK
    b32 = b.astype(np.float32)
    ellipsoid, swept = ball_within(i, r, longest, regions)
    ball = max(ellipsoid, math.sqrt(size[i, r, 4] * (b * b).sum()) + swept)
    n_near = near_blocks(
        f, offset, b32, reach[i, r], ball, error, blocks, flags[:n_blocks], which
    )
    if not n_near:
        return
    m = np.zeros((3, 3))
    m3 = np.zeros(3, np.float32)
    length2 = 0.0
    for g in range(3):
        at = 0.0
        for c in range(3):
            at += b[g, c] * index[c]
            for k in range(3):
                m[g, k] += b[g, c] * a[c, k]
        m3[g] = at
        length2 += at * at
    far = 1.02 * math.sqrt(radius[0] ** 2 + radius[1] ** 2 + radius[2] ** 2)
    shortest = max(0.0, math.sqrt(length2) - far)
    ellipsoid, floor = _errors(b, inverse_b, size[i, r], error, shortest)
    q = np.empty(10, np.float32)
    q[:6] = size[i, r]
    q[6], q[7] = 1.0 - ellipsoid, 1.0 + ellipsoid
    q[8], q[9] = size[i, r, 4] * (1.0 - floor), size[i, r, 4] * (1.0 + floor)
    _gather(which[:n_near], lx, ly, lz, close)
    n_close = n_near * BLOCK
    _outcomes(
        f,
        offset,
        m.astype(np.float32),
        m3,
        b32,
        inverse_b.astype(np.float32),
        axis[i, r].astype(np.float32),
        q,
        close[0, :n_close],
        close[1, :n_close],
        close[2, :n_close],
        outcome[:n_close],
    )
    some_absent = _some_absent(whole, spread + 1.0, r, rot, n_op)
    for k in range(n_near):
        if not words[k]:
            continue
        first = k * BLOCK
        if some_absent:
            part, s = outcome[first : first + BLOCK], close[:, first : first + BLOCK]
            _spare_absent(f, offset, whole, r, rot, trans, n_op, den, s, part)
        start = np.int64(which[k]) * BLOCK
        for c in range(BLOCK):
            p = np.uint64(start + c)
            found = outcome[np.uint64(first + c)]
            if found != OUTSIDE and keys[p] != NOWHERE:
                keys[p] = NOWHERE if found == INSIDE else np.int32(-2 - start - c)
