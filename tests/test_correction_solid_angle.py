"""Solid angle against the exact one of spherical polygons."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dials.array_family import flex  # noqa: F401
from dxtbx.model import BeamFactory, Detector, Panel, SimplePxMmStrategy
from dxtbx.model.experiment_list import Experiment

from diffuse_core.boundary import panel_geometry
from diffuse_core.compat import load_experiments
from diffuse_core.plugins.correction.solid_angle import SolidAngle


def tilted(pixel, size, flip=1):
    c, s = math.cos(0.6), math.sin(0.6)
    panel = Panel()
    panel.set_frame((c, 0, s), (0, -flip, 0), (-40, 25 * flip, -150))
    panel.set_pixel_size(pixel)
    panel.set_image_size(size)
    detector = Detector()
    detector.add_panel(panel)
    beam = BeamFactory.make_beam(sample_to_source=(0, 0, 1), wavelength=1.0)
    return Experiment(detector=detector, beam=beam)


def triangle(a, b, c):
    """Van Oosterom and Strackee (1983): solid angle of a triangle, from the origin."""
    la, lb, lc = np.linalg.norm(a), np.linalg.norm(b), np.linalg.norm(c)
    above = a @ np.cross(b, c)
    below = la * lb * lc + (a @ b) * lc + (b @ c) * la + (c @ a) * lb
    return abs(2 * math.atan2(above, below))


def exact(panel, fast, slow, n_fast=1, n_slow=1):
    corners = [
        np.array(panel.get_pixel_lab_coord((x, y)))
        for x, y in [
            (fast, slow),
            (fast + n_fast, slow),
            (fast + n_fast, slow + n_slow),
            (fast, slow + n_slow),
        ]
    ]
    a, b, c, d = corners
    return triangle(a, b, c) + triangle(a, c, d)


def test_every_pixel_is_the_exact_quadrilateral():
    experiment = tilted((0.2, 0.11), (30, 20))
    response = SolidAngle().panel_response(panel_geometry(experiment, 0, 0))
    assert response.shape == (20, 30)
    panel = experiment.detector[0]
    for slow, fast in [(0, 0), (19, 29), (7, 22), (19, 0)]:
        assert math.isclose(
            response[slow, fast], exact(panel, fast, slow), rel_tol=3e-6
        )


def test_sum_is_the_solid_angle_of_the_panel_whichever_way_its_normal_points():
    for flip in (1, -1):
        experiment = tilted((0.8, 0.5), (100, 90), flip)
        response = SolidAngle().panel_response(panel_geometry(experiment, 0, 0))
        whole = exact(experiment.detector[0], 0, 0, 100, 90)
        assert math.isclose(response.sum(dtype=float), whole, rel_tol=1e-5)
        assert response.min() > 0


@pytest.mark.parametrize("sample", [(0.0, 0.0, 0.0), (13.0, -21.0, 8.0)])
@pytest.mark.parametrize("turn", [0.0, 0.7])
def test_a_closed_box_around_the_sample_is_the_whole_sphere(sample, turn):
    """Six panels of 160 x 160 pixels, the sample anywhere in the box."""
    half, n = 80.0, 160
    c, s = math.cos(turn), math.sin(turn)
    rotation = np.array([[c, -s, 0], [s * 0.6, c * 0.6, -0.8], [s * 0.8, c * 0.8, 0.6]])
    detector = Detector()
    for axis in range(3):
        for side in (1, -1):
            normal, fast, slow = np.roll(np.eye(3), axis, axis=1)
            corner = half * (side * normal - fast - slow) - sample
            panel = Panel()
            panel.set_frame(
                tuple(rotation @ fast), tuple(rotation @ slow), tuple(rotation @ corner)
            )
            panel.set_pixel_size((2 * half / n, 2 * half / n))
            panel.set_image_size((n, n))
            detector.add_panel(panel)
    beam = BeamFactory.make_beam(sample_to_source=(0.2, 0.1, 1), wavelength=1.0)
    experiment = Experiment(detector=detector, beam=beam)
    total = sum(
        SolidAngle().panel_response(panel_geometry(experiment, 0, i)).sum(dtype=float)
        for i in range(6)
    )
    assert math.isclose(total, 4 * math.pi, rel_tol=1e-4)


def test_pixels_of_curved_and_tiled_detectors_are_exact_quadrilaterals(data_dir):
    for name, panels in (
        ("i23_p12m_thaumatin/dials/indexed.expt", (0, 11, 23)),
        ("thermolysin_cspad/dials/refined.expt", range(0, 64, 9)),
    ):
        experiment = load_experiments(str(data_dir / name), check_format=False)[0]
        for index in panels:
            panel = experiment.detector[index]
            panel.set_px_mm_strategy(SimplePxMmStrategy())
            response = SolidAngle().panel_response(panel_geometry(experiment, 0, index))
            n_fast, n_slow = panel.get_image_size()
            for x, y in [(0, 0), (n_fast - 1, n_slow - 1), (n_fast // 3, n_slow // 2)]:
                assert math.isclose(response[y, x], exact(panel, x, y), rel_tol=5e-6)
