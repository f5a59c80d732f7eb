"""Shadows: against rays through the body, and against dxtbx for a real goniometer."""

from __future__ import annotations

import logging
import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.spatial.transform import Rotation

from dxtbx.model import GoniometerFactory
from iotbx.phil import parse
from scitbx.array_family import flex

from diffuse_core import config
from diffuse_core.boundary import image_of, panel_geometry, setups_of
from diffuse_core.compat import load_experiments
from diffuse_core.errors import ConfigError
from diffuse_core.models import RunInputs
from diffuse_core.plugins.masking import shadow
from diffuse_core.plugins.masking.shadow import Shadow
from diffuse_core.registry import Registry
from diffuse_core.testing import check_plugin, make_geometry, make_image, make_run

BODY = "3 -14 -30  14 -13 -28  4 4 -33  12 3 -25  9 -5 -20"
"""Corners between the sample and the panels of `make_geometry`, mm."""


@pytest.fixture(scope="module")
def scope():
    return config.master_scope(Registry.discover({}), (), ("mask",))


def model_of(scope, run, text):
    params = scope.fetch(parse(f"mask.shadow {{ {text} }}")).extract().mask.shadow
    return Shadow.from_params(params, run)


def rays_blocked(corners, geometry):
    """(n_slow, n_fast) bool: the ray to a pixel is a positive sum of corners."""
    corners = np.asarray(corners, float)
    corners = corners / np.linalg.norm(corners, axis=1)[:, None]
    rays = geometry.direction.reshape(-1, 3).astype(float)
    rest = np.array([nnls(corners.T, ray)[1] for ray in rays])
    return (rest < 1e-6).reshape(geometry.shape)


def turned(axes, angles, first):
    corners = np.array(BODY.split(), float).reshape(-1, 3)
    for axis, angle in list(zip(axes, angles, strict=True))[first:]:
        corners = Rotation.from_rotvec(np.radians(angle) * np.array(axis)).apply(
            corners
        )
    return corners


def with_axes(axes, angles, scan_axis):
    run = make_run()
    goniometer = GoniometerFactory.make_multi_axis_goniometer(
        flex.vec3_double(axes),
        flex.double(angles),
        flex.std_string([f"a{i}" for i in range(len(axes))]),
        scan_axis,
    )
    run.experiments[0].goniometer = goniometer
    return run


AXES = [(0.0, 0.6, 0.8), (0.6, 0.8, 0.0), (1.0, 0.0, 0.0)]


@pytest.mark.parametrize("carrier", [0, 1, 2, None])
def test_shadow_of_a_body_is_where_its_rays_end(scope, carrier):
    """A body on each axis of three, the outermost turning: rays, pixel by pixel."""
    angles = [8.0, -11.0, 0.0]
    run = with_axes(AXES, angles, 2)
    model = model_of(scope, run, f"shape {{ points = {BODY}\n axis = {carrier} }}")
    image = replace(make_image(0), phi=17.0, width=0.0)
    corners = turned(AXES, [8.0, -11.0, 17.0], 3 if carrier is None else carrier)
    dark = 0
    for panel in (0, 1):
        geometry = make_geometry(panel)
        keep = model.image_mask(image, geometry)
        blocked = rays_blocked(corners, geometry)
        differ = (keep == blocked).sum()
        assert differ <= 0.02 * keep.size
        dark += blocked.sum()
    assert dark > 100


def test_a_single_axis_carries_a_body_and_both_ends_of_an_image_count(scope):
    run = make_run()
    model = model_of(scope, run, f"shape {{ points = {BODY}\n axis = 0 }}")
    image = replace(make_image(0), phi=5.0, width=10.0)
    axis = [run.experiments[0].goniometer.get_rotation_axis()]
    geometry = make_geometry(0)
    keep = model.image_mask(image, geometry)
    blocked = [rays_blocked(turned(axis, [phi], 0), geometry) for phi in (0.0, 10.0)]
    assert (blocked[0] != blocked[1]).sum() > 20
    assert (keep == (blocked[0] | blocked[1])).sum() <= 0.03 * keep.size


