"""The Lorentz factor is that of DIALS, and nobody gets it without a warning."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np

from dials.algorithms.integration import Corrections
from dials.array_family import flex  # noqa: F401

from diffuse_core.boundary import panel_geometry
from diffuse_core.models import RunInputs
from diffuse_core.plugins.correction.lorentz import Lorentz
from diffuse_core.plugins.correction.polarization import Polarization
from diffuse_core.testing import make_experiments, make_image, make_run


def test_product_with_polarization_is_one_over_lp_of_dials():
    scan = make_experiments()[0]
    scan.goniometer.set_rotation_axis((0.6, 0.0, -0.8))
    run = RunInputs([scan], None, (0,))
    model = Lorentz.from_params(SimpleNamespace(smallest=1e-6), run)
    dials = Corrections(scan.beam, scan.goniometer, scan.detector)
    for panel in range(2):
        geometry = panel_geometry(scan, 0, panel)
        response = model.image_response(make_image(3), geometry)
        product = response * Polarization().panel_response(geometry)
        for slow, fast in [(0, 0), (35, 47), (11, 40), (30, 3), (17, 20)]:
            s1 = scan.detector[panel].get_pixel_lab_coord((fast + 0.5, slow + 0.5))
            assert abs(1 / product[slow, fast] - dials.lp(s1)) < 1e-6


def test_factor_is_bounded_and_stills_have_none():
    model = Lorentz.from_params(SimpleNamespace(smallest=0.1), make_run())
    geometry = panel_geometry(make_experiments()[0], 0, 0)
    response = model.image_response(make_image(3), geometry)
    assert response.max() == 10.0
    assert response.min() > 1.0
    assert model.image_response(make_image(still=True), geometry) == 1.0
    assert model.panel_response(geometry) == 1.0


def test_swept_volume_is_the_jacobian_of_the_ewald_map():
    """Volume of a pixel turned by dphi, from a numerical derivative of s(x, y, phi)."""
    scan = make_experiments()[0]
    model = Lorentz({0: np.array(scan.goniometer.get_rotation_axis())}, 1e-6)
    geometry = panel_geometry(scan, 0, 1)
    panel, k = scan.detector[1], np.array(scan.beam.get_s0())
    x0, y0 = 40.5, 20.5

    def at(x, y, phi):
        u = np.array(panel.get_pixel_lab_coord((x, y)))
        s = u / np.linalg.norm(u) - k
        c, d = np.cos(phi), np.sin(phi)
        return np.array([[1, 0, 0], [0, c, d], [0, -d, c]]) @ s

    h = 1e-4
    steps = [(h, 0, 0), (0, h, 0), (0, 0, h)]
    jacobian = [
        (at(x0 + a, y0 + b, c) - at(x0 - a, y0 - b, -c)) / (2 * h) for a, b, c in steps
    ]
    fast, slow = geometry.pixel_size
    omega = (
        fast * slow * geometry.cos_incidence[20, 40] / geometry.distance[20, 40] ** 2
    )
    response = model.image_response(make_image(), geometry)[20, 40]
    np.testing.assert_allclose(
        abs(np.linalg.det(jacobian)), omega / response, rtol=1e-4
    )


def test_selecting_it_warns(caplog):
    with caplog.at_level(logging.WARNING, "dials.diffuse"):
        Lorentz.from_params(SimpleNamespace(smallest=0.02), make_run())
    assert "a diffuse map is wrong by it" in caplog.text
