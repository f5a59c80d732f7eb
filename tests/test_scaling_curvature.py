"""The normal matrix of a scaling problem against its definition, and its inverse."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core import scaling_curvature
from diffuse_core.plugins.scaling.offset import Offset
from diffuse_core.plugins.scaling.smooth_scale import SmoothScale
from diffuse_core.scaling_problem import Problem
from diffuse_core.scaling_solver import curvature_at
from diffuse_core.scaling_terms import bind
from diffuse_core.testing.made_up import make_rows

SIZES = (0.1, 0.3)


@pytest.fixture(scope="module")
def problem():
    made = make_rows(5.0, cell=(30.0, 32.0, 34.0), d_min=3.0)
    components = [("b", SmoothScale(20.0)), ("c", Offset(3, 40.0))]
    terms = [bind(name, c, made.rows, made.sources) for name, c in components]
    keep = np.random.default_rng(1).random(len(made.rows)) < 0.9
    return Problem(made.rows, terms, keep)


def expected_counts(problem, parameters, intensity):
    state = problem.state(tuple(np.array(p) for p in parameters))
    offset = problem.rows.exposure * state.path * state.offset
    return state.a * problem.per_row(intensity) + offset


def normal_matrix(problem, parameters, w, intensity):
    """Intensities eliminated from the whole normal matrix by a Schur complement."""
    columns = []
    for i, p in enumerate(parameters):
        for j in range(len(p)):
            up, down = [list(map(np.array, parameters)) for _ in range(2)]
            up[i][j] += 1e-4
            down[i][j] -= 1e-4
            change = expected_counts(problem, up, intensity)
            change = change - expected_counts(problem, down, intensity)
            columns.append(change / 2e-4)
    by_parameter = np.column_stack(columns)
    by_intensity = np.zeros((len(w), len(intensity)))
    by_intensity[np.arange(len(w)), problem.rows.voxel] = problem.state(parameters).a
    root = np.sqrt(w)[:, None]
    by_parameter, by_intensity = root * by_parameter, root * by_intensity
    cross = by_intensity.T @ by_parameter
    own = np.maximum((by_intensity**2).sum(axis=0), 1e-12)
    return by_parameter.T @ by_parameter - cross.T @ (cross / own[:, None])


@pytest.mark.parametrize("largest", [2500, 0])
def test_solver_inverts_the_normal_matrix(problem, monkeypatch, largest):
    """All of it, or without the parts between terms if there are many parameters."""
    monkeypatch.setattr(scaling_curvature, "LARGEST", largest)
    rng = np.random.default_rng(2)
    parameters = tuple(p + 0.1 * rng.normal(size=len(p)) for p in problem.start())
    state = problem.state(parameters)
    w = problem.weights(state)
    n, s, _ = problem.sums(state, w)
    i0, strength = problem.prior(state)
    intensity = (n + strength * i0) / (np.where(s > 0, s, 1.0) + strength)
    full = normal_matrix(problem, parameters, w, intensity)
    ends = np.cumsum([len(p) for p in parameters])[:-1]
    size = len(full)
    penalty = np.array(
        [
            np.concatenate(problem.penalty(np.split(unit, ends), SIZES))
            for unit in np.eye(size)
        ]
    )
    solve = curvature_at(problem, parameters, w).solver(SIZES)
    inverse = np.array([solve(unit) for unit in np.eye(size)])
    if largest:
        assert np.allclose(inverse @ (full + penalty), np.eye(size), atol=1e-5)
    else:
        assert np.allclose(inverse, inverse.T)
        assert np.linalg.eigvalsh(inverse).min() > 0
