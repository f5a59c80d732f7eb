"""How well two maps agree: correlation, straight line, chi-squared, pulls.

The variance of a voxel that weighs it is its *expected* variance. A quoted sigma of a
few counts follows the voxel's own deviation (too low a count, too small a sigma), so
weights of 1/sigma^2 pull every fit down, by about one part in the mean number of
counts. `expected_variances` takes that part out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffuse_core import statistics
from diffuse_core.errors import InputError
from diffuse_core.grid import keys_of
from diffuse_core.voxel_list import Voxels, s_norm

VARIANCE_SHELLS = 20
FLOOR = 0.05
DRAW_SEED = 20261122
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Pair:
    """The common voxels of two maps.

    Attributes:
        index: (n, 3) int64.
        steps: (3,) float64: width of the voxels.
        s: (n,) float64: |s| = 1/d of the centres (1/A).
        lattice_point: (n,) bool: the centre is a lattice point.
        a, b: (n,) float64: the intensities.
        variance_a, variance_b: (n,) float64: sigma^2, 0 for a truth; None = not known.
        slope_a, slope_b: (n,) float64: d variance / d intensity = 1/exposure, or None.
        exact: Whether a, b are without noise.
    """

    index: np.ndarray
    steps: np.ndarray
    s: np.ndarray
    lattice_point: np.ndarray
    a: np.ndarray
    b: np.ndarray
    variance_a: np.ndarray | None
    variance_b: np.ndarray | None
    slope_a: np.ndarray | None
    slope_b: np.ndarray | None
    exact: tuple[bool, bool]

    def __len__(self) -> int:
        return len(self.a)

    def rows(self, which: np.ndarray) -> Pair:
        """The voxels of a selection (bool or int array)."""
        values = dict(vars(self))
        for name, value in values.items():
            if isinstance(value, np.ndarray) and name != "steps":
                values[name] = value[which]
        return Pair(**values)


def pair_up(a: Voxels, b: Voxels, unit_cell: tuple[float, ...] | None) -> Pair:
    """The voxels that both maps hold, on the same grid.

    Args:
        a, b: Maps with equal frames and steps.
        unit_cell: Of the frame "hkl": a, b, c, alpha, beta, gamma (A, deg).

    Raises:
        InputError: There are no common voxels.
    """
    _, in_a, in_b = np.intersect1d(
        keys_of(a.index), keys_of(b.index), assume_unique=True, return_indices=True
    )
    if not len(in_a):
        raise InputError(f"The maps {a.name} and {b.name} have no voxel in common.")
    a, b = a.rows(in_a), b.rows(in_b)
    centres = a.centres
    if a.frame == "hkl":
        s = s_norm(unit_cell, centres)
        points = (np.abs(centres - np.rint(centres)) < 1e-6).all(axis=1)
    else:
        s = np.linalg.norm(centres, axis=1)
        points = np.zeros(len(a), bool)
    return Pair(
        index=a.index,
        steps=a.steps,
        s=s,
        lattice_point=points,
        a=a.intensity,
        b=b.intensity,
        variance_a=None if a.sigma is None else a.sigma**2,
        variance_b=None if b.sigma is None else b.sigma**2,
        slope_a=None if a.exposure is None else 1.0 / a.exposure,
        slope_b=None if b.exposure is None else 1.0 / b.exposure,
        exact=(a.exact, b.exact),
    )


@dataclass(frozen=True)
class Fit:
    """b = scale * a + offset, and how the maps scatter around it.

    Standard errors are those of the sigmas (NaN for what was not fitted); where sigmas
    are not known, of the scatter, and chi-squared and pulls are NaN. A pull is the
    distance from the line over its expected standard deviation: mean 0, width 1 if the
    sigmas are right.
    """

    name: str
    scale: float
    offset: float
    scale_error: float
    offset_error: float
    reduced_chi_squared: float
    mean_pull: float
    pull_width: float


@dataclass(frozen=True)
class Agreement:
    """Figures of one resolution shell, or of all.

    cc: correlation. cc_allowed: the correlation that is expected if both maps have the
    same true values and their sigmas are right, see `statistics.reliability`; against
    a truth, that of photons drawn from it where the exposure of each voxel is known.
    The second pair is of the anisotropic parts. reduced_chi_squared: around the line
    through all voxels.
    """

    d_max: float
    d_min: float
    voxels: int
    cc: float
    cc_allowed: float
    cc_anisotropic: float
    cc_anisotropic_allowed: float
    reduced_chi_squared: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything about one set of voxels.

    pair: the voxels. anisotropic: (a, b), (n,) each, minus their spherical averages.
    """

    pair: Pair
    overall: Agreement
    shells: tuple[Agreement, ...]
    fits: tuple[Fit, ...]
    anisotropic: tuple[np.ndarray, np.ndarray]

    def fit(self, name: str) -> Fit:
        """The fit of this name."""
        return next(f for f in self.fits if f.name == name)


