"""The scaling solver against made-up observations of known B, G and C."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from diffuse_core import scaling_solver
from diffuse_core.errors import InputError
from diffuse_core.plugins.scaling.per_image import PerImage
from diffuse_core.plugins.scaling.smooth_scale import SmoothScale
from diffuse_core.rows import select_rows
from diffuse_core.scaling import Options, fit_scales
from diffuse_core.scaling_problem import Problem
from diffuse_core.scaling_solver import fit
from diffuse_core.scaling_terms import bind
from diffuse_core.testing.made_up import make_rows

SMALL = {"cell": (50.0, 55.0, 60.0), "d_min": 2.8}


def decay(source, phi):
    return 1.0 + 0.3 * np.sin(phi / 20.0 + source)


def error_of(found, true):
    """Relative rms difference, the level free."""
    ratio = found / true
    return float(np.std(ratio / ratio.mean()))


def test_gradient_is_that_of_the_objective(monkeypatch):
    made = make_rows(2.0, crystal=decay, background=0.3, **SMALL)
    term = bind("b", SmoothScale(5.0), made.rows, made.sources)
    problem = Problem(made.rows, [term])
    rng = np.random.default_rng(1)
    at = term.initial + 0.1 * rng.normal(size=len(term.initial))
    weights = problem.weights(problem.state((at,)))
    caught = {}

    def solve(problem, at, w, sizes, gradient, curvature):
        caught["gradient"] = gradient[0]
        return [np.zeros_like(at)], 0

    monkeypatch.setattr(scaling_solver, "_solve", solve)
    scaling_solver._step(problem, (at,), weights, [0.1])
    for i in range(0, len(at), 5):
        step = np.zeros_like(at)
        step[i] = 1e-5
        up, down = (
            problem.objective((at + k * step,), weights, [0.1]) for k in (1, -1)
        )
        assert caught["gradient"][i] == pytest.approx((up - down) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("counts", [0.2, 1.0, 20.0, 500.0])
def test_few_observations_of_few_counts_do_not_bias_scales(counts):
    """Halves of a scan whose scales differ by 2, voxels seen two or three times."""
    made = make_rows(
        counts,
        seed=4,
        cell=(75.0, 85.0, 95.0),
        crystal=lambda source, phi: np.where(phi < 60, 1.0, 2.0),
    )
    length = np.diff(made.rows.starts)
    rng = np.random.default_rng(1)
    keep = rng.random(len(made.rows)) < 0.5
    few = np.repeat(length <= 6, length)
    rows = select_rows(made.rows, keep & few)
    assert np.mean(np.diff(rows.starts)) < 2.5
    one = np.add.reduceat(np.ones(len(rows)), rows.starts[:-1])
    rows = select_rows(rows, np.repeat(one > 1, np.diff(rows.starts)))
    rows = select_rows(rows, (rows.phi < 55) | (rows.phi > 65))
    half = np.where(rows.phi < 60, 0, 1).astype(np.int32)
    rows = type(rows)(**{**vars(rows), "block": half})
    term = bind("b", PerImage(scans=True), rows, made.sources)
    problem = Problem(rows, [term])
    outcome = fit(problem, problem.start(), [10.0])
    ratio = outcome.parameters[0][1] / outcome.parameters[0][0]
    pairs = 0.25 * len(rows) * counts
    error = 2.0 * np.sqrt(4.0 / pairs)
    print(counts, len(rows), ratio / 2 - 1, error / 2)
    assert abs(ratio - 2.0) < 3.0 * error
    assert abs(ratio / 2 - 1) < max(0.005, 1.5 * error)


@pytest.mark.parametrize(("counts", "limit"), [(1.0, 0.04), (10.0, 0.012)])
def test_scale_of_a_scan_is_found(counts, limit):
    made = make_rows(counts, crystal=decay, **SMALL)
    fitted = fit_scales(made.rows, made.sources, [("b", SmoothScale(4.0))])
    scales = fitted.model.evaluate(made.rows)
    assert error_of(scales.crystal, made.crystal) < limit
    assert scales.crystal.mean() == pytest.approx(1.0, abs=0.01)
    assert np.all(scales.path == 1) and np.all(scales.offset == 0)
    figures = fitted.model.figures
    assert figures["converged"]
    assert figures["chi_squared"]["with scales"] < 1.02
    (curve,) = (c["held_out"] for c in figures["components"])
    best = min(curve, key=curve.get)
    assert f"{figures['components'][0]['smoothness']:.3g}" == best
    assert len(curve) >= 5


def test_scales_of_stills_are_found():
    rng = np.random.default_rng(2)
    scale = np.exp(rng.normal(0.0, 0.7, 40))
    made = make_rows(
        3.0,
        scans=(),
        stills=40,
        fraction=0.5,
        crystal=lambda source, phi: np.full(len(phi), scale[source]),
        **SMALL,
    )
    fitted = fit_scales(made.rows, made.sources, [("k", PerImage())])
    found = fitted.model.components[0].parameters
    assert np.corrcoef(found, scale)[0, 1] > 0.99
    assert error_of(found, scale) < 0.03


def test_crystals_and_stills_are_brought_to_one_scale():
    """Three scans of crystals of different size and stills, each with its component."""
    size = [1.0, 0.3, 2.5, 0.7, 1.6]
    made = make_rows(
        4.0,
        scans=((0.0, 90.0), (10.0, 70.0), (0.0, 40.0)),
        stills=2,
        fraction=0.5,
        crystal=lambda source, phi: size[source] * decay(source, phi),
        **SMALL,
    )
    components = [("b", SmoothScale(4.0, 0.02)), ("k", PerImage(False, 1.0))]
    fitted = fit_scales(made.rows, made.sources, components)
    scales = fitted.model.evaluate(made.rows)
    by_source = [
        np.mean(
            scales.crystal[made.rows.source == i] / made.crystal[made.rows.source == i]
        )
        for i in range(5)
    ]
    assert np.std(by_source) / np.mean(by_source) < 0.03
    assert [c.used for c in fitted.model.components] == [(0, 1, 2), (3, 4)]


def test_a_component_without_experiments_is_left_out():
    made = make_rows(4.0, crystal=decay, **SMALL)
    components = [("k", PerImage()), ("b", SmoothScale(5.0, 0.01))]
    fitted = fit_scales(made.rows, made.sources, components)
    assert [c.name for c in fitted.model.components] == ["b"]


def test_no_components_give_neutral_scales():
    made = make_rows(4.0, **SMALL)
    scales = fit_scales(made.rows, made.sources, []).model.evaluate(made.rows)
    assert np.all(scales.crystal == 1) and np.all(scales.offset == 0)


def test_the_same_bits_again_and_with_any_number_of_threads():
    made = make_rows(3.0, crystal=decay, **SMALL)
    found = []
    before = numba.get_num_threads()
    for threads in (before, 1, before):
        numba.set_num_threads(threads)
        fitted = fit_scales(made.rows, made.sources, [("b", SmoothScale(5.0))])
        found.append(fitted.model.components[0].parameters)
    numba.set_num_threads(before)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_a_fit_never_ends_on_a_worse_state_than_it_has_seen():
    made = make_rows(3.0, crystal=decay, **SMALL)
    term = bind("b", SmoothScale(5.0), made.rows, made.sources)
    problem = Problem(made.rows, [term])
    rng = np.random.default_rng(3)
    for _ in range(3):
        start = (np.exp(rng.normal(0.0, 1.0, len(term.initial))),)
        outcome = fit(problem, start, [0.03])
        assert outcome.converged
        assert outcome.objective[1] <= outcome.objective[0]
        state = problem.state(outcome.parameters)
        assert error_of(state.crystal, made.crystal) < 0.05


def test_observations_without_mates_are_refused():
    made = make_rows(3.0, **SMALL)
    rows = select_rows(
        made.rows, np.isin(np.arange(len(made.rows)), made.rows.starts[:-1])
    )
    with pytest.raises(InputError, match="No voxel has two observations"):
        fit_scales(rows, made.sources, [("b", SmoothScale())], Options())
