"""A goniometer whose setting rotation varies along the scan, against DIALS."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from dials.algorithms.spot_prediction import ScanVaryingReflectionPredictor
from dials.array_family import flex
from dxtbx.model import (
    Beam,
    Crystal,
    Detector,
    Experiment,
    ExperimentList,
    Goniometer,
    Panel,
    Scan,
)
from scitbx import matrix

from diffuse_core.boundary import hkl_at, image_of
from diffuse_core.materials import material
from diffuse_core.models import RunInputs
from diffuse_core.mount import mount_of
from diffuse_core.plugins.correction.absorber import Absorber, Plate
from diffuse_core.plugins.mapping.lab_grid import LabGrid
from diffuse_core.testing import make_geometry

N = 20
WIDTH = 0.5
DRIFT = 2.0
"""deg, over the scan."""
FIXED = (0.36, 0.48, -0.8, -0.8, 0.6, 0.0, 0.48, 0.64, 0.6)
SETTING = (0.0, 1.0, 0.0, -0.6, 0.0, 0.8, 0.8, 0.0, 0.6)


def setting_at(z):
    """The setting rotation at z images into the scan."""
    axis = matrix.col((0.2, -0.5, 0.7)).normalize()
    turn = axis.axis_and_angle_as_r3_rotation_matrix(DRIFT * z / N, deg=True)
    return tuple(turn * matrix.sqr(SETTING))


def make_experiment(setting=None):
    """One sweep; the setting drifts unless a fixed one is given."""
    panel = Panel()
    panel.set_frame((1, 0, 0), (0, -1, 0), (-60, 50, -90))
    panel.set_pixel_size((0.2, 0.2))
    panel.set_image_size((600, 500))
    detector = Detector()
    detector.add_panel(panel)
    goniometer = Goniometer((0.28, 0.96, 0.0), FIXED, setting or SETTING)
    crystal = Crystal((21, 2, 0), (0, 27, 3), (-4, 0, 33), "P1")
    if setting is None:
        goniometer.set_setting_rotation_at_scan_points(
            [setting_at(z) for z in range(N + 1)]
        )
    return Experiment(
        beam=Beam((0.02, 0.05, 1.0), 1.1),
        detector=detector,
        goniometer=goniometer,
        scan=Scan((3, 2 + N), (-40.0, WIDTH)),
        crystal=crystal,
    )


@pytest.fixture(scope="module")
def predicted():
    """The sweep and (hkl, panel, x, y, z; s1) as DIALS predicts them."""
    experiment = make_experiment()
    predictor = ScanVaryingReflectionPredictor(experiment, dmin=2.0)
    table = predictor.for_varying_models(
        flex.mat3_double([experiment.crystal.get_A()] * (N + 1)),
        flex.vec3_double([experiment.beam.get_s0()] * (N + 1)),
        flex.mat3_double([setting_at(z) for z in range(N + 1)]),
    )
    assert len(table) > 100
    return experiment, table


def test_predictions_are_recovered(predicted):
    experiment, table = predicted
    for hkl, panel, xyz in zip(
        table["miller_index"], table["panel"], table["xyzcal.px"], strict=True
    ):
        assert hkl_at(experiment, panel, xyz) == pytest.approx(hkl, abs=0.01)


def test_lab_grid_turns_back_by_the_setting_of_the_image(predicted):
    experiment, table = predicted
    run = RunInputs(ExperimentList([experiment]), None, (0,))
    params = SimpleNamespace(step=0.001, frame="goniometer", oversample=(1, 1, 1))
    mapper = LabGrid.from_params(params, run)
    a = np.reshape(experiment.crystal.get_A(), (3, 3))
    s0 = np.array(experiment.beam.get_s0())
    errors, steps = [], []
    for hkl, s1, xyz in zip(
        table["miller_index"], table["s1"], table["xyzcal.px"], strict=True
    ):
        z = xyz[2] - experiment.scan.get_array_range()[0]
        image = image_of(experiment, 0, int(z), (z - int(z), 1.0))
        affine = mapper.affine(image)
        found = 0.001 * (affine[:, :3] @ (np.array(s1) - s0) + affine[:, 3])
        errors.append(np.abs(found - a @ hkl).max())
        steps.append(np.linalg.norm(a @ hkl) * np.radians(DRIFT))
    assert max(errors) < 2e-4
    assert max(steps) > 0.01


@pytest.mark.parametrize("index", [0, 7, N - 1])
def test_absorbers_turn_with_the_setting_of_the_image(index):
    image = image_of(make_experiment(), 0, index)
    plate = Plate(material("diamond"), 1.5, (0.0, 0.6, 0.8))
    still_there = mount_of(make_experiment(setting_at(index + 0.5)))
    models = [
        Absorber([plate], {0: mount})
        for mount in (mount_of(make_experiment()), still_there)
    ]
    varying, fixed = (m.image_response(image, make_geometry()) for m in models)
    np.testing.assert_allclose(varying, fixed, rtol=1e-4)
    unchanged = Absorber([plate], {0: mount_of(make_experiment(SETTING))})
    apart = unchanged.image_response(image, make_geometry()) / fixed - 1
    if index:
        assert np.abs(apart).max() > 1e-3
