"""Compiled sums over the pixels of one panel in one image, for use in threads."""

from __future__ import annotations

import math

import numba
import numpy as np

from diffuse_core.simulate.truth_kernels import (
    LANES,
    SCRATCH,
    SERIAL,
    add_intensities,
)


@numba.njit(**SERIAL)
def diffuse_image(s, to_hkl, basis, spherical, halo, cloud, out):
    """Writes the mean diffuse intensity of each pixel to `out` (n_slow, n_fast).

    s: (n_points, n_slow, n_fast, 3), 1/A; to_hkl: (n_angles, 3, 3), hkl = to_hkl @ s.
    """
    n_points, n_slow, n_fast, _ = s.shape
    n_angles = to_hkl.shape[0]
    points = np.empty((3, LANES))
    scratch = np.empty((SCRATCH + 1, LANES))
    for j in range(n_slow):
        for first in range(0, n_fast, LANES):
            total = out[j, first : min(first + LANES, n_fast)]
            total[:] = 0.0
            for p in range(n_points):
                for a in range(n_angles):
                    m = to_hkl[a]
                    for i in range(len(total)):
                        x = s[p, j, first + i, 0]
                        y = s[p, j, first + i, 1]
                        z = s[p, j, first + i, 2]
                        for axis in range(3):
                            points[axis, i] = (
                                m[axis, 0] * x + m[axis, 1] * y + m[axis, 2] * z
                            )
                    add_intensities(
                        points, basis, spherical, halo, cloud, scratch, total
                    )
            for i in range(len(total)):
                total[i] /= n_points * n_angles


@numba.njit(**SERIAL)
def add_spots(s, boxes, strength, centre, velocity, radial, width, begin, end, out):
    """Adds the mean intensity of spots during the image to `out` (n_slow, n_fast).

    A spot is a normalised Gaussian in reciprocal space, of standard deviation `radial`
    along its s and `width` across it, that moves on a straight line: at the angle tau
    from its crossing it is at centre + tau velocity. Its mean over tau = begin ... end
    is an error function, so the sum over images does not depend on their width.

    s: (n_points, n_slow, n_fast, 3), 1/A. Per spot: boxes (n, 4) int x0, x1, y0, y1;
    strength, width, begin, end (n,), angles in rad (not used where velocity is 0).
    """
    for n in range(boxes.shape[0]):
        cx, cy, cz = centre[n, 0], centre[n, 1], centre[n, 2]
        vx, vy, vz = velocity[n, 0], velocity[n, 1], velocity[n, 2]
        norm = math.sqrt(cx * cx + cy * cy + cz * cz)
        ux, uy, uz = cx / norm, cy / norm, cz / norm
        across = 1.0 / (width[n] * width[n])
        along = 1.0 / (radial * radial)
        moving = vx * vx + vy * vy + vz * vz > 0.0
        peak = strength[n] * math.sqrt(along) * across * (2.0 * math.pi) ** -1.5
        vu = vx * ux + vy * uy + vz * uz
        a = across * (vx * vx + vy * vy + vz * vz - vu * vu) + along * vu * vu
        for j in range(boxes[n, 2], boxes[n, 3]):
            for i in range(boxes[n, 0], boxes[n, 1]):
                total = 0.0
                for p in range(s.shape[0]):
                    dx = s[p, j, i, 0] - cx
                    dy = s[p, j, i, 1] - cy
                    dz = s[p, j, i, 2] - cz
                    du = dx * ux + dy * uy + dz * uz
                    c = across * (dx * dx + dy * dy + dz * dz - du * du)
                    c += along * du * du
                    if moving:
                        b = across * (vx * dx + vy * dy + vz * dz - vu * du)
                        b += along * vu * du
                        root = math.sqrt(0.5 * a)
                        swept = math.erf((end[n] - b / a) * root)
                        swept -= math.erf((begin[n] - b / a) * root)
                        swept *= 0.5 * math.sqrt(2.0 * math.pi / a)
                        total += (
                            math.exp(-0.5 * (c - b * b / a))
                            * swept
                            / (end[n] - begin[n])
                        )
                    else:
                        total += math.exp(-0.5 * c)
                out[j, i] += peak * total / s.shape[0]
