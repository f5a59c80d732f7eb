"""Solid angle against the exact one of spherical polygons."""

from __future__ import annotations

import math

import numpy as np

from dials.array_family import flex  # noqa: F401
from dxtbx.model import BeamFactory, Detector, Panel
from dxtbx.model.experiment_list import Experiment

from diffuse_core.boundary import panel_geometry
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