def test_a_still_has_shadows_that_do_not_move(scope):
    model = model_of(scope, make_run(), f"shape {{ points = {BODY} }}")
    geometry = make_geometry(0)
    keep = model.image_mask(make_image(still=True), geometry)
    blocked = rays_blocked(turned([], [], 0), geometry)
    assert 0 < (~keep).sum()
    assert (keep == blocked).sum() <= 0.02 * keep.size


def test_the_format_of_the_images_knows_its_goniometer(data_dir, scope):
    """I23, P12M: the mask is dxtbx' own, also where shadowing was turned off."""
    path = str(data_dir / "i23_p12m_thaumatin/dials/indexed.expt")
    experiments = load_experiments(path, check_format=True)
    run = RunInputs(experiments, None, setups_of(experiments))
    images, detector = experiments[0].imageset, experiments[0].detector
    images.params()["dynamic_shadowing"] = "False"
    model = model_of(scope, run, "")
    again = pickle.loads(pickle.dumps(model))
    image = replace(image_of(experiments[0], 0, 0), phi=1.0, width=2.0)
    expected = [images.masker().get_mask(detector, angle) for angle in (0.0, 2.0)]
    dark = 0
    for index in (0, 2, 4, 6, 23):
        geometry = panel_geometry(experiments[0], 0, index)
        both = np.logical_and(*(e[index].as_numpy_array() for e in expected))
        np.testing.assert_array_equal(model.image_mask(image, geometry), both)
        np.testing.assert_array_equal(again.image_mask(image, geometry), both)
        dark += (~both).sum()
    assert dark > 100_000


@pytest.mark.parametrize(
    "text",
    [
        "goniometer = mini_kappa",
        "goniometer = smargon",
        "goniometer = dls_i23_kappa",
        "goniometer = diamond_anvil_cell\n cone_opening_angle = 70",
    ],
)
def test_goniometers_of_dials_are_those_of_dials(scope, text):
    from dxtbx.masking import GoniometerMaskerFactory

    run = with_axes(AXES, [0.0, 20.0, 0.0], 2)
    model = model_of(scope, run, text)
    goniometer = run.experiments[0].goniometer
    name = text.split()[2]
    more = (np.radians(70),) if "cone" in text else ()
    masker = getattr(GoniometerMaskerFactory, name)(goniometer, *more)
    image = replace(make_image(0), phi=30.0, width=0.0)
    expected = masker.get_mask(run.experiments[0].detector, 30.0)
    for panel in (0, 1):
        found = model.image_mask(image, make_geometry(panel))
        np.testing.assert_array_equal(found, expected[panel].as_numpy_array())


def test_nothing_known_is_said_and_leaves_everything(scope, caplog):
    with caplog.at_level(logging.WARNING, "dials.diffuse"):
        model = model_of(scope, make_run(), "")
    assert "mask.shadow.shape" in caplog.text
    assert model.image_mask(make_image(0), make_geometry(0)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("goniometer = smargon", "needs a goniometer of several axes"),
        (f"shape {{ points = {BODY}\n axis = 1 }}", r"axis=1: .* has 1"),
        ("shape { points = 1 2 3 4 }", "has 4 numbers"),
    ],
)
def test_what_can_not_be_is_refused(scope, text, message):
    with pytest.raises(ConfigError, match=message):
        model_of(scope, make_run(), text)


def test_mini_kappa_and_anvil_need_what_they_need(scope):
    run = with_axes(AXES[:2], [0.0, 0.0], 1)
    with pytest.raises(ConfigError, match="three axes"):
        model_of(scope, run, "goniometer = mini_kappa")
    with pytest.raises(ConfigError, match="cone_opening_angle"):
        model_of(scope, run, "goniometer = diamond_anvil_cell")


def test_contract():
    check_plugin(shadow)
    text = f"shape {{ points = {BODY}\n axis = 0 }}"
    check_plugin(shadow, phil={"shadow": text})