AS_THEY_ARE = "as they are"
SCALE = "scale"
SCALE_AND_OFFSET = "scale and offset"
ANISOTROPIC = "anisotropic part, scale"


def compare(pair: Pair, edges: np.ndarray) -> Comparison:
    """All figures of the voxels of a pair within the shells with these edges (1/A)."""
    shell = statistics.shell_numbers(pair.s, edges)
    pair, shell = pair.rows(shell >= 0), shell[shell >= 0]
    if not len(pair):
        raise InputError("No common voxel lies within the limits of resolution.")
    parts = tuple(
        v - statistics.spherical_average(pair.s, v)(pair.s) for v in (pair.a, pair.b)
    )
    known = pair.variance_a is not None and pair.variance_b is not None
    variances = expected_variances(pair) if known else _unit_variances(pair)
    line = statistics.fit_line(pair.a, pair.b, *variances)
    alone = statistics.fit_line(pair.a, pair.b, *variances, with_offset=False)
    same = statistics.Line(1.0, 0.0, NAN, NAN)
    turned = statistics.fit_line(*parts, *variances, with_offset=False)
    fits = (
        _fit(AS_THEY_ARE, same, pair.a, pair.b, variances, 0, known),
        _fit(SCALE, alone, pair.a, pair.b, variances, 1, known),
        _fit(SCALE_AND_OFFSET, line, pair.a, pair.b, variances, 2, known),
        _fit(ANISOTROPIC, turned, *parts, variances, 1, known),
    )
    squares = NAN * pair.a
    if known:
        squares = _pulls(line, pair.a, pair.b, variances) ** 2
    drawn = _drawn_map(pair, line, variances) if known else None
    if drawn is not None:
        drawn_part = drawn - statistics.spherical_average(pair.s, drawn)(pair.s)

    def agreement(which, low, high):
        a, b = pair.a[which], pair.b[which]
        noise = (NAN, NAN)
        if known:
            noise = [v[which].mean() for v in (pair.variance_a, pair.variance_b)]
        own = tuple(part[which] for part in parts)
        if drawn is not None:
            allowed = statistics.correlation(drawn[which], b)
            own_allowed = statistics.correlation(drawn_part[which], own[1])
        else:
            allowed = _allowed(a, b, noise, line.scale, pair.exact)
            own_allowed = _allowed(*own, noise, turned.scale, pair.exact)
        return Agreement(
            1.0 / low if low > 0 else float("inf"),
            1.0 / high,
            len(a),
            statistics.correlation(a, b),
            allowed,
            statistics.correlation(*own),
            own_allowed,
            float(squares[which].mean()),
        )

    shells = tuple(
        agreement(shell == i, edges[i], edges[i + 1])
        for i in range(len(edges) - 1)
        if (shell == i).any()
    )
    everything = np.ones(len(pair), bool)
    overall = agreement(everything, edges[0], edges[-1])
    return Comparison(pair, overall, shells, fits, parts)


