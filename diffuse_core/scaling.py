"""Observations to a scaling model: bind, choose smoothness, fit, leave out outliers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from diffuse_core.blas_threads import one_blas_thread
from diffuse_core.errors import InputError
from diffuse_core.models import ScalingComponent
from diffuse_core.outliers import PROBABILITY, Found, find_outliers
from diffuse_core.rows import Rows, Source, select_rows
from diffuse_core.scale_model import Curve, FittedComponent, ScaleModel, Scales
from diffuse_core.scaling_problem import Parameters, Problem
from diffuse_core.scaling_smoothness import choose_sizes
from diffuse_core.scaling_solver import Outcome, fit
from diffuse_core.scaling_terms import Term, bind

logger = logging.getLogger("dials.diffuse")

_PEDESTAL_NODES = 60
_PEDESTAL_ROWS = 400_000


@dataclass(frozen=True)
class Options:
    """How to fit.

    Attributes:
        seed: Of the choice of held-out observations.
        outliers: Two-sided probability below which an observation is left out; 0: none.
        tolerance: See `find_outliers`.
        rounds: Times that outliers are looked for.
        smoothness_rows: Observations at most from which smoothness is chosen.
    """

    seed: int = 1
    outliers: float = PROBABILITY
    tolerance: float | None = None
    rounds: int = 3
    smoothness_rows: int = 120_000


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted model and the rows that it was fitted to.

    Attributes:
        model: The model, with figures.
        rows: The rows: voxels with at least two observations.
        found: Outliers among them.
    """

    model: ScaleModel
    rows: Rows
    found: Found


