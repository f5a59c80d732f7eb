"""Scaling components, each against made-up observations or another program's values."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core import boundary
from diffuse_core.directions import angles, frame_of, limits, rays
from diffuse_core.plugins.scaling.detector import DetectorScale
from diffuse_core.scaling import fit_scales
from diffuse_core.testing import make_experiments
from diffuse_core.testing.made_up import DISTANCE, PIXEL, SIZE, make_rows

PANEL = {
    "origin": [-SIZE * PIXEL / 2, -SIZE * PIXEL / 2, -DISTANCE],
    "fast": [1, 0, 0],
    "slow": [0, 1, 0],
    "pixel": [PIXEL, PIXEL],
    "size": [SIZE, SIZE],
}
FRAMES = [{"s0": [0, 0, -1.0], "panels": [PANEL]}]


def relative(found, true):
    """Relative rms difference, the level free."""
    ratio = found / true
    return float(np.std(ratio / ratio.mean()))


@pytest.mark.parametrize("panel", [0, 1])
def test_rays_and_angles_are_those_of_dxtbx(panel):
    experiment = make_experiments()[0]
    frame = frame_of(experiment)
    rng = np.random.default_rng(1)
    size = experiment.detector[panel].get_image_size()
    x, y = rng.uniform(0, size[0], 20), rng.uniform(0, size[1], 20)
    zero, which = np.zeros(20, int), np.full(20, panel)
    place = np.column_stack([x, y]) * experiment.detector[panel].get_pixel_size()
    expected = np.array([experiment.detector[panel].get_lab_coord(p) for p in place])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = rays([frame], zero, which, x, y)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    across = angles([frame], zero, which, x, y)
    beam = np.array(experiment.beam.get_unit_s0())
    two_theta = np.degrees(np.arccos(expected @ beam))
    np.testing.assert_allclose(np.linalg.norm(across, axis=1), two_theta, atol=1e-5)
    for (low, high), column in zip(limits(frame), across.T, strict=True):
        assert low <= column.min() and column.max() <= high
    assert boundary.panel_geometry(experiment, 0, panel).shape == size[::-1]


def test_smooth_detector_is_found():
    """A sensitivity that varies by 20 % across the detector, the same at all angles.

    It is odd in x: a part that depends on |s| alone is one with the intensities.
    """

    def path(source, x, y, phi):
        u, v = 2 * x / SIZE - 1, 2 * y / SIZE - 1
        return 1.0 + 0.2 * np.sin(4 * u) * np.cos(3 * v)

    made = make_rows(100.0, cell=(55.0, 60.0, 65.0), d_min=2.5, path=path)
    component = DetectorScale(
        [[(SIZE, SIZE)]], [0], smoothness=0.1, frames=FRAMES, intervals=(8, 8)
    )
    model = fit_scales(made.rows, made.sources, [("detector", component)]).model
    found = model.evaluate(made.rows).path
    print("G(x, y) rms", relative(found, made.path), made.path.std())
    assert made.path.std() > 0.08
    assert relative(found, made.path) < 0.01