def expected_variances(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """(n,) variances of a and b that do not follow the voxel's own deviation.

    sigma^2 - d sigma^2/dI * (the map's likely share of the distance from the line):
    for counted photons, where d sigma^2/dI = 1/exposure, that is the variance of the
    intensity that both maps together predict, which is independent of their
    difference. Where the exposure is not known, the derivative comes from the
    correlation of sigma^2 with that distance, in shells; it is 0 for sigmas that do
    not follow the values. Never below 1/20 of the mean variance on the sphere.
    """
    smooth = [_smooth(pair.s, v) for v in (pair.variance_a, pair.variance_b)]
    line = statistics.fit_line(pair.a, pair.b, *smooth)
    if not np.isfinite(line.scale):
        return tuple(smooth)
    distance = pair.b - line.scale * pair.a - line.offset
    total = smooth[1] + line.scale**2 * smooth[0]
    limits = statistics.shell_edges(pair.s.min(), pair.s.max(), VARIANCE_SHELLS)
    shell = np.maximum(statistics.shell_numbers(pair.s, limits), 0)
    results = []
    for variance, mean, slope, factor in (
        (pair.variance_a, smooth[0], pair.slope_a, -line.scale),
        (pair.variance_b, smooth[1], pair.slope_b, 1.0),
    ):
        if not variance.any():
            results.append(variance)
            continue
        if slope is None:
            together = np.bincount(shell, factor * distance * (variance - mean))
            expected = np.bincount(shell, factor**2 * mean)
            slope = np.maximum(together, 0) / np.where(expected > 0, expected, 1)
            slope = slope[shell]
        deviation = distance * factor * mean / total
        results.append(np.maximum(variance - slope * deviation, FLOOR * mean))
    return tuple(results)


def _drawn_map(pair: Pair, line, variances) -> np.ndarray | None:
    """(n,): what map a would be if its photons were drawn from the truth b.

    Poisson counts of the scaled truth times the exposure, over the exposure, and a
    normal deviate for what variance is left (background). None unless b is a truth and
    the exposure of a is known.
    """
    if not pair.exact[1] or pair.exact[0] or pair.slope_a is None:
        return None
    rng = np.random.default_rng(DRAW_SEED)
    predicted = np.maximum((pair.b - line.offset) / line.scale, 0.0)
    photons = rng.poisson(predicted / pair.slope_a) * pair.slope_a
    rest = np.maximum(variances[0] - predicted * pair.slope_a, 0.0)
    few = pair.variance_a <= 1.001 * pair.slope_a**2
    return photons + rng.normal(size=len(pair)) * np.sqrt(np.where(few, 0.0, rest))


def _smooth(s: np.ndarray, variance: np.ndarray) -> np.ndarray:
    mean = statistics.spherical_average(s, variance)(s)
    return np.maximum(mean, FLOOR * variance.mean())


def _unit_variances(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Weights where sigmas are not known: all the noise in the map that is no truth."""
    ones, zeros = np.ones(len(pair)), np.zeros(len(pair))
    return (ones, zeros) if pair.exact[1] else (zeros, ones)


def _pulls(line, a, b, variances) -> np.ndarray:
    distance = b - line.scale * a - line.offset
    return distance / np.sqrt(variances[1] + line.scale**2 * variances[0])


def _fit(name, line, a, b, variances, parameters: int, known: bool) -> Fit:
    pulls = _pulls(line, a, b, variances)
    chi_squared = float(np.sum(pulls**2) / max(len(a) - parameters, 1))
    errors = np.array([line.scale_error, line.offset_error])
    figures = (chi_squared, float(pulls.mean()), float(pulls.std()))
    if not known:
        errors = errors * np.sqrt(chi_squared)
        figures = (NAN, NAN, NAN)
    return Fit(name, line.scale, line.offset, *errors.tolist(), *figures)


def _allowed(a, b, noise, scale: float, exact) -> float:
    """Expected correlation; noise: mean sigma^2 of a and b."""
    if len(a) < 3 or not np.isfinite(noise).all():
        return NAN
    variances = [a.var(), b.var()]
    if exact[0]:
        variances[1] = scale**2 * variances[0] + noise[1]
    elif exact[1]:
        variances[0] = variances[1] / scale**2 + noise[0]
    parts = [statistics.reliability(*v) for v in zip(variances, noise, strict=True)]
    return float(np.sqrt(parts[0] * parts[1]))
