"""Damped Gauss-Newton steps of a scaling problem.

The normal equations, with the intensities eliminated, are solved by conjugate
gradients: they are only ever multiplied with vectors, so time and memory are
proportional to the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from diffuse_core.scaling_problem import TINY, Parameters, Problem, dot
from diffuse_core.scaling_terms import Term

REWEIGHTED = 5
"""Iterations in which the weights follow the fit; later they stay."""

CONVERGED = 2e-4
"""Relative rms change of the expectation of the rows at which the fit ends."""

_PRECONDITION_ROWS = 15_000
_CG_ITERATIONS = 40
_CG_TOLERANCE = 0.02


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
) -> Outcome:
    """Damped Gauss-Newton steps from `parameters`, see the module.

    Args:
        parameters: Start.
        sizes: Expected size of the penalised combinations, per term.
        iterations: At most.
        weights: (n,) to keep; None: those that the fit predicts.
    """
    if not problem.terms:
        return Outcome((), 0, True, 0.0, (0.0, 0.0))
    w = problem.weights(problem.state(parameters)) if weights is None else weights
    seen = [parameters]
    change, converged, number = np.inf, False, 0
    for number in range(1, iterations + 1):
        new, change = _step(problem, seen[-1], w, sizes)
        seen.append(new)
        follow = weights is None and number <= REWEIGHTED
        if follow:
            w = problem.weights(problem.state(new))
        converged = change < CONVERGED and (not follow or number > 2)
        if converged:
            break
    final = [problem.objective(p, w, sizes) for p in seen]
    best = int(np.argmin(final))
    return Outcome(
        seen[best], number, converged, float(change), (final[0], final[best])
    )


def _step(problem, parameters: Parameters, w: np.ndarray, sizes):
    """The next parameters, and by how much they change the expectation."""
    state = problem.state(parameters)
    pull = problem.penalty(problem.differences(parameters), sizes)
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
    for term, value, held in zip(problem.terms, state.values, pull, strict=True):
        if term.role == "offset":
            slope, outer = e, -by_y * e
            slopes.append(slope)
            gradient.append(term.weights.transposed(outer) + held)
            continue
        inner = 1.0 if term.component.exponential else 1.0 / value
        if term.role == "path":
            slope = (state.a * smooth + e * state.offset) * inner
            outer = (by_a * state.a - by_y * e * state.offset) * inner
        else:
            slope, outer = state.a * smooth * inner, by_a * state.a * inner
        slopes.append(slope)
        gradient.append(term.weights.transposed(outer) + held)
    direction = _solve(problem, state, w, s, slopes, sizes, gradient)
    return _search(problem, state, parameters, direction, w, sizes, smooth)


def _solve(problem, state, w, s, slopes, sizes, gradient) -> list[np.ndarray]:
    """- H^-1 gradient by conjugate gradients; H is never made."""
    parts = np.cumsum([0, *(len(g) for g in gradient)])
    step = max(1, len(problem.rows) // _PRECONDITION_ROWS)
    blocks = []
    for term, slope, matrix in zip(
        problem.terms, slopes, problem.restraints(sizes), strict=True
    ):
        block = term.weights.squared(w * slope**2, step) + matrix
        blocks.append(splu(sparse.csc_matrix(block)))

    def split(vector):
        return [vector[i:j] for i, j in zip(parts[:-1], parts[1:], strict=True)]

    def product(vector):
        pieces = split(np.ravel(vector))
        z = np.zeros(len(problem.rows))
        for term, slope, piece in zip(problem.terms, slopes, pieces, strict=True):
            z += slope * (term.weights @ piece)
        z -= state.a * problem.per_row(problem.per_voxel(w * state.a * z) / s)
        z *= w
        return np.concatenate(
            [
                term.weights.transposed(slope * z) + held
                for term, slope, held in zip(
                    problem.terms, slopes, problem.penalty(pieces, sizes), strict=True
                )
            ]
        )

    def precondition(vector):
        pieces = split(np.ravel(vector))
        return np.concatenate([b.solve(v) for b, v in zip(blocks, pieces, strict=True)])

    gradient = np.concatenate(gradient)
    return split(_conjugate_gradients(product, precondition, -gradient))


def _search(problem, state, parameters, direction, w, sizes, smooth):
    """Halves the step until F falls; the parameters, and the change they make."""
    now = problem.objective(parameters, w, sizes)
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
) -> np.ndarray:
    """x with product(x) = target, product symmetric and positive."""
    x = np.zeros_like(target)
    r = target.copy()
    z = precondition(r)
    p, rho = z, dot(r, z)
    first = rho
    for _ in range(_CG_ITERATIONS):
        if not rho > _CG_TOLERANCE**2 * first:
            break
        q = product(p)
        alpha = rho / dot(p, q)
        x += alpha * p
        r -= alpha * q
        z = precondition(r)
        rho, old = dot(r, z), rho
        p = z + (rho / old) * p
    return x


def _ratio(w, a, b) -> float:
    """The factor that brings b (n,) nearest to a (n,)."""
    return dot(w, a * b) / max(dot(w, b**2), TINY)


def _bounded(term: Term, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Parameters of a factor whose weights are all positive stay above 0."""
    if term.role == "offset" or term.component.exponential:
        return new
    return np.where(old > 0, np.maximum(new, 0.2 * old), new)