def fit_scales(
    rows: Rows,
    sources: Sequence[Source],
    components: Sequence[tuple[str, ScalingComponent]],
    options: Options = Options(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Fit:
    """The scaling model that symmetry mates agree with best.

    Args:
        rows: Observations of whole voxels.
        sources: Their experiments.
        components: Names and components, in the user's order.
        options: How to fit.
        progress: Called with (trials of smoothness done, expected).

    Raises:
        InputError: No voxel has two observations.
    """
    length = np.diff(rows.starts)
    rows = select_rows(rows, np.repeat(length > 1, length))
    if not len(rows):
        raise InputError(
            "No voxel has two observations, so nothing tells scales: merge without "
            "scaling, or integrate on a coarser grid."
        )
    with one_blas_thread():
        return _fit_rows(rows, sources, components, options, progress)


def _fit_rows(rows, sources, components, options, progress) -> Fit:
    terms = _bound(rows, sources, components)
    sizes, curves, start = _choose(rows, sources, components, terms, options, progress)
    problem = Problem(rows, terms)
    outcome = fit(problem, start, sizes)
    found = _outliers(problem, outcome, options)
    for _ in range(options.rounds if options.outliers else 0):
        before = found.keep
        problem = Problem(rows, terms, before)
        outcome = fit(problem, outcome.parameters, sizes)
        found = _outliers(problem, outcome, options)
        if np.count_nonzero(found.keep != before) <= 1e-5 * len(rows):
            break
    model = _model(problem, outcome, sources, sizes, curves, found)
    return Fit(model, rows, found)


def _bound(rows, sources, components) -> list[Term]:
    terms = []
    for name, component in components:
        term = bind(name, component, rows, sources)
        if term is None:
            logger.info("%s: no experiment here that it is made for", name)
        else:
            terms.append(term)
    return terms


def _choose(rows, sources, components, terms, options, progress):
    """Sizes, curves and start values, from a part of the voxels."""
    if all(term.component.smoothness is not None for term in terms):
        sizes = [term.component.smoothness for term in terms]
        return sizes, [{} for _ in terms], Problem(rows, terms).start()
    part = _some_voxels(rows, options.smoothness_rows)
    if len(part) < len(rows):
        bound = {name: bind(name, c, part, sources) for name, c in components}
        if any(
            bound[t.name] is None or len(bound[t.name].initial) != len(t.initial)
            for t in terms
        ):
            part = rows
        else:
            terms = [bound[t.name] for t in terms]
    keep = np.ones(len(part), bool)
    if options.outliers:
        problem = Problem(part, terms)
        sizes = [t.component.smoothness or 0.1 for t in terms]
        keep = _outliers(problem, fit(problem, problem.start(), sizes), options).keep
    return choose_sizes(Problem(part, terms, keep), options.seed, progress)


def _some_voxels(rows: Rows, at_most: int) -> Rows:
    """Every k-th voxel, so that about `at_most` rows are left."""
    step = -(-len(rows) // at_most)
    if step <= 1:
        return rows
    length = np.diff(rows.starts)
    chosen = np.arange(len(length)) % step == 0
    return select_rows(rows, np.repeat(chosen, length))


def _outliers(problem: Problem, outcome: Outcome, options: Options) -> Found:
    state = problem.state(outcome.parameters)
    if not options.outliers:
        n = len(problem.rows)
        return Found(np.ones(n, bool), 0, 0, 0, 0.0)
    pedestal = _pedestal(problem, state)
    offset = state.offset + state.crystal * pedestal(problem.rows.s)
    return find_outliers(
        problem.rows,
        Scales(state.crystal, state.path, offset),
        _shifted(problem.expected(state), pedestal),
        options.outliers,
        options.tolerance,
    )


def _model(problem, outcome, sources, sizes, curves, found) -> ScaleModel:
    parameters = problem.normalised(outcome.parameters)
    state = problem.state(parameters)
    pedestal = _pedestal(problem, state)
    expected = _shifted(problem.expected(state), pedestal)
    components = [
        FittedComponent(
            name=term.name,
            role=term.role,
            columns=tuple(term.component.columns),
            exponential=term.component.exponential,
            used=term.used,
            basis=term.basis,
            parameters=p,
            smoothness=float(size),
        )
        for term, p, size in zip(problem.terms, parameters, sizes, strict=True)
    ]
    figures = {
        "observations": len(problem.rows),
        "voxels": len(problem.rows.starts) - 1,
        "iterations": outcome.iterations,
        "converged": outcome.converged,
        "change": outcome.change,
        "chi_squared": {
            "without scales": _chi_squared(problem, problem.start()),
            "with scales": _chi_squared(problem, parameters),
        },
        "outliers": found.figures(),
        "components": [
            {
                "name": term.name,
                "role": term.role,
                "parameters": len(p),
                "smoothness": float(size),
                "held_out": curve,
                "lowest": float(value.min()),
                "highest": float(value.max()),
                "rms": float(value.std()),
            }
            for term, p, size, curve, value in zip(
                problem.terms, parameters, sizes, curves, state.values, strict=True
            )
        ],
    }
    return ScaleModel(
        sources=tuple(sources),
        components=tuple(components),
        pedestal=pedestal,
        expected=expected,
        gauge=_gauge(problem),
        figures=figures,
    )


def _shifted(expected: Curve, pedestal: Curve) -> Curve:
    """I0(s), > 0, when the pedestal goes from intensities to offsets."""
    values = expected.values - pedestal(expected.s)
    least = 0.02 * float(np.mean(np.abs(expected.values)))
    return Curve(expected.s, np.maximum(values, least))


def _pedestal(problem: Problem, state) -> Curve:
    """-f(s) with f the smallest C / B at s: what is taken off is left in I."""
    s = problem.rows.s
    if not any(term.role == "offset" for term in problem.terms):
        return Curve(np.array([float(s.min())]), np.zeros(1))
    ratio = state.offset / state.crystal
    step = max(1, len(s) // _PEDESTAL_ROWS)
    s, ratio = s[::step].astype(float), ratio[::step]
    edges = np.linspace(s.min(), s.max(), _PEDESTAL_NODES + 1)
    cell = np.clip(np.searchsorted(edges, s, side="right") - 1, 0, _PEDESTAL_NODES - 1)
    least = np.full(_PEDESTAL_NODES, np.inf)
    np.minimum.at(least, cell, ratio)
    use = np.isfinite(least)
    middle = 0.5 * (edges[1:] + edges[:-1])
    return Curve(middle[use], -least[use])


def _chi_squared(problem: Problem, parameters: Parameters) -> float:
    """Reduced chi-squared of mates against their mean, by predicted variances."""
    state = problem.state(parameters)
    w = problem.weights(state)
    n, s, _ = problem.sums(state, w)
    count = problem.per_voxel((w > 0).astype(float))
    use = (s > 0) & (count > 1)
    best = problem.per_row(n / np.maximum(s, 1e-300))
    total = problem.per_voxel(w * (state.y - state.a * best) ** 2)
    return float(total[use].sum() / (count[use] - 1).sum())


def _gauge(problem: Problem) -> tuple[str, ...]:
    roles = {term.role for term in problem.terms}
    words = []
    if "crystal" in roles:
        words.append("The mean of every factor of B over the observations is 1.")
    if "path" in roles:
        words.append("The mean of every factor of G over the observations is 1.")
    if "offset" in roles:
        words.append(
            "C is 0 at its lowest angle at every s: mates tell only how C differs "
            "between angles, and what is common stays in the intensities."
        )
    return tuple(words)
