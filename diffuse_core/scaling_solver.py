"""Damped Gauss-Newton steps of a scaling problem.

The normal equations, with the intensities eliminated, are solved by conjugate
gradients: that of all rows is only ever multiplied with vectors, so time and memory are
proportional to the rows. That of some voxels is the preconditioner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from diffuse_core.scaling_curvature import Curvature
from diffuse_core.scaling_problem import TINY, Parameters, Problem, State, dot
from diffuse_core.scaling_terms import Term

REWEIGHTED = 5
"""Iterations in which the weights follow the fit; later they stay."""

CONVERGED = 2e-4
"""Relative rms change of the expectation of the rows at which the fit ends."""

_CG_ITERATIONS = 40
_CG_TOLERANCE = 0.02
_NEGLIGIBLE = 0.01
"""What a solution may leave of F, which is half a chi-squared, times two."""

_STALE = 12
"""Conjugate gradients after which the preconditioner is made anew."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a fit found.

    Attributes:
        parameters: Of every term, at the best state that was seen.
        iterations: Steps taken.
        converged: Whether the last step changed nothing that matters.
        change: Relative rms change of the expectation in the last step.
        objective: F at the start and at the result, with the final weights.
    """

    parameters: Parameters
    iterations: int
    converged: bool
    change: float
    objective: tuple[float, float]


def fit(
    problem: Problem,
    parameters: Parameters,
    sizes: Sequence[float],
    iterations: int = 25,
    weights: np.ndarray | None = None,
    curvature: Curvature | None = None,
) -> Outcome:
    """Damped Gauss-Newton steps from `parameters`, see the module.

    Args:
        parameters: Start.
        sizes: Expected size of the penalised combinations, per term.
        iterations: At most.
        weights: (n,) to keep; None: those that the fit predicts.
        curvature: Of this problem, see `curvature_at`; None: made here.
    """
    if not problem.terms:
        return Outcome((), 0, True, 0.0, (0.0, 0.0))
    w = problem.weights(problem.state(parameters)) if weights is None else weights
    seen = [parameters]
    change, converged, number = np.inf, False, 0
    for number in range(1, iterations + 1):
        new, change, curvature = _step(problem, seen[-1], w, sizes, curvature)
        seen.append(new)
        follow = weights is None and number <= REWEIGHTED
        if follow:
            w = problem.weights(problem.state(new))
        converged = change < CONVERGED and (not follow or number > 2)
        if converged:
            break
    if weights is not None:
        seen = [seen[0], seen[-1]]
    final = [problem.objective(p, w, sizes) for p in reversed(seen)][::-1]
    best = int(np.argmin(final))
    return Outcome(
        seen[best], number, converged, float(change), (final[0], final[best])
    )


@dataclass(frozen=True, eq=False)
class _Expansion:
    """F around some parameters, penalties left out.

    Attributes:
        state: The model there.
        s: (m,) sum w a^2 of every voxel, 1 where it is 0.
        smooth: (n,) intensity of each row's voxel, drawn to I0(s).
        slopes: Per term (n,): derivative of the expected counts by its value.
        gradient: Per term (n_parameters,).
    """

    state: State
    s: np.ndarray
    smooth: np.ndarray
    slopes: list[np.ndarray]
    gradient: list[np.ndarray]


def _expand(problem: Problem, parameters: Parameters, w: np.ndarray) -> _Expansion:
    state = problem.state(parameters)
    n, s, v = problem.sums(state, w)
    s = np.where(s > 0, s, 1.0)
    i0, strength = problem.prior(state)
    best, ratio = problem.per_row(n / s), problem.per_row(v / s**2)
    residual = state.y - state.a * best
    wa_s = w / problem.per_row(s)
    by_a = -w * (best * residual + state.a * (ratio - wa_s * problem.noise))
    by_y = w * residual
    slopes, gradient = [], []
    smooth = problem.per_row((n + strength * i0) / (s + strength))
    e = problem.rows.exposure * state.path
    for term, value in zip(problem.terms, state.values, strict=True):
        if term.role == "offset":
            slope, outer = e, -by_y * e
        elif term.role == "path":
            slope = state.a * smooth + e * state.offset
            outer = by_a * state.a - by_y * e * state.offset
        else:
            slope, outer = state.a * smooth, by_a * state.a
        if term.role != "offset" and not term.component.exponential:
            slope, outer = slope / value, outer / value
        slopes.append(slope)
        gradient.append(term.weights.transposed(outer))
    return _Expansion(state, s, smooth, slopes, gradient)


def curvature_at(problem: Problem, parameters: Parameters, w: np.ndarray) -> Curvature:
    """The normal matrix of all rows at these parameters and weights (n,)."""
    at = _expand(problem, parameters, w)
    return Curvature(problem, w, at.state.a, at.slopes, len(problem.rows))


def _step(problem, parameters: Parameters, w: np.ndarray, sizes, curvature=None):
    """The next parameters, by how much they change the expectation, and a curvature."""
    at = _expand(problem, parameters, w)
    if curvature is None:
        curvature = Curvature(problem, w, at.state.a, at.slopes)
    pull = problem.penalty(problem.differences(parameters), sizes)
    gradient = [g + held for g, held in zip(at.gradient, pull, strict=True)]
    direction, iterations = _solve(problem, at, w, sizes, gradient, curvature)
    new, change = _search(problem, at, parameters, direction, w, sizes)
    return new, change, curvature if iterations <= _STALE else None


def _solve(problem, at: _Expansion, w, sizes, gradient, curvature: Curvature):
    """- H^-1 gradient by conjugate gradients, and their number."""
    ends = np.cumsum([len(g) for g in gradient])[:-1]

    def product(vector):
        pieces = np.split(vector, ends)
        z = np.zeros(len(problem.rows))
        for term, slope, piece in zip(problem.terms, at.slopes, pieces, strict=True):
            z += slope * (term.weights @ piece)
        a = at.state.a
        z -= a * problem.per_row(problem.per_voxel(w * a * z) / at.s)
        z *= w
        penalty = problem.penalty(pieces, sizes)
        return np.concatenate(
            [
                term.weights.transposed(slope * z) + held
                for term, slope, held in zip(
                    problem.terms, at.slopes, penalty, strict=True
                )
            ]
        )

    target = -np.concatenate(gradient)
    solution, iterations = _conjugate_gradients(
        product, curvature.solver(sizes), target
    )
    return np.split(solution, ends), iterations


def _search(problem, at: _Expansion, parameters, direction, w, sizes):
    """Halves the step until F falls; the parameters, and the change they make."""
    now = problem.objective(parameters, w, sizes)
    state, smooth = at.state, at.smooth
    e = problem.rows.exposure
    before = state.a * smooth + e * state.path * state.offset
    for halving in range(8):
        new = tuple(
            _bounded(term, p, p + 0.5**halving * d)
            for term, p, d in zip(problem.terms, parameters, direction, strict=True)
        )
        if problem.objective(new, w, sizes) < now:
            after = problem.state(new)
            scale = _ratio(w, state.a, after.a)
            moved = after.a * smooth * scale + e * after.path * after.offset
            size = dot(w, before**2)
            return new, np.sqrt(dot(w, (moved - before) ** 2) / size)
    return parameters, 0.0


def _conjugate_gradients(
    product: Callable, precondition: Callable, target: np.ndarray
) -> tuple[np.ndarray, int]:
    """x with product(x) = target, product symmetric and positive; iterations."""
    x = np.zeros_like(target)
    r = target.copy()
    z = precondition(r)
    p, rho = z, dot(r, z)
    enough = max(_CG_TOLERANCE**2 * rho, _NEGLIGIBLE)
    iterations = 0
    while iterations < _CG_ITERATIONS and rho > enough:
        iterations += 1
        q = product(p)
        alpha = rho / dot(p, q)
        x += alpha * p
        r -= alpha * q
        z = precondition(r)
        rho, old = dot(r, z), rho
        p = z + (rho / old) * p
    return x, iterations


def _ratio(w, a, b) -> float:
    """The factor that brings b (n,) nearest to a (n,)."""
    return dot(w, a * b) / max(dot(w, b**2), TINY)


def _bounded(term: Term, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Parameters of a factor whose weights are all positive stay above 0."""
    if term.role == "offset" or term.component.exponential:
        return new
    return np.where(old > 0, np.maximum(new, 0.2 * old), new)
