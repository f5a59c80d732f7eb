"""Objective and gradient of a scaling problem, for terms of every role."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core import scaling_solver
from diffuse_core.plugins.scaling.absorption.model import Absorption
from diffuse_core.plugins.scaling.offset import Offset
from diffuse_core.plugins.scaling.per_image import PerImage
from diffuse_core.plugins.scaling.relative_b.model import RelativeB
from diffuse_core.plugins.scaling.smooth_scale import SmoothScale
from diffuse_core.rows import Rows
from diffuse_core.scaling_problem import Problem
from diffuse_core.scaling_terms import bind
from diffuse_core.testing.made_up import FRAME, make_rows

SIZES = (0.1, 0.3, 0.1, 3.0)
VARIANCE = 1.5


@pytest.fixture(scope="module")
def made():
    return make_rows(3.0, cell=(30.0, 32.0, 34.0), d_min=3.0, background=0.4)


@pytest.fixture(scope="module")
def terms(made):
    components = [
        ("b", SmoothScale(20.0)),
        ("c", Offset(3, 40.0)),
        ("g", Absorption([FRAME], [0], (3, 3), 60.0)),
        ("r", RelativeB(60.0)),
    ]
    return [bind(name, c, made.rows, made.sources) for name, c in components]


def moved(problem, size=0.1, seed=2):
    rng = np.random.default_rng(seed)
    return tuple(p + size * rng.normal(size=len(p)) for p in problem.start())


def with_columns(rows: Rows, **columns) -> Rows:
    return Rows(**{**vars(rows), **columns})


def test_gradient_of_every_term(made, terms):
    rng = np.random.default_rng(4)
    noisy = rng.uniform(0.0, 2.0, len(made.rows))
    rows = with_columns(made.rows, background_variance=noisy)
    problem = Problem(rows, terms, rng.random(len(rows)) < 0.9)
    at = moved(problem)
    w = problem.weights(problem.state(at))
    expansion = scaling_solver._expand(problem, at, w)
    pull = problem.penalty(problem.differences(at), SIZES)
    for t in range(len(terms)):
        for i in range(0, len(at[t]), 7):
            values = []
            for sign in (1, -1):
                new = [p.copy() for p in at]
                new[t][i] += sign * 1e-5
                values.append(problem.objective(tuple(new), w, SIZES))
            slope = (values[0] - values[1]) / 2e-5
            found = expansion.gradient[t][i] + pull[t][i]
            assert found == pytest.approx(slope, rel=1e-4, abs=1e-3), (t, i)


def test_slopes_are_derivatives_of_the_expected_counts(made, terms):
    problem = Problem(made.rows, terms)
    at = moved(problem)
    state = problem.state(at)
    expansion = scaling_solver._expand(problem, at, problem.weights(state))
    e = made.rows.exposure
    rng = np.random.default_rng(5)
    for t, term in enumerate(terms):
        d = rng.normal(size=len(at[t]))
        counts = []
        for sign in (1, -1):
            new = problem.state(
                tuple(p + sign * 1e-5 * d if i == t else p for i, p in enumerate(at))
            )
            counts.append(new.a * expansion.smooth + e * new.path * new.offset)
        change = (counts[0] - counts[1]) / 2e-5
        assert np.allclose(expansion.slopes[t] * (term.weights @ d), change, atol=1e-4)


def test_gradient_is_zero_at_the_truth_on_average(made, terms):
    """With few counts, few mates and a background that is not known exactly.

    The gradient is quadratic in the deviations from the expected counts. So deviations
    of one size and random sign do, and their opposites take out what is linear.
    """
    exposure = made.rows.exposure * np.exp(made.rows.phi / 40.0)
    rows = with_columns(made.rows, exposure=exposure)
    rng = np.random.default_rng(6)
    mean = rows.exposure * made.intensity + rows.background
    deviation = np.sqrt(mean + VARIANCE)
    w = 1.0 / deviation**2
    found = []
    for _ in range(300):
        sign = rng.choice([-1.0, 1.0], len(rows))
        pair = 0.0
        for side in (1.0, -1.0):
            seen = with_columns(
                rows,
                counts=mean,
                background=rows.background - side * sign * deviation,
                background_variance=np.full(len(rows), VARIANCE),
            )
            problem = Problem(seen, terms)
            at = scaling_solver._expand(problem, problem.start(), w)
            pair = pair + 0.5 * np.concatenate(at.gradient)
        found.append(pair)
    mean, spread = np.mean(found, axis=0), np.std(found, axis=0)
    told = spread > 1e-6 * spread.max()
    assert told.sum() > 20
    assert np.abs(mean[~told]).max() < 1e-6 * spread.max()
    z = mean[told] / (spread[told] / np.sqrt(len(found)))
    print("chi squared", np.mean(z**2), "worst", np.abs(z).max())
    assert np.mean(z**2) < 1.6
    assert np.abs(z).max() < 4.5


def test_normalised_parameters_are_the_same_model(made, terms):
    """Expected counts stay, with intensities that fit best."""
    problem = Problem(made.rows, terms)
    at = list(moved(problem, 0.05))
    at[0], at[2] = 1.7 * at[0], 0.6 * at[2]
    same = problem.normalised(tuple(at))
    residuals = []
    for parameters in (tuple(at), same):
        state = problem.state(parameters)
        n, s, _ = problem.sums(state, np.ones(len(made.rows)))
        residuals.append(state.y - state.a * problem.per_row(n / s))
    assert np.allclose(*residuals, atol=1e-9)
    state = problem.state(same)
    assert state.values[0].mean() == pytest.approx(1.0)
    assert state.path.mean() == pytest.approx(1.0)


def test_factors_of_scans_and_stills_have_a_common_level():
    """1 where a component does not apply must not count."""
    made = make_rows(
        3.0, cell=(30.0, 32.0, 34.0), d_min=3.0, scans=((0.0, 60.0),), stills=5
    )
    components = [("b", SmoothScale(20.0)), ("k", PerImage())]
    terms = [bind(name, c, made.rows, made.sources) for name, c in components]
    problem = Problem(made.rows, terms)
    at = [3.0 * p for p in problem.start()]
    same = problem.normalised(tuple(at))
    assert problem.state(same).crystal.mean() == pytest.approx(1.0)
    assert same[0][0] == pytest.approx(same[1][0])


def test_the_best_state_that_was_seen_is_the_result(made, terms, monkeypatch):
    """Even if steps go astray, as they may while weights follow."""
    problem = Problem(made.rows, terms)
    rng = np.random.default_rng(7)
    sizes = iter([0.05, 0.02, 0.2, 0.4, 0.3, 0.25])
    tried = []

    def step(problem, parameters, w, penalties, curvature):
        size = next(sizes)
        start = problem.start()
        new = tuple(p + size * rng.normal(size=len(p)) for p in start)
        tried.append(new)
        return new, 1.0, None

    monkeypatch.setattr(scaling_solver, "_step", step)
    outcome = scaling_solver.fit(problem, moved(problem, 0.1), SIZES, 6)
    assert not outcome.converged
    assert outcome.parameters is tried[1]
    assert outcome.objective[1] < outcome.objective[0]
