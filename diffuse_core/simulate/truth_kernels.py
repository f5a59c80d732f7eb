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
"""

from __future__ import annotations

import math

import numba
import numpy as np

SERIAL = {"cache": True, "nogil": True, "fastmath": {"reassoc", "contract"}}
PARALLEL = {**SERIAL, "parallel": True}
"""Sums may be reordered, so that they use vector instructions."""

TWO_PI = 2.0 * math.pi

COSINE = tuple(
    np.polynomial.Chebyshev.interpolate(
        lambda z: np.cos(TWO_PI * np.sqrt(z)), 10, domain=(0.0, 0.25)
    )
    .convert(kind=np.polynomial.Polynomial)
    .coef
)
"""cos 2 pi x as a polynomial of x^2, for |x| <= 1/2."""


@numba.njit(**SERIAL)
def cosine(turns):
    """cos 2 pi x to 1e-13; unlike math.cos it needs no call and can be vectorised."""
    x = turns - math.floor(turns + 0.5)
    z = x * x
    value = 0.0
    for i in range(len(COSINE) - 1, -1, -1):
        value = value * z + COSINE[i]
    return value


@numba.njit(**SERIAL)
def norm_of(basis, h, k, l):  # noqa: E741
    """|B hkl| in 1/Angstrom."""
    x = basis[0, 0] * h + basis[0, 1] * k + basis[0, 2] * l
    y = basis[1, 0] * h + basis[1, 1] * k + basis[1, 2] * l
    z = basis[2, 0] * h + basis[2, 1] * k + basis[2, 2] * l
    return math.sqrt(x * x + y * y + z * z)


@numba.njit(**SERIAL)
def spherical_at(s, spherical):
    """Isotropic intensity at s; `spherical` is (a0, b0, c, g, s_ring, w)."""
    ring = (s - spherical[4]) / spherical[5]
    return (
        spherical[0]
        * (
            math.exp(-0.5 * spherical[1] * s * s)
            + spherical[3] * math.exp(-0.5 * ring * ring)
        )
        + spherical[2]
    )


@numba.njit(**SERIAL)
def cloud_at(h, k, l, s, fall_off, vectors, weights, lengths, length_weights):  # noqa: E741
    """Cloudy intensity; `vectors` are fractional and hold all Laue equivalents."""
    total = 0.0
    for m in range(vectors.shape[0]):
        phase = h * vectors[m, 0] + k * vectors[m, 1] + l * vectors[m, 2]
        total += weights[m] * cosine(phase)
    for m in range(lengths.shape[0]):
        x = TWO_PI * s * lengths[m]
        if x > 1e-8:
            total -= length_weights[m] * cosine(s * lengths[m] - 0.25) / x
        else:
            total -= length_weights[m]
    return fall_off[0] * math.exp(-0.5 * fall_off[1] * s * s) * total


@numba.njit(**SERIAL)
def halo_at(h, k, l, s, fall_off, columns, kappa, phases, weights):  # noqa: E741
    """Halo intensity; `columns`, `phases`, `weights` hold the distinct Laue terms."""
    total = 0.0
    for n in range(columns.shape[0]):
        exponent = 0.0
        for i in range(3):
            index = h * columns[n, i, 0] + k * columns[n, i, 1] + l * columns[n, i, 2]
            exponent += kappa[n, i] * (cosine(index) - 1.0)
        centring = 1.0
        n_phases = phases.shape[1]
        if n_phases > 1:
            real = 0.0
            imaginary = 0.0
            for m in range(n_phases):
                phase = h * phases[n, m, 0] + k * phases[n, m, 1] + l * phases[n, m, 2]
                real += cosine(phase)
                imaginary += cosine(phase - 0.25)
            centring = (real * real + imaginary * imaginary) / (n_phases * n_phases)
        total += weights[n] * centring * math.exp(exponent)
    return fall_off[0] * math.exp(-0.5 * fall_off[1] * s * s) * total


@numba.njit(**SERIAL)
def intensity_at(h, k, l, basis, spherical, halo, cloud):  # noqa: E741
    """Total diffuse intensity at one fractional hkl; halo, cloud: argument tuples."""
    s = norm_of(basis, h, k, l)
    total = spherical_at(s, spherical)
    if halo[0][0] != 0.0:
        total += halo_at(h, k, l, s, halo[0], halo[1], halo[2], halo[3], halo[4])
    if cloud[0][0] != 0.0:
        total += cloud_at(h, k, l, s, cloud[0], cloud[1], cloud[2], cloud[3], cloud[4])
    return total


@numba.njit(**PARALLEL)
def intensities(hkl, basis, spherical, halo, cloud):
    """Total diffuse intensity (n,) at fractional hkl (n, 3)."""
    out = np.empty(hkl.shape[0])
    for i in numba.prange(hkl.shape[0]):
        out[i] = intensity_at(
            hkl[i, 0], hkl[i, 1], hkl[i, 2], basis, spherical, halo, cloud
        )
    return out


@numba.njit(**PARALLEL)
def voxel_means(centres, nodes, weights, basis, spherical, halo, cloud):
    """Weighted sum (n,) of the intensity over `nodes` (m, 3) around each centre."""
    out = np.zeros(centres.shape[0])
    for i in numba.prange(centres.shape[0]):
        total = 0.0
        for j in range(nodes.shape[0]):
            total += weights[j] * intensity_at(
                centres[i, 0] + nodes[j, 0],
                centres[i, 1] + nodes[j, 1],
                centres[i, 2] + nodes[j, 2],
                basis,
                spherical,
                halo,
                cloud,
            )
        out[i] = total
    return out
