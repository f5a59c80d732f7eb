"""The physics of the window: numbers that come from elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dials_diffuse_example.window import DiamondWindow, attenuation

from diffuse_core.errors import ConfigError
from diffuse_core.testing import make_geometry

MASS_ATTENUATION = {12.39842 / 10.0: 2.373, 12.39842 / 15.0: 0.8071}
"""cm^2/g of carbon at 10 and 15 keV: NIST, X-ray mass attenuation coefficients."""


@pytest.mark.parametrize(("wavelength", "expected"), MASS_ATTENUATION.items())
def test_attenuation_is_that_of_the_tables(wavelength, expected):
    assert attenuation(wavelength) == pytest.approx(expected * 3.51 / 10, rel=0.02)


def test_transmission_is_beers_law_along_each_ray():
    geometry = make_geometry()
    response = DiamondWindow(2.0).panel_response(geometry)
    mu = attenuation(geometry.beam.wavelength)
    for j, i in ((0, 0), (10, 40), (35, 47)):
        path = 2.0 / math.cos(math.radians(float(geometry.two_theta[j, i])))
        assert response[j, i] == pytest.approx(math.exp(-mu * path), rel=1e-5)


def test_a_window_without_thickness_absorbs_nothing():
    assert np.all(DiamondWindow(0.0).panel_response(make_geometry()) == 1.0)


def test_a_tilted_window_is_thicker_on_one_side():
    normal = np.array([math.sin(0.5), 0.0, math.cos(0.5)])
    response = DiamondWindow(1.0, normal).panel_response(make_geometry())
    assert np.all(np.diff(response, axis=1) < 0)
    opposite = DiamondWindow(1.0, -normal).panel_response(make_geometry())
    np.testing.assert_array_equal(response, opposite)


def test_a_ray_in_the_plane_of_the_window_stays_above_zero():
    geometry = make_geometry()
    normal = np.array([0.0, 1.0, 0.0])
    response = DiamondWindow(1e6, normal).panel_response(geometry)
    assert np.all(response.astype(np.float32) > 0)


def test_a_normal_without_direction_is_refused():
    class Params:
        thickness = 1.0
        normal = [0.0, 0.0, 0.0]

    with pytest.raises(ConfigError, match="correction.diamond_window.normal"):
        DiamondWindow.from_params(Params, None)
