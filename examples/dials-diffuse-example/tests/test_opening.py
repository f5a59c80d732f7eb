"""The mask of the cell's opening."""

from __future__ import annotations

import numpy as np
from dials_diffuse_example.opening import CellOpening

from diffuse_core.testing import make_geometry


def test_a_cone_around_the_beam_is_a_limit_of_two_theta():
    geometry = make_geometry()
    mask = CellOpening(20.0).panel_mask(geometry)
    assert 0 < mask.sum() < mask.size
    sure = np.abs(geometry.two_theta - 20.0) > 1e-3
    np.testing.assert_array_equal(mask[sure], geometry.two_theta[sure] < 20.0)


def test_a_closed_cell_lets_nothing_through_and_an_open_one_all():
    geometry = make_geometry()
    away = np.array([0.0, 0.0, 1.0])
    assert not CellOpening(40.0, away).panel_mask(geometry).any()
    assert CellOpening(90.0).panel_mask(geometry).all()


def test_the_axis_turns_the_cone():
    geometry = make_geometry()
    axis = np.array([np.sin(0.3), 0.0, -np.cos(0.3)])
    mask = CellOpening(10.0, axis).panel_mask(geometry)
    columns = np.flatnonzero(mask.any(axis=0))
    x = geometry.direction[..., 0]
    assert x[:, columns].mean() > 0.2
