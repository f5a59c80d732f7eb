"""Lattice regions for many pixels at a time: the first choice, then the exact rule.

The rule is that of `region_kernels.in_region`. Most pixels are far from every lattice
point: they are passed over by a test that the processor does for many at once, and so
is the rule itself where only the lattice point next to the pixel can be in question.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from diffuse_core.region_kernels import absent, in_region

NOWHERE = np.int64(-1)
"""Key of pixels that do not count."""
SINGLE = np.float32


@njit(cache=True, nogil=True)
def scratch(n):
    """Memory of `leave_out` for n pixels: flags, pixels near points, their s."""
    return (
        np.empty(n, np.bool_),
        np.empty(n + 1, np.uint32),
        np.empty((3, n), np.float32),
    )


@njit(cache=True, nogil=True, fastmath=True)
def _near(a, reach, longest, sx, sy, sz, flags, which):
    """Number of pixels within reach of a lattice point, written to `which`.

    In float32, with a margin for its rounding.
    """
    f = a.astype(np.float32)
    a00, a01, a02, a03 = f[0, 0], f[0, 1], f[0, 2], f[0, 3]
    a10, a11, a12, a13 = f[1, 0], f[1, 1], f[1, 2], f[1, 3]
    a20, a21, a22, a23 = f[2, 0], f[2, 1], f[2, 2], f[2, 3]
    margin = 0.0
    for g in range(3):
        size = abs(a[g, 3])
        for c in range(3):
            size += abs(a[g, c]) * longest
        margin = max(margin, 1e-6 * (1.0 + size))
    r0 = SINGLE(reach[0] + margin)
    r1 = SINGLE(reach[1] + margin)
    r2 = SINGLE(reach[2] + margin)
    half = SINGLE(0.5)
    for p in range(len(sx)):
        x, y, z = sx[p], sy[p], sz[p]
        h = a00 * x + a01 * y + a02 * z + a03
        k = a10 * x + a11 * y + a12 * z + a13
        m = a20 * x + a21 * y + a22 * z + a23
        flags[p] = (
            (abs(h - np.floor(h + half)) <= r0)
            & (abs(k - np.floor(k + half)) <= r1)
            & (abs(m - np.floor(m + half)) <= r2)
        )
    n = 0
    for p in range(len(sx)):
        which[n] = p
        n += flags[p]
    return n


@njit(cache=True, nogil=True)
def _in_simple_region(a, b, inverse_b, axis, size, sx, sy, sz, inside):
    """Writes which pixels lie in a region that reaches less than half an index.

    Only the lattice point next to the pixel can then be in question. Whether it is
    absent is not asked.
    """
    a00, a01, a02, a03 = a[0, 0], a[0, 1], a[0, 2], a[0, 3]
    a10, a11, a12, a13 = a[1, 0], a[1, 1], a[1, 2], a[1, 3]
    a20, a21, a22, a23 = a[2, 0], a[2, 1], a[2, 2], a[2, 3]
    b00, b01, b02 = b[0, 0], b[0, 1], b[0, 2]
    b10, b11, b12 = b[1, 0], b[1, 1], b[1, 2]
    b20, b21, b22 = b[2, 0], b[2, 1], b[2, 2]
    i00, i01, i02 = inverse_b[0, 0], inverse_b[0, 1], inverse_b[0, 2]
    i10, i11, i12 = inverse_b[1, 0], inverse_b[1, 1], inverse_b[1, 2]
    i20, i21, i22 = inverse_b[2, 0], inverse_b[2, 1], inverse_b[2, 2]
    u0, u1, u2 = axis[0], axis[1], axis[2]
    q0, q1, q2, q3, floor2, half = size[0], size[1], size[2], size[3], size[4], size[5]
    for q in range(len(inside)):
        x, y, z = sx[q], sy[q], sz[q]
        h0 = a00 * x + a01 * y + a02 * z + a03
        h1 = a10 * x + a11 * y + a12 * z + a13
        h2 = a20 * x + a21 * y + a22 * z + a23
        cx = b00 * h0 + b01 * h1 + b02 * h2
        cy = b10 * h0 + b11 * h1 + b12 * h2
        cz = b20 * h0 + b21 * h1 + b22 * h2
        c2 = cx * cx + cy * cy + cz * cz
        d0 = h0 - np.floor(h0 + 0.5)
        d1 = h1 - np.floor(h1 + 0.5)
        d2 = h2 - np.floor(h2 + 0.5)
        dx = b00 * d0 + b01 * d1 + b02 * d2
        dy = b10 * d0 + b11 * d1 + b12 * d2
        dz = b20 * d0 + b21 * d1 + b22 * d2
        if half > 0.0:
            vx = u1 * cz - u2 * cy
            vy = u2 * cx - u0 * cz
            vz = u0 * cy - u1 * cx
            v2 = vx * vx + vy * vy + vz * vz
            t = -(dx * vx + dy * vy + dz * vz) / (v2 if v2 > 0.0 else 1.0)
            t = min(half, max(-half, t))
            dx += t * vx
            dy += t * vy
            dz += t * vz
            d0 += t * (i00 * vx + i01 * vy + i02 * vz)
            d1 += t * (i10 * vx + i11 * vy + i12 * vz)
            d2 += t * (i20 * vx + i21 * vy + i22 * vz)
        along = dx * cx + dy * cy + dz * cz
        along2 = along * along
        across2 = max(0.0, (dx * dx + dy * dy + dz * dz) * c2 - along2)
        radial2 = q0 + q1 * c2
        tangential2 = q2 + q3 * c2
        inside[q] = (
            (d0 * d0 + d1 * d1 + d2 * d2 < floor2)
            | (along2 * tangential2 + across2 * radial2 < c2 * radial2 * tangential2)
            | (c2 == 0.0)
        )


@njit(cache=True, nogil=True)
def leave_out(i, r, regions, reach, longest, sx, sy, sz, memory, keys):
    """Sets the keys of the pixels that lie in a region to `NOWHERE`.

    Args:
        i: Image of the chunk.
        r: Region.
        regions: Packed `LatticeRegion`s, see `regions.pack_regions`.
        reach: Of `region_kernels.region_reach`.
        longest: Largest |s| of the pixels (1/A).
        sx, sy, sz: (n,) float32: s of the pixels (1/A).
        memory: Of `scratch`.
        keys: (n,) int64, written.
    """
    flags, which, s_near = memory
    affine, b, inverse_b, axis, size, rot, trans, n_op, den, offsets, n_off = regions
    a = affine[i, r]
    n = _near(a, reach[i, r], longest, sx, sy, sz, flags, which)
    for q in range(n):
        p = which[q]
        s_near[0, q], s_near[1, q], s_near[2, q] = sx[p], sy[p], sz[p]
    qx, qy, qz = s_near[0, :n], s_near[1, :n], s_near[2, :n]
    simple = reach[i, r].max() < 0.5
    inside = flags[:n]
    if simple:
        _in_simple_region(
            a, b[r], inverse_b[r], axis[i, r], size[i, r], qx, qy, qz, inside
        )
    for q in range(n):
        x, y, z = qx[q], qy[q], qz[q]
        if simple:
            out = inside[q]
            if out and n_op[r]:
                h0 = a[0, 0] * x + a[0, 1] * y + a[0, 2] * z + a[0, 3]
                h1 = a[1, 0] * x + a[1, 1] * y + a[1, 2] * z + a[1, 3]
                h2 = a[2, 0] * x + a[2, 1] * y + a[2, 2] * z + a[2, 3]
                p0 = int(np.floor(h0 + 0.5))
                p1 = int(np.floor(h1 + 0.5))
                p2 = int(np.floor(h2 + 0.5))
                out = not absent(p0, p1, p2, r, rot, trans, n_op, den)
        else:
            out = in_region(
                x,
                y,
                z,
                i,
                r,
                affine,
                b,
                inverse_b,
                axis,
                size,
                rot,
                trans,
                n_op,
                den,
                offsets,
                n_off,
            )
        if out:
            keys[which[q]] = NOWHERE
