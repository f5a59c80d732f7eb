"""Compiled rule of `LatticeRegion`: is a pixel too near a lattice point?"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True)
def absent(h0, h1, h2, r, rot, trans, n_op, den):
    """True if an operator of region r makes the point h0, h1, h2 absent."""
    for o in range(n_op[r]):
        if (
            h0 * rot[r, o, 0, 0] + h1 * rot[r, o, 1, 0] + h2 * rot[r, o, 2, 0] == h0
            and h0 * rot[r, o, 0, 1] + h1 * rot[r, o, 1, 1] + h2 * rot[r, o, 2, 1] == h1
            and h0 * rot[r, o, 0, 2] + h1 * rot[r, o, 1, 2] + h2 * rot[r, o, 2, 2] == h2
        ):
            phase = h0 * trans[r, o, 0] + h1 * trans[r, o, 1] + h2 * trans[r, o, 2]
            if phase % den[r] != 0:
                return True
    return False


@njit(cache=True)
def in_region(
    sx,
    sy,
    sz,
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
):
    """True if a pixel lies in a `LatticeRegion` (see there for the rule).

    Single elements are read, never a row, and the arrays are passed one by one: views
    and tuples of arrays cost more than the sums.

    Args:
        sx, sy, sz: s of the pixel (1/A).
        i: Image of the chunk.
        r: Region.
        affine ... n_off: The arrays of `regions.pack_regions`.
    """
    h0 = (
        affine[i, r, 0, 0] * sx
        + affine[i, r, 0, 1] * sy
        + affine[i, r, 0, 2] * sz
        + affine[i, r, 0, 3]
    )
    h1 = (
        affine[i, r, 1, 0] * sx
        + affine[i, r, 1, 1] * sy
        + affine[i, r, 1, 2] * sz
        + affine[i, r, 1, 3]
    )
    h2 = (
        affine[i, r, 2, 0] * sx
        + affine[i, r, 2, 1] * sy
        + affine[i, r, 2, 2] * sz
        + affine[i, r, 2, 3]
    )
    cx = b[r, 0, 0] * h0 + b[r, 0, 1] * h1 + b[r, 0, 2] * h2
    cy = b[r, 1, 0] * h0 + b[r, 1, 1] * h1 + b[r, 1, 2] * h2
    cz = b[r, 2, 0] * h0 + b[r, 2, 1] * h1 + b[r, 2, 2] * h2
    c2 = cx * cx + cy * cy + cz * cz
    if c2 == 0.0:
        return True
    radial2 = size[i, r, 0] + size[i, r, 1] * c2
    tangential2 = size[i, r, 2] + size[i, r, 3] * c2
    half = size[i, r, 5]
    vx = axis[i, r, 1] * cz - axis[i, r, 2] * cy
    vy = axis[i, r, 2] * cx - axis[i, r, 0] * cz
    vz = axis[i, r, 0] * cy - axis[i, r, 1] * cx
    v2 = vx * vx + vy * vy + vz * vz
    # the path of the pixel in index space: looked at in steps of half an index or less
    w0 = half * (
        inverse_b[r, 0, 0] * vx + inverse_b[r, 0, 1] * vy + inverse_b[r, 0, 2] * vz
    )
    w1 = half * (
        inverse_b[r, 1, 0] * vx + inverse_b[r, 1, 1] * vy + inverse_b[r, 1, 2] * vz
    )
    w2 = half * (
        inverse_b[r, 2, 0] * vx + inverse_b[r, 2, 1] * vy + inverse_b[r, 2, 2] * vz
    )
    n = int(4.0 * max(abs(w0), max(abs(w1), abs(w2)))) + 1
    for o in range(n_off[r]):
        q0, q1, q2 = offsets[r, o, 0], offsets[r, o, 1], offsets[r, o, 2]
        satellite = q0 != 0.0 or q1 != 0.0 or q2 != 0.0
        last0 = last1 = last2 = math.inf
        for step in range(-n, n + 1):
            f = step / n
            p0 = math.floor(h0 - q0 + f * w0 + 0.5)
            p1 = math.floor(h1 - q1 + f * w1 + 0.5)
            p2 = math.floor(h2 - q2 + f * w2 + 0.5)
            if p0 == last0 and p1 == last1 and p2 == last2:
                continue
            last0, last1, last2 = p0, p1, p2
            d0 = h0 - q0 - p0
            d1 = h1 - q1 - p1
            d2 = h2 - q2 - p2
            dx = b[r, 0, 0] * d0 + b[r, 0, 1] * d1 + b[r, 0, 2] * d2
            dy = b[r, 1, 0] * d0 + b[r, 1, 1] * d1 + b[r, 1, 2] * d2
            dz = b[r, 2, 0] * d0 + b[r, 2, 1] * d1 + b[r, 2, 2] * d2
            if half > 0.0 and v2 > 0.0:
                t = -(dx * vx + dy * vy + dz * vz) / v2
                t = min(half, max(-half, t))
                dx += t * vx
                dy += t * vy
                dz += t * vz
                d0 += t / half * w0
                d1 += t / half * w1
                d2 += t / half * w2
            inside = d0 * d0 + d1 * d1 + d2 * d2 < size[i, r, 4]
            if not inside and radial2 > 0.0 and tangential2 > 0.0:
                along = dx * cx + dy * cy + dz * cz
                along2 = along * along / c2
                across2 = dx * dx + dy * dy + dz * dz - along2
                inside = along2 / radial2 + across2 / tangential2 < 1.0
            if not inside:
                continue
            if satellite or not absent(
                int(p0), int(p1), int(p2), r, rot, trans, n_op, den
            ):
                return True
    return False


@njit(cache=True)
def ball_within(i, r, longest, regions):
    """Radius (1/A) of a ball that holds a region around a lattice point, and the part
    of it that is the path of a pixel in an image, for |s| <= longest (1/A).

    Without the floor of the region. Vectors of the crystal may be 2 % longer than those
    of the setup.
    """
    affine, b, size = regions[0], regions[1], regions[4]
    shift2 = 0.0
    for g in range(3):
        c = 0.0
        for k in range(3):
            c += b[r, g, k] * affine[i, r, k, 3]
        shift2 += c * c
    longest2 = (1.02 * longest + math.sqrt(shift2)) ** 2
    swept = size[i, r, 5] * math.sqrt(longest2)
    radial2 = size[i, r, 0] + size[i, r, 1] * longest2
    tangential2 = size[i, r, 2] + size[i, r, 3] * longest2
    return math.sqrt(max(radial2, tangential2)) + swept, swept


@njit(cache=True)
def reach_within(longest, regions):
    """(n_images, n_regions, 3) float64: how far from a lattice point a region reaches.

    In Miller indices along each axis, for |s| <= longest (1/A); infinite where it is
    half an index or more, or where a region has satellites: then every pixel must be
    looked at.
    """
    affine, b, inverse_b, axis, size, rot, trans, n_op, den, offsets, n_off = regions
    reach = np.empty((affine.shape[0], affine.shape[1], 3))
    for i in range(reach.shape[0]):
        for r in range(reach.shape[1]):
            radius, swept = ball_within(i, r, longest, regions)
            for g in range(3):
                edge = 0.0
                for k in range(3):
                    edge += inverse_b[r, g, k] ** 2
                edge = math.sqrt(edge)
                far = max(edge * radius, math.sqrt(size[i, r, 4]) + edge * swept)
                simple = n_off[r] == 1 and offsets[r, 0, 0] == 0.0
                simple = simple and offsets[r, 0, 1] == 0.0 and offsets[r, 0, 2] == 0.0
                reach[i, r, g] = far if simple and far < 0.5 else math.inf
    return reach


@njit(cache=True)
def region_reach(s, y0, y1, x0, x1, regions):
    """`reach_within` for the pixels of a tile."""
    longest = 0.0
    for y in range(y0, y1):
        for x in range(x0, x1):
            longest = max(longest, s[y, x, 0] ** 2 + s[y, x, 1] ** 2 + s[y, x, 2] ** 2)
    return reach_within(math.sqrt(longest), regions)


@njit(cache=True, inline="always")
def within_reach(sx, sy, sz, i, r, affine, reach):
    """False for most pixels: those beyond the reach of a region.

    Inlined, so that no array is passed (and counted) once per pixel.
    """
    near = True
    for g in range(3):
        h = (
            affine[i, r, g, 0] * sx
            + affine[i, r, g, 1] * sy
            + affine[i, r, g, 2] * sz
            + affine[i, r, g, 3]
        )
        near = near and abs(h - math.floor(h + 0.5)) <= reach[i, r, g]
    return near


@njit(cache=True)
def keep_pixels(static, usable, s, regions, out):
    """Writes which pixels of a panel count into `out` (n_images, n_slow, n_fast)."""
    affine, b, inverse_b, axis, size, rot, trans, n_op, den, offsets, n_off = regions
    for y in range(out.shape[1]):
        reach = region_reach(s, y, y + 1, 0, out.shape[2], regions)
        for x in range(out.shape[2]):
            sx, sy, sz = s[y, x, 0], s[y, x, 1], s[y, x, 2]
            for i in range(out.shape[0]):
                keep = static[y, x] and usable[i, y, x]
                for r in range(reach.shape[1]):
                    if keep and within_reach(sx, sy, sz, i, r, affine, reach):
                        keep = not in_region(
                            sx,
                            sy,
                            sz,
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
                out[i, y, x] = keep
