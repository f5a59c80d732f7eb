"""The figures of merged data by resolution shell and overall, with 68 % bounds.

The mean, over spheres, of diffuse scattering is large and nearly every detector finds
it; what tells how molecules move is the rest. So every correlation is given for the
intensity and for its anisotropic part, the intensity minus its spherical average (each
half minus its own), and with and without the voxels at lattice points, where what is
left of Bragg peaks would feign agreement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from diffuse_core import agreement
from diffuse_core.agreement import Estimate
from diffuse_core.error_model import ErrorModel, Spread, fit_error_model
from diffuse_core.signal_limit import THRESHOLD, Limit, signal_limit
from diffuse_core.statistics import shell_edges, spherical_average

FINE_SHELLS = 40
FEWEST_IN_FINE_SHELL = 200


@dataclass(frozen=True, eq=False)
class Voxels:
    """What the figures are made of: unique voxels that were measured.

    Attributes:
        s: (n,) 1/A.
        lattice_point: (n,) bool: the voxel is centred on a lattice point.
        intensity, sigma: (n,).
        observations: (n,) rows that were merged.
        halves: kind -> (2, n) intensities of the halves, NaN where one saw nothing.
        spread: Scatter of the observations, None where it isn't known.
    """

    s: np.ndarray
    lattice_point: np.ndarray
    intensity: np.ndarray
    sigma: np.ndarray
    observations: np.ndarray
    halves: dict[str, np.ndarray] = field(default_factory=dict)
    spread: Spread | None = None

    def at(self, rows) -> Voxels:
        """Some of the voxels: rows is a slice, (n,) bool or (m,) int."""
        spread = self.spread
        return Voxels(
            self.s[rows],
            self.lattice_point[rows],
            self.intensity[rows],
            self.sigma[rows],
            self.observations[rows],
            {kind: half[:, rows] for kind, half in self.halves.items()},
            spread
            and Spread(spread.found[rows], spread.expected[rows], spread.unit[rows]),
        )


@dataclass(frozen=True)
class Agreement:
    """Agreement of two halves of the same voxels.

    Attributes:
        voxels: Seen by both halves.
        cc_half, cc_star, r_split: Of the intensity.
        cc_half_anisotropic, cc_star_anisotropic: Of its anisotropic part.
    """

    voxels: int
    cc_half: Estimate
    cc_star: Estimate
    r_split: Estimate
    cc_half_anisotropic: Estimate
    cc_star_anisotropic: Estimate


@dataclass(frozen=True)
class ShellFigures:
    """The figures of one shell, or of all.

    Attributes:
        s_low, s_high: 1/A.
        voxels, unique: Measured, and how many there are (None: not known).
        unique_between: How many of the latter are not at lattice points, and
        voxels_between: how many of the former.
        multiplicity: Observations per measured voxel.
        intensity, i_over_sigma: Means.
        sigma: Mean.
        chi_squared: Reduced chi-squared of symmetry mates, of voxels that are not at
            lattice points; None where it isn't known.
        all, between: kind -> agreement of the halves; of all voxels, and of those that
            are not at lattice points.
    """

    s_low: float
    s_high: float
    voxels: int
    voxels_between: int
    unique: int | None
    unique_between: int | None
    multiplicity: Estimate
    intensity: Estimate
    sigma: float
    i_over_sigma: Estimate
    chi_squared: Estimate | None
    all: dict[str, Agreement]
    between: dict[str, Agreement]

    @property
    def completeness(self) -> float | None:
        """Measured part of the unique voxels."""
        return self.voxels / self.unique if self.unique else None

    @property
    def completeness_between(self) -> float | None:
        """The same between the lattice points, where masks leave out the rest."""
        if not self.unique_between:
            return None
        return self.voxels_between / self.unique_between


@dataclass(frozen=True, eq=False)
class Statistics:
    """All figures of a merged table.

    Attributes:
        shells: By resolution, low first.
        overall: Of all voxels.
        limit: Resolution of the anisotropic signal between the lattice points, from
            the random halves; None where there are too few voxels.
        error_model: None where the scatter of observations isn't known.
    """

    shells: tuple[ShellFigures, ...]
    overall: ShellFigures
    limit: Limit | None
    error_model: ErrorModel | None


def statistics(
    voxels: Voxels,
    edges: np.ndarray,
    unique: np.ndarray | None = None,
    unique_lattice_points: np.ndarray | None = None,
    threshold: float = THRESHOLD,
) -> Statistics:
    """Every figure, by shell and overall.

    Args:
        voxels: The data.
        edges: (n + 1,) 1/A: shells.
        unique: (n,) unique voxels that there are in each shell, None: not known.
        unique_lattice_points: (n,) those of them that are at lattice points.
        threshold: CC1/2 at which a signal ends.
    """
    voxels = voxels.at(np.argsort(voxels.s, kind="stable"))
    starts = np.searchsorted(voxels.s, edges)
    starts[-1] = np.searchsorted(voxels.s, edges[-1], side="right")
    slices = [slice(a, b) for a, b in pairwise(starts)]
    slices.append(slice(starts[0], starts[-1]))
    limits = [*pairwise(edges), (edges[0], edges[-1])]
    between = ~voxels.lattice_point
    masks = {"all": np.ones(len(between), bool), "between": between}
    agreements = {name: [{} for _ in slices] for name in masks}
    limit = None
    for name, mask in masks.items():
        for kind in voxels.halves:
            halves = _halves(voxels, kind, mask)
            for found, part in zip(agreements[name], slices, strict=True):
                found[kind] = _agreement(halves, part)
            if (name, kind) == ("between", "random"):
                limit = _limit(halves, threshold)
    rows = [
        _figures(
            voxels.at(part),
            *limits[i],
            _unique(unique, unique_lattice_points, i),
            {name: found[i] for name, found in agreements.items()},
        )
        for i, part in enumerate(slices)
    ]
    model = None
    if voxels.spread is not None and between.any():
        kept = voxels.at(between)
        average = spherical_average(kept.s, kept.intensity)(kept.s)
        model = fit_error_model(kept.spread, kept.intensity, kept.sigma, average)
    return Statistics(tuple(rows[:-1]), rows[-1], limit, model)


def _unique(unique, lattice_points, shell: int) -> tuple[int | None, int | None]:
    """Unique voxels of a shell, or of all; and those not at lattice points."""
    if unique is None:
        return None, None
    which = shell if shell < len(unique) else slice(None)
    total = int(np.sum(unique[which]))
    return total, total - int(np.sum(lattice_points[which]))


@dataclass(frozen=True, eq=False)
class _Halves:
    """Voxels in both halves, by |s|.

    rows: (m,) int: which they are. s: (m,). values, anisotropic: (2, m).
    """

    rows: np.ndarray
    s: np.ndarray
    values: np.ndarray
    anisotropic: np.ndarray

    def at(self, part: slice) -> slice:
        """Those among the voxels of a slice."""
        return slice(*np.searchsorted(self.rows, [part.start, part.stop]))


def _halves(voxels: Voxels, kind: str, mask: np.ndarray) -> _Halves:
    values = voxels.halves[kind]
    rows = np.flatnonzero(mask & np.isfinite(values).all(axis=0))
    s, values = voxels.s[rows], values[:, rows]
    rest = np.empty_like(values)
    for i, half in enumerate(values if len(rows) else ()):
        rest[i] = half - spherical_average(s, half)(s)
    return _Halves(rows, s, values, rest)


def _agreement(halves: _Halves, part: slice) -> Agreement:
    here = halves.at(part)
    a, b = halves.values[:, here]
    cc_half = agreement.correlation(a, b)
    rest = agreement.correlation(*halves.anisotropic[:, here])
    return Agreement(
        voxels=len(a),
        cc_half=cc_half,
        cc_star=agreement.cc_star(cc_half),
        r_split=agreement.r_split(a, b),
        cc_half_anisotropic=rest,
        cc_star_anisotropic=agreement.cc_star(rest),
    )


def _figures(
    here: Voxels,
    s_low: float,
    s_high: float,
    unique: tuple[int | None, int | None],
    agreements: dict[str, dict[str, Agreement]],
) -> ShellFigures:
    spread = here.spread and here.at(~here.lattice_point).spread
    return ShellFigures(
        s_low=float(max(s_low, 0.0)),
        s_high=float(s_high),
        voxels=len(here.s),
        voxels_between=int((~here.lattice_point).sum()),
        unique=unique[0],
        unique_between=unique[1],
        multiplicity=agreement.mean(here.observations.astype(float)),
        intensity=agreement.mean(here.intensity),
        sigma=float(here.sigma.mean()) if len(here.s) else np.nan,
        i_over_sigma=agreement.mean(here.intensity / here.sigma),
        chi_squared=spread and agreement.ratio_of_means(spread.found, spread.expected),
        **agreements,
    )


def _limit(halves: _Halves, threshold: float) -> Limit | None:
    s = halves.s
    n = min(FINE_SHELLS, len(s) // FEWEST_IN_FINE_SHELL)
    if n < 3:
        return None
    inner = np.searchsorted(s, shell_edges(s[0], s[-1], n)[1:-1])
    parts = [slice(a, b) for a, b in pairwise([0, *inner, len(s)])]
    parts = [p for p in parts if p.stop - p.start >= agreement.FEWEST]
    return signal_limit(
        np.array([s[p].mean() for p in parts]),
        [agreement.correlation(*halves.anisotropic[:, p]) for p in parts],
        threshold,
    )
