"""The differential cross-section of Compton scattering, relative to Thomson's.

For a photon of energy E that a bound electron scatters by 2 theta, with P the
polarization factor of the direction:

    I / I_Thomson = S(Z, x) k^2 (1 + (k + 1/k - 2) / (2 P)),
    k = E'/E = 1 / (1 + E (1 - cos 2 theta) / (m c^2)),     x = |s| / 2

The factor behind S is the Klein-Nishina formula for any linear polarization, divided
by the Thomson formula, r^2 P: O. Klein, Y. Nishina, Z. Phys. 52, 853 (1929); W.
Heitler, The Quantum Theory of Radiation, section 22. S: J. H. Hubbell et al., J. Phys.
Chem. Ref. Data 4, 471 (1975), from xraylib (T. Schoonjans et al., Spectrochim. Acta B
66, 776, 2011). No relativistic corrections of S, no Raman scattering: a bound electron
may lose more energy than k says, by the width of the Compton profile.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

ELECTRON_REST_ENERGY = 510.99895
"""keV."""
KEV_ANGSTROM = 12.398419843
"""Energy times wavelength of a photon."""
X_LOWEST = 1e-3
"""Where the tables of S begin (1/A); S goes as x^2 below."""


def incoherent_function(atoms: Mapping[int, float], x: np.ndarray) -> np.ndarray:
    """Sum of n_Z S(Z, x) in electron units, float64 with the shape of `x`.

    Args:
        atoms: Atomic number -> number of atoms.
        x: sin(theta) / wavelength = |s| / 2, in 1/A.
    """
    import xraylib_np

    x = np.asarray(x, float)
    numbers = np.array(sorted(atoms), np.int64)
    amounts = np.array([atoms[z] for z in sorted(atoms)], float)
    inside = np.maximum(x, X_LOWEST)
    table = np.linspace(X_LOWEST, max(inside.max(initial=0.0), 0.01), 4000)
    total = amounts @ xraylib_np.SF_Compt(numbers, table)
    return np.interp(inside, table, total) * (np.minimum(x, X_LOWEST) / X_LOWEST) ** 2


def energy_ratio(energy: float, cos_two_theta: np.ndarray) -> np.ndarray:
    """k = E'/E of a photon that a free electron at rest scatters.

    Args:
        energy: keV.
        cos_two_theta: Of the angle between s1 and s0.
    """
    return 1.0 / (1.0 + energy / ELECTRON_REST_ENERGY * (1.0 - cos_two_theta))


def klein_nishina_ratio(k: np.ndarray, polarization: np.ndarray) -> np.ndarray:
    """Photons that a free electron scatters, relative to the Thomson formula.

    Args:
        k: Of `energy_ratio`.
        polarization: P of the direction; (1 + cos^2 2 theta) / 2 without polarization.
    """
    return k**2 * (1.0 + (k + 1.0 / k - 2.0) / (2.0 * polarization))


def relative_efficiency(
    material: str, energy: float, k: np.ndarray, optical_depth: np.ndarray
) -> np.ndarray:
    """Efficiency of the sensor for photons of energy k E over that for E.

    (1 - exp(-r m)) / (1 - exp(-m)), m = mu t / |cos a|, r = mu(k E) / mu(E) with
    xraylib's total attenuation.

    Args:
        material: Chemical formula of the sensor, "Si" or "CdTe".
        energy: keV.
        k: Energy of the scattered photons over E.
        optical_depth: m at the energy E; where it is 0 (unknown sensor) the ratio is 1.
    """
    import xraylib

    k = np.asarray(k, float)
    depth = np.asarray(optical_depth, float)
    table = np.linspace(k.min(), 1.0, 50)
    mu = np.array([xraylib.CS_Total_CP(material, energy * one) for one in table])
    ratio = np.interp(k, table, mu / mu[-1])
    known = np.where(depth > 0, depth, 1.0)
    return np.where(depth > 0, np.expm1(-ratio * known) / np.expm1(-known), 1.0)
