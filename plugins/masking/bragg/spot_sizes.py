"""How far Bragg peaks reach from their lattice points.

A size is (r0, r1, t0, t1): the semi-axes along s and across s are
sqrt(r0^2 + r1^2 |s|^2) and sqrt(t0^2 + t1^2 |s|^2), in 1/A. All sizes here are those of
`N_SIGMA` sigma of a Gaussian peak; limits and observed extents count as such.
"""

from __future__ import annotations

import numpy as np

from diffuse_core import boundary
from diffuse_core.compat import oscillation_width

N_SIGMA = 3.0

QUANTILE = 0.95
"""Share of the observed spots that the observed size covers."""

FEWEST = 20
"""Spots of a crystal that give it a size of its own."""

COLUMNS = ("bbox", "flags", "id", "panel", "s1", "xyzobs.px.value")


def profile_size(experiment) -> np.ndarray | None:
    """(n, 4) float64: size by the profile model, one row or a row for each image.

    gaussian_rs: the divergence sigma_b displaces a point by sigma_b / wavelength on
    the Ewald sphere, along s and across, the mosaicity sigma_m turns it by sigma_m |s|
    across s. ellipsoid: the largest eigenvalue of its covariance, and of its angular
    part. Neither: the limits 1 / domain size and half mosaicity of a crystal of N. K.
    Sauter et al., Acta Cryst. D70, 3299 (2014). None if there is no model.
    """
    profile = experiment.profile
    if hasattr(profile, "sigma_b"):
        b = np.radians(np.atleast_1d(np.array(profile.sigma_b(deg=True), float)))
        m = np.radians(np.atleast_1d(np.array(profile.sigma_m(deg=True), float)))
        spot = N_SIGMA * b / experiment.beam.get_wavelength()
        return np.column_stack([spot, np.zeros_like(spot), spot, N_SIGMA * m])
    if hasattr(profile, "mosaicity"):
        model = profile.parameterisation.parameterisation()
        spot = N_SIGMA * _largest_sigma(model.sigma())
        angular = model.sigma_A() if hasattr(model, "sigma_A") else np.zeros((3, 3))
        return np.array([[spot, 0.0, spot, N_SIGMA * _largest_sigma(angular)]])
    crystal = experiment.crystal
    if hasattr(crystal, "get_domain_size_ang"):
        domain, mosaicity = (
            crystal.get_domain_size_ang(),
            crystal.get_half_mosaicity_deg(),
        )
        spot = 1.0 / domain if domain else 0.0
        return np.array([[spot, 0.0, spot, np.radians(mosaicity or 0.0)]])
    return None


def _largest_sigma(covariance) -> float:
    return float(np.sqrt(np.linalg.eigvalsh(np.array(covariance)).max()))


def observed_sizes(experiments, setups, table) -> list[np.ndarray | None]:
    """(1, 4) float64 for each experiment: what most of its strong spots need.

    On the detector: how far the bounding box reaches from the calculated position, seen
    from the sample; the `QUANTILE` of it. Across s, for stills: that of |delta psi|.
    Across s in a scan: a spot on n images lasts n - 2 to n image widths, n - 1 in the
    mean, times |zeta| (W. Kabsch, Acta Cryst. D66, 133, 2010); half of the larger of
    the `QUANTILE` of the shortest and the mean of the mean.

    Bounding boxes of integrated reflections say nothing: they are made from the profile
    model. A crystal with fewer than `FEWEST` spots has the size of all together; None
    if those are too few as well, or without a table.
    """
    none: list[np.ndarray | None] = [None] * len(experiments)
    if table is None or any(name not in table for name in COLUMNS):
        return none
    made = table.get_flags(table.flags.integrated, all=False)
    spots = table.get_flags(table.flags.strong) & ~made & (table["id"] >= 0)
    table = table.select(spots & (table["s1"].norms() > 0))
    if len(table) < FEWEST:
        return none
    number = table["id"].as_numpy_array()
    order = np.argsort(number, kind="stable")
    edges = np.searchsorted(number[order], np.arange(len(experiments) + 1))
    rows_of = [order[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    extent = _extents(experiments, setups, table, rows_of)
    together = _size(extent)
    return [
        _size(extent[rows]) if len(rows) >= FEWEST else together for rows in rows_of
    ]


def _size(extent: np.ndarray) -> np.ndarray:
    spot, shortest = np.quantile(extent[:, :2], QUANTILE, axis=0)
    return np.array([[spot, 0.0, spot, max(shortest, extent[:, 2].mean())]])


def _extents(experiments, setups, table, rows_of) -> np.ndarray:
    """(n, 3) float64: reach on the sphere (1/A), shortest and mean angle (rad)."""
    calculated = "xyzcal.px" if "xyzcal.px" in table else "xyzobs.px.value"
    centre = table[calculated].as_numpy_array()
    box = np.column_stack([b.as_numpy_array() for b in table["bbox"].parts()])
    panel = table["panel"].as_numpy_array().astype(int)
    s1 = table["s1"].as_numpy_array()
    s1 /= np.linalg.norm(s1, axis=1)[:, None]
    extent = np.zeros((len(table), 3))
    panels_of = {
        setup: _panels(experiments[setups.index(setup)].detector)
        for setup in set(setups)
    }
    for experiment, setup, rows in zip(experiments, setups, rows_of, strict=True):
        if not len(rows):
            continue
        pixel, normal, distance = (a[panel[rows]] for a in panels_of[setup])
        low = centre[rows, :2] - box[rows][:, [0, 2]]
        high = box[rows][:, [1, 3]] - centre[rows, :2]
        half = (np.maximum(low, high) * pixel).max(axis=1)
        cosine = np.abs((s1[rows] * normal).sum(axis=1))
        wavelength = experiment.beam.get_wavelength()
        extent[rows, 0] = half * cosine / distance / wavelength
        if not boundary.is_still(experiment):
            extent[rows, 1:] = _scan_angles(
                experiment, s1[rows], centre[rows, 2], box[rows, 4], box[rows, 5]
            )
        elif "delpsical.rad" in table:
            extent[rows, 1] = np.abs(table["delpsical.rad"].as_numpy_array()[rows])
    return extent


def _panels(detector) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.array([panel.get_pixel_size() for panel in detector]),
        np.array([panel.get_normal() for panel in detector]),
        np.array([abs(panel.get_distance()) for panel in detector]),
    )


def _scan_angles(experiment, s1, z, z0, z1) -> np.ndarray:
    """(n, 2) float64, rad: half of the shortest and of the mean angle of the spots."""
    e1 = np.cross(s1, np.array(experiment.beam.get_s0()))
    e1 /= np.maximum(np.linalg.norm(e1, axis=1), 1e-9)[:, None]
    zeta = np.abs(e1 @ np.array(experiment.goniometer.get_rotation_axis()))
    width = np.radians(abs(oscillation_width(experiment.scan)))
    astray = np.maximum(np.maximum(z0 - z, z - z1), 0.0)
    images = z1 - z0
    half = np.column_stack([np.maximum(images - 2, 0), images - 1]) / 2.0
    return (half + astray[:, None]) * (width * zeta)[:, None]
