"""Compiled evaluation of the analytic diffuse intensity of a simulated crystal.

With s = |B hkl| (1/Angstrom, no 2 pi), averages over the operations R of the Laue
group, hkl' = hkl R:

    spherical(s) = a0 (exp(-b0 s^2/2) + g exp(-(s - s_ring)^2 / (2 w^2))) + c
    halo(hkl)    = a1 exp(-b1 s^2/2) < exp(sum_i kappa_i (cos 2 pi hkl'_i - 1))
                                       |sum_t exp(2 pi i hkl'.t) / N|^2 >
    cloud(hkl)   = a2 exp(-b2 s^2/2) < sum_m w_m (cos 2 pi hkl'.u_m
                                                  - sinc 2 pi s |u_m|) >

t runs over the N centring translations. Because R keeps |u|, the sinc term takes away
exactly the mean of the cosines over all directions: the cloud has no isotropic part.

Functions add their part to `total` for many points at once, in loops over the points
without calls and branches: the compiler makes vector instructions of them.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from diffuse_core.numba_threads import njit_parallel

SERIAL = {"cache": True, "nogil": True, "fastmath": {"reassoc", "contract"}}
"""Sums may be reordered, so that they use vector instructions."""

LANES = 64
"""So many points are computed together: their numbers stay in the nearest cache."""
SCRATCH = 4
"""Rows of LANES numbers that the parts work in."""

TWO_PI = 2.0 * math.pi

COSINE = tuple(
    np.polynomial.Chebyshev.interpolate(
        lambda z: np.cos(TWO_PI * np.sqrt(z)), 10, domain=(0.0, 0.25)
    )
    .convert(kind=np.polynomial.Polynomial)
    .coef
)
"""cos 2 pi x as a polynomial of x^2, for |x| <= 1/2."""

POWER = tuple(
    np.polynomial.Chebyshev.interpolate(np.exp2, 11, domain=(-0.5, 0.5))
    .convert(kind=np.polynomial.Polynomial)
    .coef
)
"""2^x as a polynomial of x, for |x| <= 1/2."""
LOG2_E = 1.0 / math.log(2.0)
LOWEST = -1022.0
"""The least power of two that a double holds at full precision."""


@numba.njit(**SERIAL)
def cosine(turns):
    """cos 2 pi x to 1e-13; unlike math.cos it can be vectorised."""
    x = turns - math.floor(turns + 0.5)
    z = x * x
    value = 0.0
    for i in range(len(COSINE) - 1, -1, -1):
        value = value * z + COSINE[i]
    return value


@numba.njit(**SERIAL)
def exponential(x):
    """exp(x) to 1e-13 (x + 1), at least 2^-1022; it can be vectorised like `cosine`."""
    y = max(x * LOG2_E, LOWEST)
    whole = math.floor(y + 0.5)
    r = y - whole
    value = 0.0
    for i in range(len(POWER) - 1, -1, -1):
        value = value * r + POWER[i]
    bits = (np.int64(whole) + 1023) << 52
    return value * np.int64(bits).view(np.float64)


@numba.njit(**SERIAL)
def norms(h, k, l, basis, s):  # noqa: E741
    """Writes |B hkl| in 1/Angstrom to `s`."""
    for i in range(len(s)):
        x = basis[0, 0] * h[i] + basis[0, 1] * k[i] + basis[0, 2] * l[i]
        y = basis[1, 0] * h[i] + basis[1, 1] * k[i] + basis[1, 2] * l[i]
        z = basis[2, 0] * h[i] + basis[2, 1] * k[i] + basis[2, 2] * l[i]
        s[i] = math.sqrt(x * x + y * y + z * z)


@numba.njit(**SERIAL)
def add_spherical(s, spherical, total):
    """Isotropic intensity at s; `spherical` is (a0, b0, c, g, s_ring, w)."""
    a0, b0, constant = spherical[0], spherical[1], spherical[2]
    height, position, width = spherical[3], spherical[4], spherical[5]
    for i in range(len(s)):
        ring = (s[i] - position) / width
        smooth = exponential(-0.5 * b0 * s[i] * s[i])
        total[i] += a0 * (smooth + height * exponential(-0.5 * ring * ring)) + constant


@numba.njit(**SERIAL)
def add_cosines(h, k, l, vector, shift, weight, out):  # noqa: E741
    """Adds weight cos 2 pi (hkl . vector - shift) to `out`."""
    x, y, z = vector[0], vector[1], vector[2]
    for i in range(len(out)):
        out[i] += weight * cosine(h[i] * x + k[i] * y + l[i] * z - shift)


@numba.njit(**SERIAL)
def add_falling(s, fall_off, values, total):
    """Adds the `values` times a exp(-b s^2 / 2), `fall_off` = (a, b)."""
    amplitude, half = fall_off[0], -0.5 * fall_off[1]
    for i in range(len(s)):
        total[i] += amplitude * exponential(half * s[i] * s[i]) * values[i]


@numba.njit(**SERIAL)
def add_cloud(h, k, l, s, cloud, scratch, total):  # noqa: E741
    """Cloudy intensity; `vectors` are fractional and hold all Laue equivalents."""
    fall_off, vectors, weights, lengths, length_weights = cloud
    values = scratch[0, : len(s)]
    values[:] = 0.0
    for m in range(vectors.shape[0]):
        add_cosines(h, k, l, vectors[m], 0.0, weights[m], values)
    for m in range(lengths.shape[0]):
        length, weight = lengths[m], length_weights[m]
        for i in range(len(s)):
            x = max(TWO_PI * s[i] * length, 1e-8)
            values[i] -= weight * cosine(x / TWO_PI - 0.25) / x
    add_falling(s, fall_off, values, total)


@numba.njit(**SERIAL)
def add_halo(h, k, l, s, halo, scratch, total):  # noqa: E741
    """Halo intensity; `columns`, `phases`, `weights` hold the distinct Laue terms."""
    fall_off, columns, kappa, phases, weights = halo
    values, exponent = scratch[0, : len(s)], scratch[1, : len(s)]
    real, imaginary = scratch[2, : len(s)], scratch[3, : len(s)]
    n_phases = phases.shape[1]
    values[:] = 0.0
    for n in range(columns.shape[0]):
        exponent[:] = -(kappa[n, 0] + kappa[n, 1] + kappa[n, 2])
        for j in range(3):
            add_cosines(h, k, l, columns[n, j], 0.0, kappa[n, j], exponent)
        if n_phases == 1:
            for i in range(len(s)):
                values[i] += weights[n] * exponential(exponent[i])
            continue
        real[:] = 0.0
        imaginary[:] = 0.0
        for m in range(n_phases):
            add_cosines(h, k, l, phases[n, m], 0.0, 1.0 / n_phases, real)
            add_cosines(h, k, l, phases[n, m], 0.25, 1.0 / n_phases, imaginary)
        for i in range(len(s)):
            centring = real[i] * real[i] + imaginary[i] * imaginary[i]
            values[i] += weights[n] * centring * exponential(exponent[i])
    add_falling(s, fall_off, values, total)


@numba.njit(**SERIAL)
def add_intensities(hkl, basis, spherical, halo, cloud, scratch, total):
    """Adds the diffuse intensity at hkl (3, n), n <= LANES, to `total` (n,).

    halo, cloud: argument tuples. scratch: (SCRATCH + 1, LANES) float64.
    """
    h, k, l = hkl[0, : len(total)], hkl[1, : len(total)], hkl[2, : len(total)]  # noqa: E741
    s = scratch[SCRATCH, : len(total)]
    norms(h, k, l, basis, s)
    add_spherical(s, spherical, total)
    if halo[0][0] != 0.0:
        add_halo(h, k, l, s, halo, scratch, total)
    if cloud[0][0] != 0.0:
        add_cloud(h, k, l, s, cloud, scratch, total)


@numba.njit(**SERIAL)
def add_means(centres, nodes, weights, basis, spherical, halo, cloud, total):
    """Adds the weighted sum over `nodes` around up to LANES centres to `total`."""
    hkl = np.empty((3, LANES))
    scratch = np.empty((SCRATCH + 1, LANES))
    values = np.empty(len(total))
    for j in range(len(weights)):
        for i in range(len(total)):
            for axis in range(3):
                hkl[axis, i] = centres[i, axis] + nodes[j, axis]
        values[:] = 0.0
        add_intensities(hkl, basis, spherical, halo, cloud, scratch, values)
        for i in range(len(total)):
            total[i] += weights[j] * values[i]


@njit_parallel(**SERIAL)
def voxel_means(centres, nodes, weights, basis, spherical, halo, cloud):
    """Weighted sum (n,) of the intensity over `nodes` (m, 3) around each centre."""
    out = np.zeros(len(centres))
    for part in numba.prange((len(out) + LANES - 1) // LANES):
        here = slice(part * LANES, min(part * LANES + LANES, len(out)))
        add_means(
            centres[here], nodes, weights, basis, spherical, halo, cloud, out[here]
        )
    return out


@numba.njit(**SERIAL)
def intensities(hkl, basis, spherical, halo, cloud):
    """Total diffuse intensity (n,) at fractional hkl (n, 3)."""
    nodes, weights = np.zeros((1, 3)), np.ones(1)
    return voxel_means(hkl, nodes, weights, basis, spherical, halo, cloud)
