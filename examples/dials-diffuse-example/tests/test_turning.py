"""The optical depth of the turning window, from symmetry mates alone."""

from __future__ import annotations

import numpy as np
import pytest
from dials_diffuse_example.turning import TurningWindow

from diffuse_core.plugins.scaling.smooth_scale import SmoothScale
from diffuse_core.scaling import fit_scales
from diffuse_core.testing.made_up import DISTANCE, PIXEL, SIZE, make_rows

PANEL = {
    "origin": [-SIZE * PIXEL / 2, -SIZE * PIXEL / 2, -DISTANCE],
    "fast": [1, 0, 0],
    "slow": [0, 1, 0],
    "pixel": [PIXEL, PIXEL],
    "size": [SIZE, SIZE],
}
FRAMES = [{"s0": [0, 0, -1.0], "panels": [PANEL]}]
MOUNT = {"fixed": np.eye(3), "setting": np.eye(3), "axis": [1.0, 0.0, 0.0]}
DEPTH = 0.3


def transmission(source, x, y, phi):
    """exp(-T / cos a) where the window turns about x, its normal along -z at 0."""
    ray = np.stack([(x - SIZE / 2) * PIXEL, (y - SIZE / 2) * PIXEL, 0 * x - DISTANCE])
    ray /= np.linalg.norm(ray, axis=0)
    angle = np.radians(phi)
    cosine = ray[1] * np.sin(angle) - ray[2] * np.cos(angle)
    return np.exp(-DEPTH / np.abs(cosine))


def test_the_depth_of_a_window_is_found():
    made = make_rows(
        50.0, cell=(50, 55, 60), d_min=2.5, scans=((-40.0, 40.0),), path=transmission
    )
    window = TurningWindow(FRAMES, [0], [MOUNT])
    components = [("b", SmoothScale(10.0, 0.1)), ("window", window)]
    model = fit_scales(made.rows, made.sources, components).model
    (depth,) = model.components[1].parameters
    assert depth == pytest.approx(DEPTH, abs=0.02)
    scales = model.evaluate(made.rows)
    ratio = scales.crystal * scales.path / made.path
    assert np.std(ratio / ratio.mean()) < 0.02
