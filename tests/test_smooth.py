"""Gaussian smoothers against DIALS' own, and what their penalty leaves alone."""

from __future__ import annotations

import numpy as np
import pytest

from dials.algorithms.scaling.model.components.smooth_scale_components import (
    GaussianSmoother1D,
    GaussianSmoother2D,
    GaussianSmoother3D,
)
from dials.array_family import flex

from diffuse_core.smooth import Axis, roughness, smoother


@pytest.mark.parametrize("intervals", [1, 2, 3, 4, 11])
def test_one_coordinate_as_in_dials(intervals):
    theirs = GaussianSmoother1D((-3.0, 40.0), intervals)
    axis = Axis(-3.0, 40.0, intervals)
    assert axis.size == theirs.num_values()
    spacing = 43.0 / intervals
    np.testing.assert_allclose(
        (axis.positions + 3.0) / spacing, np.array(theirs.positions()), atol=1e-12
    )
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [rng.uniform(-3, 40, 200), -3 + spacing * np.arange(intervals + 1)]
    )
    values = rng.normal(size=axis.size)
    expected, weight, total = theirs.multi_value_weight(
        flex.double(x), flex.double(values)
    )
    ours = smoother([axis], [x])
    np.testing.assert_allclose(ours @ values, np.array(expected), rtol=1e-12)
    dense = np.array(weight.as_dense_matrix()).reshape(len(x), axis.size)
    np.testing.assert_allclose(
        ours.toarray(), dense / np.array(total)[:, None], atol=1e-14
    )


@pytest.mark.parametrize("intervals", [(4, 5), (2, 7), (1, 6)])
def test_two_coordinates_as_in_dials(intervals):
    theirs = GaussianSmoother2D((0.0, 1.0), intervals[0], (5.0, 9.0), intervals[1])
    axes = [Axis(0.0, 1.0, intervals[0]), Axis(5.0, 9.0, intervals[1])]
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, 1, 100), rng.uniform(5, 9, 100)
    values = rng.normal(size=[axis.size for axis in axes])
    table = flex.double(values.T.ravel())
    expected, _, _ = theirs.multi_value_weight(flex.double(x), flex.double(y), table)
    ours = smoother(axes, [x, y]) @ values.ravel()
    np.testing.assert_allclose(ours, np.array(expected), rtol=1e-12)


def test_three_coordinates_as_in_dials():
    ranges, intervals = [(0.0, 1.0), (5.0, 9.0), (-1.0, 1.0)], [4, 3, 5]
    theirs = GaussianSmoother3D(
        *(a for pair in zip(ranges, intervals, strict=True) for a in pair)
    )
    axes = [Axis(*r, n) for r, n in zip(ranges, intervals, strict=True)]
    rng = np.random.default_rng(3)
    columns = [rng.uniform(*r, 100) for r in ranges]
    values = rng.normal(size=[axis.size for axis in axes])
    table = flex.double(values.transpose(2, 1, 0).ravel())
    expected, _, _ = theirs.multi_value_weight(*map(flex.double, columns), table)
    ours = smoother(axes, columns) @ values.ravel()
    np.testing.assert_allclose(ours, np.array(expected), rtol=1e-12)


def test_points_outside_count_as_the_ends():
    axis = Axis(0.0, 10.0, 5)
    inside, outside = (smoother([axis], [np.array(x)]) for x in ([0, 10], [-4, 12]))
    assert np.array_equal(inside.toarray(), outside.toarray())


def test_spacing_gives_whole_intervals():
    assert Axis.with_spacing(0.0, 100.0, 7.0) == Axis(0.0, 100.0, 14)
    assert Axis.with_spacing(5.0, 5.0, 2.0).size == 2


def test_roughness_is_zero_for_linear_parameters_only():
    sizes = (4, 5, 3)
    x, y, z = np.indices(sizes)
    matrix = roughness(sizes)
    assert matrix.shape == (2 * 15 + 4 * 3 * 3 + 20, 60)
    np.testing.assert_allclose(matrix @ (1 + 2 * x - y + 3 * z * x).ravel(), 0.0)
    assert np.square(matrix @ (x**2).ravel()).sum() == 4 * 2 * 15
    assert roughness((2,)).shape == (0, 2)
