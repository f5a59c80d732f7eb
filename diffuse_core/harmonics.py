"""Real spherical harmonics of directions in the frame of a crystal's mount.

Orders are those of dials.scale: l = 1 to lmax, within each m = -l to l, where

    Y_lm = sqrt(2) N_lm P_l^m(cos theta) cos(m phi)        m > 0
    Y_l0 = N_l0 P_l(cos theta)
    Y_lm = sqrt(2) N_l|m| P_l^|m|(cos theta) sin(|m| phi)  m < 0
    N_lm^2 = (2 l + 1) / (4 pi) (l - m)! / (l + m)!

without the phase (-1)^m, so that each has a mean square of 1 / (4 pi).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from diffuse_core.directions import rays


def harmonics(direction: np.ndarray, lmax: int) -> np.ndarray:
    """(n, lmax (lmax + 2)) float64: Y_lm of unit vectors (n, 3).

    By the recurrence of P_l^m / sin^m(theta) in l (Abramowitz and Stegun, 8.5.3).
    """
    x, y, z = direction.T
    result = np.empty((len(z), lmax * (lmax + 2)))
    around = np.ones(len(z), complex)
    top = np.ones(len(z))
    for m in range(lmax + 1):
        before, now = np.zeros(len(z)), top
        for order in range(m, lmax + 1):
            if order > m:
                after = (2 * order - 1) * z * now - (order + m - 1) * before
                before, now = now, after / (order - m)
            if order == 0:
                continue
            size = (2 * order + 1) / (4 * math.pi) * (2 if m else 1)
            size *= math.factorial(order - m) / math.factorial(order + m)
            value = math.sqrt(size) * now
            middle = order * order + order - 1
            result[:, middle + m] = value * around.real
            if m:
                result[:, middle - m] = value * around.imag
        around = around * (x + 1j * y)
        top = (2 * m + 1) * top
    return result


def mount_of(experiment) -> dict | None:
    """Fixed and setting rotation (3, 3) and datum axis of a scan's goniometer."""
    goniometer = experiment.goniometer
    if goniometer is None:
        return None
    return {
        "fixed": np.reshape(goniometer.get_fixed_rotation(), (3, 3)).tolist(),
        "setting": np.reshape(goniometer.get_setting_rotation(), (3, 3)).tolist(),
        "axis": list(goniometer.get_rotation_axis_datum()),
    }


def path_harmonics(
    frames: Sequence[dict],
    detectors: Sequence[int],
    mounts: Sequence[dict | None],
    lmax: int,
    coordinates: np.ndarray,
) -> np.ndarray:
    """(n, lmax (lmax + 2)) float64: half the sum of Y_lm of the ways in and out.

    Both are directions as seen from the crystal, towards the source and towards the
    pixel, turned back with the goniometer; the poles are on the x axis. That is what
    the absorption of dials.scale uses.

    Args:
        frames: Frame (`diffuse_core.directions`) of each detector.
        detectors: The detector of each source.
        mounts: `mount_of` each source.
        lmax: Highest order.
        coordinates: (n, 5): source, phi (deg), panel, x, y (pixels).
    """
    source, phi, panel, x, y = coordinates.T
    source = source.astype(np.int64)
    detector = np.array(detectors)[source]
    out = rays(frames, detector, panel, x, y)
    beams = np.array([frame["s0"] for frame in frames], float)
    into = -(beams / np.linalg.norm(beams, axis=1, keepdims=True))[detector]
    result = np.zeros((len(x), lmax * (lmax + 2)))
    for number in np.unique(source):
        here, mount = source == number, mounts[number]
        for way in (into, out):
            a, b, c = turned_back(mount, phi[here], way[here]).T
            result[here] += 0.5 * harmonics(np.column_stack([-c, b, a]), lmax)
    return result


def turned_back(mount: dict, phi: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(n, 3): (S R(phi) F)^-1 vectors, by Rodrigues' formula.

    Args:
        mount: See `mount_of`.
        phi: (n,) deg.
        vectors: (n, 3) in the laboratory.
    """
    axis = np.array(mount["axis"], float)
    v = vectors @ np.array(mount["setting"])
    c, s = np.cos(np.radians(phi))[:, None], np.sin(np.radians(phi))[:, None]
    along = np.outer(v @ axis, axis)
    v = along + c * (v - along) - s * np.cross(axis, v)
    return v @ np.array(mount["fixed"])
