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

from diffuse_core.local_keys import FAST, NOWHERE, ROUNDING, SINGLE, index_at, spread_of
from diffuse_core.region_kernels import absent

BLOCK = 8
"""Pixels that are tested together."""
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


@njit(cache=True, nogil=True, fastmath=FAST)
def describe_blocks(lx, ly, lz, blocks):
    """Writes where blocks of `BLOCK` pixels lie: nearly on a line.

    Args:
        lx, ly, lz: (n * BLOCK,) float32: s of pixels less that of the tile (1/A).
        blocks: (7, n) float32, written: middle, half of the line, and how far a pixel
            is off the line at most.
    """
    for k in range(len(lx) // BLOCK):
        first, last = k * BLOCK, (k + 1) * BLOCK - 1
        mx, my, mz = lx[first] + lx[last], ly[first] + ly[last], lz[first] + lz[last]
        hx, hy, hz = lx[last] - lx[first], ly[last] - ly[first], lz[last] - lz[first]
        half = SINGLE(0.5)
        mx, my, mz = half * mx, half * my, half * mz
        hx, hy, hz = half * hx, half * hy, half * hz
        xs, ys, zs = lx[first : last + 1], ly[first : last + 1], lz[first : last + 1]
        off2 = SINGLE(0.0)
        for p in range(BLOCK):
            f = SINGLE(2.0 / (BLOCK - 1)) * SINGLE(p) - SINGLE(1.0)
            dx, dy, dz = xs[p] - mx - f * hx, ys[p] - my - f * hy, zs[p] - mz - f * hz
            off2 = max(off2, dx * dx + dy * dy + dz * dz)
        blocks[0, k], blocks[1, k], blocks[2, k] = mx, my, mz
        blocks[3, k], blocks[4, k], blocks[5, k] = hx, hy, hz
        blocks[6, k] = SINGLE(1.01) * math.sqrt(off2)


@njit(cache=True, nogil=True, fastmath=FAST)
def _near(f, offset, reach, margin, blocks, flags, which):
    """Number of blocks that may be within reach of a lattice point, in `which`."""
    a00, a01, a02, a03 = f[0, 0], f[0, 1], f[0, 2], offset[0]
    a10, a11, a12, a13 = f[1, 0], f[1, 1], f[1, 2], offset[1]
    a20, a21, a22, a23 = f[2, 0], f[2, 1], f[2, 2], offset[2]
    l0 = SINGLE(math.sqrt(a00 * a00 + a01 * a01 + a02 * a02))
    l1 = SINGLE(math.sqrt(a10 * a10 + a11 * a11 + a12 * a12))
    l2 = SINGLE(math.sqrt(a20 * a20 + a21 * a21 + a22 * a22))
    r0 = SINGLE(reach[0] + 3.0 * margin)
    r1 = SINGLE(reach[1] + 3.0 * margin)
    r2 = SINGLE(reach[2] + 3.0 * margin)
    half = SINGLE(0.5)
    xs, ys, zs = blocks[0], blocks[1], blocks[2]
    dxs, dys, dzs, off = blocks[3], blocks[4], blocks[5], blocks[6]
    for b in range(len(flags)):
        x, y, z, dx, dy, dz, o = xs[b], ys[b], zs[b], dxs[b], dys[b], dzs[b], off[b]
        h = a00 * x + a01 * y + a02 * z + a03
        k = a10 * x + a11 * y + a12 * z + a13
        m = a20 * x + a21 * y + a22 * z + a23
        e0 = abs(a00 * dx + a01 * dy + a02 * dz) + l0 * o + r0
        e1 = abs(a10 * dx + a11 * dy + a12 * dz) + l1 * o + r1
        e2 = abs(a20 * dx + a21 * dy + a22 * dz) + l2 * o + r2
        flags[b] = (
            (abs(h - np.floor(h + half)) <= e0)
            & (abs(k - np.floor(k + half)) <= e1)
            & (abs(m - np.floor(m + half)) <= e2)
        )
    n = 0
    for b in range(len(flags)):
        which[n] = b
        n += flags[b]
    return n


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
    for k in range(len(which)):
        start = np.int64(which[k]) * BLOCK
        xs, ys = lx[start : start + BLOCK], ly[start : start + BLOCK]
        zs = lz[start : start + BLOCK]
        to = k * BLOCK
        tx, ty = close[0, to : to + BLOCK], close[1, to : to + BLOCK]
        tz = close[2, to : to + BLOCK]
        for c in range(BLOCK):
            tx[c], ty[c], tz[c] = xs[c], ys[c], zs[c]


@njit(cache=True, nogil=True)
def leave_out(i, r, regions, reach, middle, radius, lx, ly, lz, n, memory, keys):
    """Sets the keys of the pixels that lie in a region to `NOWHERE`, or marks them.

    Args:
        i: Image of the chunk.
        r: Region.
        regions: Packed `LatticeRegion`s, see `regions.pack_regions`.
        reach: (n_images, n_regions, 3) of `region_kernels.reach_within`.
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
    spread = spread_of(a, radius)
    error = ROUNDING * (1.0 + spread)
    whole, index = np.empty(3, np.int64), np.empty(3)
    offset = np.empty(3, np.float32)
    for g in range(3):
        index[g] = index_at(a, g, middle)
        whole[g] = np.int64(math.floor(index[g] + 0.5))
        offset[g] = index[g] - whole[g]
    f = a.astype(np.float32)
    n_blocks = (n + BLOCK - 1) // BLOCK
    n_near = _near(f, offset, reach[i, r], error, blocks, flags[:n_blocks], which)
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
        b.astype(np.float32),
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
        start = np.int64(which[k]) * BLOCK
        part = outcome[k * BLOCK : (k + 1) * BLOCK]
        if some_absent:
            s = close[:, k * BLOCK : (k + 1) * BLOCK]
            _spare_absent(f, offset, whole, r, rot, trans, n_op, den, s, part)
        key = keys[start : start + BLOCK]
        for c in range(BLOCK):
            other = NOWHERE if part[c] == INSIDE else np.int32(-2 - start - c)
            key[c] = key[c] if (part[c] == OUTSIDE) | (key[c] == NOWHERE) else other
