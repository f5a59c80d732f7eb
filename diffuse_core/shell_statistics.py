"""The figures of merged data by resolution shell and overall, with 68 % bounds.

The mean, over spheres, of diffuse scattering is large and nearly every detector finds
it; what tells how molecules move is the rest. So every correlation is given for the
intensity and for its anisotropic part, the intensity minus its spherical average (each
half minus its own), and with and without the voxels at lattice points, where what is
left of Bragg peaks would feign agreement.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from diffuse_core import agreement
from diffuse_core.agreement import Estimate
from diffuse_core.error_model import ErrorModel, Spread, fit_error_model
from diffuse_core.signal_limit import THRESHOLD, Limit, signal_limit
from diffuse_core.statistics import shell_edges, shell_numbers, spherical_average

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

    def at(self, rows: np.ndarray) -> Voxels:
        """Some of the voxels: rows (n,) bool."""
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
    between = ~voxels.lattice_point
    subsets = {
        "all": _anisotropic_halves(voxels, np.ones(len(between), bool)),
        "between": _anisotropic_halves(voxels, between),
    }
    shell = shell_numbers(voxels.s, edges)
    inside = shell >= 0
    totals = None if unique is None else (unique, unique_lattice_points)
    rows = [
        _figures(voxels, subsets, shell == i, edges[i], edges[i + 1], _of(totals, i))
        for i in range(len(edges) - 1)
    ]
    overall = _figures(
        voxels, subsets, inside, edges[0], edges[-1], _of(totals, slice(None))
    )
    model = None
    if voxels.spread is not None:
        kept = voxels.at(between)
        if len(kept.s):
            average = spherical_average(kept.s, kept.intensity)(kept.s)
            model = fit_error_model(kept.spread, kept.intensity, kept.sigma, average)
    limit = None
    if "random" in voxels.halves:
        limit = _limit(voxels.s, subsets["between"]["random"], threshold)
    return Statistics(tuple(rows), overall, limit, model)


def _of(totals, which) -> tuple[int | None, int | None]:
    if totals is None:
        return None, None
    unique, lattice_points = (int(np.sum(t[which])) for t in totals)
    return unique, unique - lattice_points


@dataclass(frozen=True, eq=False)
class _Halves:
    """rows: (n,) bool: in both halves. values, anisotropic: (2, n), 0 elsewhere."""

    rows: np.ndarray
    values: np.ndarray
    anisotropic: np.ndarray


def _anisotropic_halves(voxels: Voxels, subset: np.ndarray) -> dict[str, _Halves]:
    found = {}
    for kind, values in voxels.halves.items():
        rows = subset & np.isfinite(values).all(axis=0)
        rest = np.zeros_like(values)
        if rows.any():
            s = voxels.s[rows]
            for i, half in enumerate(values[:, rows]):
                rest[i, rows] = half - spherical_average(s, half)(s)
        found[kind] = _Halves(rows, values, rest)
    return found


def _figures(
    voxels: Voxels,
    subsets: dict[str, dict[str, _Halves]],
    rows: np.ndarray,
    s_low: float,
    s_high: float,
    unique: tuple[int | None, int | None],
) -> ShellFigures:
    here = voxels.at(rows)
    spread = here.at(~here.lattice_point).spread
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
        **{
            name: {kind: _agreement(h, rows) for kind, h in halves.items()}
            for name, halves in subsets.items()
        },
    )


def _agreement(halves: _Halves, rows: np.ndarray) -> Agreement:
    rows = rows & halves.rows
    a, b = halves.values[:, rows]
    cc_half = agreement.correlation(a, b)
    rest = agreement.correlation(*halves.anisotropic[:, rows])
    return Agreement(
        voxels=int(rows.sum()),
        cc_half=cc_half,
        cc_star=agreement.cc_star(cc_half),
        r_split=agreement.r_split(a, b),
        cc_half_anisotropic=rest,
        cc_star_anisotropic=agreement.cc_star(rest),
    )


def _limit(s: np.ndarray, halves: _Halves, threshold: float) -> Limit | None:
    s, values = s[halves.rows], halves.anisotropic[:, halves.rows]
    n = min(FINE_SHELLS, len(s) // FEWEST_IN_FINE_SHELL)
    if n < 3:
        return None
    shell = shell_numbers(s, shell_edges(s.min(), s.max(), n))
    parts = [np.flatnonzero(shell == i) for i in range(n)]
    parts = [p for p in parts if len(p) >= agreement.FEWEST]
    return signal_limit(
        np.array([s[p].mean() for p in parts]),
        [agreement.correlation(*values[:, p]) for p in parts],
        threshold,
    )
