"""Absorbers against dials.anvil_correction, and against the geometry of paths."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cctbx.eltbx import attenuation_coefficient
from dials.array_family import flex
from dials.command_line.anvil_correction import attenuation_correction
from dxtbx import flumpy
from dxtbx.model import Beam, Detector, Goniometer, Panel, Scan
from dxtbx.model.experiment_list import Experiment, ExperimentList
from iotbx.phil import parse
from scitbx import matrix

from diffuse_core.boundary import panel_geometry, pixel_positions
from diffuse_core.errors import ConfigError
from diffuse_core.materials import material
from diffuse_core.models import RunInputs
from diffuse_core.mount import mount_of
from diffuse_core.plugins.correction.absorber import PHIL, Absorber, Cylinder, Plate
from diffuse_core.plugins.masking.anvil import Anvil
from diffuse_core.testing import make_image, make_run

WAVELENGTH = 0.4859
ROTATION = (0.36, 0.48, -0.8, -0.8, 0.6, 0.0, 0.48, 0.64, 0.6)
SETTING = (0.0, 1.0, 0.0, -0.6, 0.0, 0.8, 0.8, 0.0, 0.6)


def experiment(**changes):
    panel = Panel()
    panel.set_frame((1, 0, 0.2), (0, -1, 0), (-80, 70, -120))
    panel.set_pixel_size((5, 5))
    panel.set_image_size((32, 30))
    detector = Detector()
    detector.add_panel(panel)
    goniometer = Goniometer((0.6, 0.0, 0.8), ROTATION, SETTING)
    scan = Scan((3, 12), (-40.0, 2.0))
    given = {
        "beam": Beam((0.1, 0.05, 1.0), WAVELENGTH),
        "detector": detector,
        "goniometer": goniometer,
        "scan": scan,
        **changes,
    }
    return Experiment(**given)


def model_of(text, *experiments):
    run = RunInputs(ExperimentList(experiments), None, (0,) * len(experiments))
    return Absorber.from_params(parse(PHIL).fetch(parse(text)).extract(), run)


def image(phi):
    return replace(make_image(), phi=phi)


ANVIL = """
plate {
  material = diamond
  thickness = 1.5925
  normal = 0 2 0.4
}
"""


@pytest.mark.parametrize("phi", [-31.0, 0.0, 25.0])
def test_anvils_are_those_of_dials(phi):
    scan = experiment()
    geometry = panel_geometry(scan, 0, 0)
    model = model_of(ANVIL, scan)
    s1 = pixel_positions(scan.detector[0]).reshape(-1, 3)
    s1 = s1 / np.linalg.norm(s1, axis=1, keepdims=True) / WAVELENGTH
    table = flex.reflection_table()
    table["s1"] = flumpy.vec_from_numpy(s1)
    table["xyzobs.mm.value"] = flex.vec3_double([(0, 0, math.radians(phi))] * len(s1))
    normal = np.array([0, 2, 0.4]) / math.hypot(2, 0.4)
    correction = attenuation_correction(scan, table, normal, 1.5925, 3.51)
    expected = np.maximum(1 / np.array(correction), 1e-6)
    assert expected.max() > 0.1
    response = model.image_response(image(phi), geometry)
    np.testing.assert_allclose(response.ravel(), expected, rtol=0, atol=1e-6)
    assert model.panel_response(geometry) == 1.0


def test_capillary_is_brute_force_ray_tracing():
    scan = experiment()
    geometry = panel_geometry(scan, 0, 0)
    model = model_of(
        """
        cylinder {
          material = silica
          inner_radius = 0.3
          outer_radius = 0.35
          axis = 0.2 1 0.1
          frame = laboratory
        }
        """,
        scan,
    )
    axis = np.array([0.2, 1.0, 0.1]) / np.linalg.norm([0.2, 1.0, 0.1])
    u = geometry.direction.astype(float).reshape(-1, 3)[::37]
    rays = np.vstack([u, -np.array(scan.beam.get_unit_s0())])
    t = np.linspace(0, 3, 300001)
    lengths = []
    for ray in rays:
        points = t[:, None] * ray
        radius = np.linalg.norm(points - (points @ axis)[:, None] * axis, axis=1)
        lengths.append(((radius > 0.3) & (radius < 0.35)).mean() * 3)
    mu = (
        0.220
        / 60.084
        * sum(
            n
            * mass
            * attenuation_coefficient.get_table(e).mu_rho_at_angstrom(WAVELENGTH)
            for e, n, mass in (("Si", 1, 28.086), ("O", 2, 15.999))
        )
    )
    expected = np.exp(-mu * (np.array(lengths[:-1]) + lengths[-1]))
    response = model.panel_response(geometry).ravel()[::37]
    np.testing.assert_allclose(response, expected, atol=2e-5)
    assert model.image_response(image(10.0), geometry) == 1.0


def test_one_plate_is_passed_on_its_own_side_only():
    scan = experiment(goniometer=None, scan=None)
    geometry = panel_geometry(scan, 0, 0)
    text = """
    plate {
      material = silicon
      thickness = 0.02
      normal = 1 0 -0.3
      both_sides = False
    }
    """
    response = model_of(text, scan).image_response(image(0.0), geometry)
    normal = np.array([1.0, 0.0, -0.3]) / math.hypot(1.0, 0.3)
    cosine = geometry.direction.astype(float) @ normal
    mu = material("silicon").attenuation(WAVELENGTH)
    out = np.where(cosine > 0, np.exp(-mu * 0.02 / np.maximum(cosine, 1e-9)), 1.0)
    assert (cosine > 0).any() and (cosine < -0.1).any()
    enters = -np.array(scan.beam.get_unit_s0()) @ normal
    entering = math.exp(-mu * 0.02 / enters) if enters > 0 else 1.0
    np.testing.assert_allclose(response, np.maximum(out * entering, 1e-6), rtol=1e-4)


def test_layers_multiply_and_axial_symmetry_needs_no_rotation():
    scan = experiment(goniometer=Goniometer((0.0, 1.0, 0.0)))
    geometry = panel_geometry(scan, 0, 0)
    wall = """
    cylinder {
      material = water
      outer_radius = 0.2
      axis = 0 1 0
    }
    """
    single = model_of(wall, scan)
    both = model_of(wall + wall.replace("water", "pmma"), scan)
    first = single.image_response(image(0.0), geometry)
    np.testing.assert_allclose(
        single.image_response(image(77.0), geometry), first, rtol=1e-6
    )
    other = model_of(wall.replace("water", "pmma"), scan)
    np.testing.assert_allclose(
        both.image_response(image(5.0), geometry),
        first * other.image_response(image(5.0), geometry),
        rtol=1e-6,
    )


def test_layers_may_be_built_by_hand():
    geometry = panel_geometry(experiment(), 0, 0)
    layers = [
        Plate(material("vacuum"), 1.0, (0.0, 0.0, 1.0)),
        Cylinder(material("vacuum"), 0.0, 1.0, (0.0, 1.0, 0.0), turns=False),
    ]
    model = Absorber(layers)
    np.testing.assert_array_equal(model.panel_response(geometry), 1.0)
    np.testing.assert_array_equal(model.image_response(image(3.0), geometry), 1.0)


def test_rotation_of_the_mount_is_that_of_dxtbx():
    scan = experiment()
    mount = mount_of(scan)
    axis = matrix.col(scan.goniometer.get_rotation_axis_datum())
    r = axis.axis_and_angle_as_r3_rotation_matrix(33.0, deg=True)
    expected = matrix.sqr(SETTING) * r * matrix.sqr(ROTATION)
    np.testing.assert_allclose(
        mount.rotation(33.0), np.array(expected.elems).reshape(3, 3), atol=1e-12
    )
    still = experiment(scan=Scan((1, 1), (33.0, 0.0)))
    np.testing.assert_allclose(
        mount_of(still).rotation(0.0), mount.rotation(33.0), atol=1e-12
    )
    assert mount_of(experiment(goniometer=None, scan=None)) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plate.material = diamond", "plate.thickness is missing"),
        ("plate {\n material = be\n thickness = 1\n normal = 0 0 0\n}", "no direction"),
        ("cylinder.material = water", "cylinder.outer_radius is missing"),
        (
            "cylinder {\n material = water\n inner_radius = 2\n outer_radius = 1\n}",
            "must not be below inner_radius = 2",
        ),
        ("plate.material = Si3N4", r"give correction\.absorber\.plate\.density"),
    ],
)
def test_impossible_layers_are_refused(text, expected):
    with pytest.raises(ConfigError, match=expected):
        model_of(text, experiment())


def test_nothing_given_is_said(caplog):
    with caplog.at_level(logging.WARNING, "dials.diffuse"):
        model = model_of("", experiment())
    assert "does nothing without a correction.absorber.plate" in caplog.text
    geometry = panel_geometry(experiment(), 0, 0)
    assert model.panel_response(geometry) == 1.0
    assert model.image_response(image(0.0), geometry) == 1.0


@pytest.mark.parametrize("phi", [0.0, 20.0, 60.0])
def test_mask_of_the_opening_keeps_what_the_cell_lets_through(phi):
    scan = experiment(goniometer=Goniometer((0.0, 1.0, 0.0)))
    geometry = panel_geometry(scan, 0, 0)
    mask = Anvil(np.array([0.0, 0.0, 1.0]), 35.0, {0: mount_of(scan)})
    keep = mask.image_mask(image(phi), geometry)
    a = math.radians(phi)
    normal = np.array([math.sin(a), 0.0, math.cos(a)])
    angles = np.degrees(np.arccos(np.minimum(abs(geometry.direction @ normal), 1.0)))
    beam = math.degrees(math.acos(abs(np.array(scan.beam.get_unit_s0()) @ normal)))
    assert beam < 35 or not keep.any()
    if beam < 35:
        np.testing.assert_array_equal(keep, angles <= 35)
        assert keep.any() and not keep.all()
    else:
        assert phi == 60.0


def test_mask_of_the_opening_reads_its_parameters():
    params = SimpleNamespace(normal=[0.0, 0.0, 0.0], half_opening=30.0)
    with pytest.raises(ConfigError, match="no direction"):
        Anvil.from_params(params, make_run())
    params.normal = [0.0, 0.0, -3.0]
    mask = Anvil.from_params(params, make_run())
    np.testing.assert_allclose(mask.normal, [0, 0, -1])
    assert set(mask.mounts) == {0, 1}
