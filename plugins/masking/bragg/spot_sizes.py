"""How far Bragg peaks reach from their lattice points.

A size is (r0, r1, t0, t1): the semi-axes along s and across s are
sqrt(r0^2 + r1^2 |s|^2) and sqrt(t0^2 + t1^2 |s|^2), in 1/A. All sizes here are those of
`N_SIGMA` sigma of a Gaussian peak; limits and observed extents count as such.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffuse_core import boundary
from diffuse_core.compat import oscillation_width

N_SIGMA = 3.0

QUANTILE = 0.95
"""Share of the observed spots that the observed size covers."""

FEWEST = 20
"""Spots of a crystal, or of a shell of resolution, that give it a size of its own."""

SHELLS = 5
"""Shells of resolution that tell how the width of rocking grows with |s|."""

ROUNDS = 8
"""Rounds of the fit of width and angle, each relative to the one before."""

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


@dataclass(frozen=True)
class Observed:
    """How far the strong spots of a crystal reach.

    Attributes:
        spot: Reach on the Ewald sphere, 1/A.
        width: Part of the reach across s that is the same everywhere, 1/A.
        angle: Part of the reach across s that grows with |s|, rad.
        typical: |s| of the spots that a profile model is made of, 1/A; None: a still.
    """

    spot: float
    width: float
    angle: float
    typical: float | None

    @property
    def size(self) -> np.ndarray:
        """(1, 4) float64: r0, r1, t0, t1."""
        return np.array([[self.spot, 0.0, max(self.spot, self.width), self.angle]])

    def resolved(self, profile: np.ndarray) -> np.ndarray:
        """(n, 4) float64: the size by a profile model, its angle taken apart.

        sigma_m of a scan is one angle for all resolutions, the mean over the photons
        of the strong spots: sigma_m^2 = m^2 + w^2 <1/|s|^2>, where w is the width of
        a lattice point and m the mosaicity. At `typical`, where <1/|s|^2> is, the size
        across s stays what sigma_m says; its growth with |s| becomes that of the
        observed spots.

        Args:
            profile: (n, 4) float64, r0, r1, t0, t1 of `profile_size`.
        """
        if self.typical is None:
            return profile
        grown = (self.angle * self.typical) ** 2
        total = self.width**2 + grown
        part = grown / total if total else 1.0
        r0, r1, t0, t1 = profile.T
        same = t1 * self.typical * np.sqrt(1.0 - part)
        return np.column_stack([r0, r1, np.maximum(t0, same), t1 * np.sqrt(part)])


def observed_spots(experiments, setups, table) -> list[Observed | None]:
    """What most of the strong spots of each experiment need.

    On the detector: how far the bounding box reaches from the calculated position, seen
    from the sample; the `QUANTILE` of it. Across s, for stills: that of |delta psi|.
    Across s in a scan: a spot on n images lasts n - 2 to n image widths, n - 1 in the
    mean, times |zeta| (W. Kabsch, Acta Cryst. D66, 133, 2010); half of the larger of
    the `QUANTILE` of the shortest and the mean of the mean, in shells of |s|. Lattice
    points of finite width rock for longer the smaller |s| is: (angle |s|)^2 is fitted
    by width^2 + angle^2 |s|^2.

    Bounding boxes of integrated reflections say nothing: they are made from the profile
    model. A crystal with fewer than `FEWEST` spots has the size of all together; None
    if those are too few as well, or without a table.
    """
    none: list[Observed | None] = [None] * len(experiments)
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
    photons = np.ones(len(table))
    if "intensity.sum.value" in table:
        photons = np.maximum(table["intensity.sum.value"].as_numpy_array(), 1.0)
    scan = not all(boundary.is_still(one) for one in experiments)
    together = _observed(extent, photons, scan)
    return [
        _observed(extent[rows], photons[rows], not boundary.is_still(one))
        if len(rows) >= FEWEST
        else together
        for one, rows in zip(experiments, rows_of, strict=True)
    ]


def _observed(extent: np.ndarray, photons: np.ndarray, scan: bool) -> Observed:
    spot = float(np.quantile(extent[:, 0], QUANTILE))
    if not scan:
        return Observed(spot, 0.0, _covered(extent[:, 1:3]), None)
    s = extent[:, 3]
    across = extent[:, 1:3] * s[:, None]
    typical = float(np.average(s**-2.0, weights=photons) ** -0.5)
    n = min(SHELLS, len(s) // FEWEST)
    if n == 1 or not _covered(across):
        return Observed(spot, 0.0, _covered(extent[:, 1:3]), typical)
    from scipy.optimize import nnls

    shells = np.array_split(np.argsort(s), n)
    terms = np.column_stack([np.ones_like(s), s**2])
    squares = np.array([0.0, 1.0])
    for _ in range(ROUNDS):
        model = np.maximum(terms @ squares, 1e-12)
        part = across / np.sqrt(model)[:, None]
        needed = [_covered(part[rows]) ** 2 * model[rows].mean() for rows in shells]
        weight = 1.0 / np.maximum(needed, 0.1 * max(needed))
        means = np.array([terms[rows].mean(axis=0) for rows in shells])
        squares, _ = nnls(means * weight[:, None], needed * weight)
    width, angle = np.sqrt(squares)
    return Observed(spot, float(width), float(angle), typical)


def _covered(extent: np.ndarray) -> float:
    """What most spots need, of their shortest and mean extent in two columns."""
    return float(max(np.quantile(extent[:, 0], QUANTILE), extent[:, 1].mean()))


def _extents(experiments, setups, table, rows_of) -> np.ndarray:
    """(n, 4) float64: reach on the sphere, shortest and mean angle (rad), |s|."""
    calculated = "xyzcal.px" if "xyzcal.px" in table else "xyzobs.px.value"
    centre = table[calculated].as_numpy_array()
    box = np.column_stack([b.as_numpy_array() for b in table["bbox"].parts()])
    panel = table["panel"].as_numpy_array().astype(int)
    s1 = table["s1"].as_numpy_array()
    s1 /= np.linalg.norm(s1, axis=1)[:, None]
    extent = np.zeros((len(table), 4))
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
        s = s1[rows] / wavelength - np.array(experiment.beam.get_s0())
        extent[rows, 3] = np.linalg.norm(s, axis=1)
        if not boundary.is_still(experiment):
            extent[rows, 1:3] = _scan_angles(
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
