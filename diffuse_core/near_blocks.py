"""Blocks of neighbouring pixels: which of them may be near a lattice point."""

from __future__ import annotations

import math

from numba import njit

from diffuse_core.local_keys import FAST, SINGLE, WHOLE

BLOCK = 8
"""Pixels that are tested together."""


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


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def near_blocks(f, offset, b, reach, ball, margin, blocks, flags, which):
    """Number of blocks that may be within reach of a lattice point, in `which`.

    In Miller indices along each axis, and by the distance of their line from the point
    next to their middle, if no other can be in question.

    Args:
        f, offset: (3, 3) and (3,) float32: s less the middle to Miller indices, less
            whole ones.
        b: (3, 3) float32: B.
        reach: (3,) float64: in Miller indices.
        ball: Reach in 1/A.
        margin: Error of an index.
        blocks: Of `describe_blocks`.
        flags: (n,) bool, written.
        which: (n + 1,) uint32, written.
    """
    a00, a01, a02, a03 = f[0, 0], f[0, 1], f[0, 2], offset[0]
    a10, a11, a12, a13 = f[1, 0], f[1, 1], f[1, 2], offset[1]
    a20, a21, a22, a23 = f[2, 0], f[2, 1], f[2, 2], offset[2]
    b00, b01, b02 = b[0, 0], b[0, 1], b[0, 2]
    b10, b11, b12 = b[1, 0], b[1, 1], b[1, 2]
    b20, b21, b22 = b[2, 0], b[2, 1], b[2, 2]
    l0 = SINGLE(math.sqrt(a00 * a00 + a01 * a01 + a02 * a02))
    l1 = SINGLE(math.sqrt(a10 * a10 + a11 * a11 + a12 * a12))
    l2 = SINGLE(math.sqrt(a20 * a20 + a21 * a21 + a22 * a22))
    r0 = SINGLE(reach[0] + 3.0 * margin)
    r1 = SINGLE(reach[1] + 3.0 * margin)
    r2 = SINGLE(reach[2] + 3.0 * margin)
    far = SINGLE(1.01 * ball + 8.0 * margin * math.sqrt((b * b).sum()))
    one, half, longer = SINGLE(1.0), SINGLE(0.5), SINGLE(1.03)
    tiny = SINGLE(1e-30)
    xs, ys, zs = blocks[0], blocks[1], blocks[2]
    dxs, dys, dzs, off = blocks[3], blocks[4], blocks[5], blocks[6]
    for n in range(len(flags)):
        x, y, z, dx, dy, dz, o = xs[n], ys[n], zs[n], dxs[n], dys[n], dzs[n], off[n]
        h = a00 * x + (a01 * y + (a02 * z + a03))
        k = a10 * x + (a11 * y + (a12 * z + a13))
        m = a20 * x + (a21 * y + (a22 * z + a23))
        h -= (h + WHOLE) - WHOLE
        k -= (k + WHOLE) - WHOLE
        m -= (m + WHOLE) - WHOLE
        dh = a00 * dx + a01 * dy + a02 * dz
        dk = a10 * dx + a11 * dy + a12 * dz
        dm = a20 * dx + a21 * dy + a22 * dz
        e0 = abs(dh) + (l0 * o + r0)
        e1 = abs(dk) + (l1 * o + r1)
        e2 = abs(dm) + (l2 * o + r2)
        px = b00 * h + b01 * k + b02 * m
        py = b10 * h + b11 * k + b12 * m
        pz = b20 * h + b21 * k + b22 * m
        vx = b00 * dh + b01 * dk + b02 * dm
        vy = b10 * dh + b11 * dk + b12 * dm
        vz = b20 * dh + b21 * dk + b22 * dm
        t = (px * vx + py * vy + pz * vz) / (vx * vx + vy * vy + vz * vz + tiny)
        t = min(one, max(-one, t))
        px, py, pz = px - t * vx, py - t * vy, pz - t * vz
        reached = far + longer * o
        flags[n] = (
            (abs(h) <= e0)
            & (abs(k) <= e1)
            & (abs(m) <= e2)
            & (
                (px * px + py * py + pz * pz <= reached * reached)
                | (max(max(e0, e1), e2) >= half)
            )
        )
    n_near = 0
    for n in range(len(flags)):
        which[n_near] = n
        n_near += flags[n]
    return n_near
