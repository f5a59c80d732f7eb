"""How far symmetry mates differ, against what their variances say, and why.

For the observations y_j of a voxel with weights w_j, W = sum w, and their mean I:

    found      Q = sum w (y - I)^2
    expected   E = sum w_j v_j (1 - w_j / W)      v_j: predicted variance of y_j
    per unit   D = W - sum w^2 / W                of a variance that all y_j share

Q has the expectation E for any weights that do not depend on the counts
(`diffuse_core.estimator`), so sum Q / sum E over voxels is 1 where the errors are
right. Scales that are wrong by a fraction b make y_j so, and add b^2 I^2 D.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from diffuse_core.agreement import NOTHING, Estimate, ratio_of_means

BINS = 20
FEWEST_IN_BIN = 200
WELL_KNOWN = 5.0
"""Spherical average over sigma from which on voxels are sorted by intensity."""

SIGNIFICANT = 3.0
POOR = 4.0
"""Misfit from which on factor and relative error do not explain the scatter."""

SMALL = 0.02
"""What is not worth a word: 2 %, of the sigmas or of the intensity."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Scatter of the observations of each voxel; voxels seen once have zeros.

    found, expected, unit: (n,) float64, Q, E and D of this module.
    """

    found: np.ndarray
    expected: np.ndarray
    unit: np.ndarray


@dataclass(frozen=True)
class Bin:
    """Voxels of similar intensity.

    voxels: Their number. intensity: Their mean. chi_squared: sum Q / sum E.
    """

    voxels: int
    intensity: float
    chi_squared: Estimate


@dataclass(frozen=True)
class ErrorModel:
    """variance of an observation = factor^2 v + (relative I)^2.

    Attributes:
        factor: By which sigmas from counting are too small.
        relative: Error of an observation that grows with its intensity.
        sigma_scale: The one factor that makes chi-squared 1: sqrt(sum Q / sum E).
        beyond: Scatter beyond counting as a part of the intensity, whatever its cause:
            sqrt(sum (Q - E) / sum I^2 D); 0 where there is none.
        bins: Chi-squared by intensity, which the model is fitted to.
        misfit: Reduced chi-squared of that fit, NaN if nothing was fitted.
        reason: What it means, one sentence.
    """

    factor: Estimate
    relative: Estimate
    sigma_scale: Estimate
    beyond: Estimate
    bins: tuple[Bin, ...]
    misfit: float
    reason: str


def fit_error_model(
    spread: Spread, intensity: np.ndarray, sigma: np.ndarray, average: np.ndarray
) -> ErrorModel:
    """The two figures that explain the scatter, by least squares on bins of intensity.

    Voxels are sorted by their intensity where it is known well, else by the spherical
    average: of few counts, the intensity and the scatter are high together by chance.

    Args:
        spread: Of the voxels.
        intensity, sigma: (n,) of the merged voxels.
        average: (n,) spherical average of the intensity at their |s|.
    """
    seen = spread.expected > 0
    if not seen.any():
        return ErrorModel(*[NOTHING] * 4, (), np.nan, "There are no symmetry mates.")
    q, e = spread.found[seen], spread.expected[seen]
    square = intensity[seen] ** 2 - sigma[seen] ** 2
    per_relative = square * spread.unit[seen]
    overall = _root(ratio_of_means(q, e))
    beyond = _root(ratio_of_means(q - e, per_relative))
    n_bins = max(min(BINS, len(q) // FEWEST_IN_BIN), 1)
    known = np.median(np.abs(average[seen]) / sigma[seen]) > WELL_KNOWN
    order = np.argsort((intensity if known else average)[seen], kind="stable")
    share = np.cumsum(e[order]) / e.sum()
    parts = np.split(order, np.searchsorted(share, np.arange(1, n_bins) / n_bins))
    found = [(p, ratio_of_means(q[p], e[p])) for p in parts]
    found = [(p, ratio) for p, ratio in found if 0 < ratio.value < ratio.high]
    if len(found) < 3:
        return ErrorModel(
            *(NOTHING, NOTHING, overall, beyond, (), np.nan),
            "There are too few symmetry mates to tell what their scatter means.",
        )
    bins = tuple(
        Bin(len(p), float(intensity[seen][p].mean()), ratio) for p, ratio in found
    )
    above = np.array([b.chi_squared.value for b in bins])
    error = np.array([b.chi_squared.high - b.chi_squared.value for b in bins])
    slope = np.array([per_relative[p].sum() / e[p].sum() for p, _ in found])
    solution, errors, misfit = _line(slope, above, error)
    factor, relative = (
        _root(Estimate(v, v - d, v + d)) for v, d in zip(solution, errors, strict=True)
    )
    said = _reason(factor, relative, beyond, solution[1] > SIGNIFICANT * errors[1])
    if misfit > POOR:
        said = _unexplained(beyond)
    return ErrorModel(factor, relative, overall, beyond, bins, misfit, said)


def _line(
    slope: np.ndarray, values: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Constant and coefficient of slope (n,), neither below 0, errors, misfit.

    The relative errors of the values are kept and taken of the fit, not of the values:
    else those that are low by chance would count the most.
    """
    columns = np.column_stack([np.ones(len(slope)), slope])
    fit = values
    for _ in range(4):
        weight = 1.0 / (error * np.maximum(fit / values, 0.1)) ** 2
        solution, _ = nnls(columns * np.sqrt(weight)[:, None], values * np.sqrt(weight))
        fit = columns @ solution
    free = columns[:, : 1 + (solution[1] > 0)]
    errors = np.array(
        [
            np.sqrt(np.linalg.pinv((free.T * weight) @ free)[0, 0]),
            np.sqrt(np.linalg.pinv((columns.T * weight) @ columns)[1, 1]),
        ]
    )
    freedom = len(slope) - free.shape[1]
    return solution, errors, float((weight * (values - fit) ** 2).sum() / freedom)


def _root(square: Estimate) -> Estimate:
    return Estimate(
        *(
            float(np.sqrt(np.maximum(v, 0.0)))
            for v in (square.value, square.low, square.high)
        )
    )


def _reason(
    factor: Estimate, relative: Estimate, beyond: Estimate, significant: bool
) -> str:
    said = []
    if significant and relative.value > SMALL:
        said.append(
            f"observations of one voxel differ by {100 * relative.value:.1f} % of the "
            "intensity beyond counting: scales, absorption or the detector's "
            "calibration are not right to that"
        )
    error = factor.high - factor.value
    if abs(factor.value - 1.0) > max(SMALL, SIGNIFICANT * error):
        size = f"{factor.value:.3g} times what counting gives at all intensities"
        part = _percent(beyond)
        if factor.value > 1.0:
            said.append(
                f"symmetry mates scatter {size} ({part} of the "
                "intensity beyond it): counts are not single photons (gain), "
                "intensities vary within a voxel, or a background varies"
            )
        else:
            said.append(
                f"symmetry mates scatter {size}: counts are not independent photons "
                "(gain, or divided pixels)"
            )
    if not said:
        return "Symmetry mates agree as counting allows: the sigmas are right."
    text = "; ".join(said)
    return text[0].upper() + text[1:] + "."


def _unexplained(beyond: Estimate) -> str:
    return (
        f"Symmetry mates differ by {_percent(beyond)} of the intensity beyond "
        "counting, and neither one factor nor one fraction of the intensity explains "
        "it: some voxels are worse than others (Bragg peaks, ice, bad pixels, "
        "intensities that vary within a voxel)."
    )


def _percent(part: Estimate) -> str:
    return f"{100 * part.value:.2g} %" if np.isfinite(part.value) else "an unknown part"
