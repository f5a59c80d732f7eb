"""Masks resolution, untrusted and file against DIALS' generate_mask."""

from __future__ import annotations

import bz2
import copy
import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from dials.array_family import flex
from dials.util.masking import generate_mask, phil_scope
from iotbx.phil import parse

from diffuse_core import config
from diffuse_core.boundary import panel_geometry, setups_of
from diffuse_core.compat import load_experiments
from diffuse_core.errors import ConfigError, InputError
from diffuse_core.io.masks import read_mask
from diffuse_core.models import RunInputs
from diffuse_core.plugins.masking.mask_file import MaskFile
from diffuse_core.plugins.masking.resolution import Resolution
from diffuse_core.plugins.masking.untrusted import Untrusted
from diffuse_core.registry import Registry

AREAS = """
border = 3
untrusted {
  panel = 0
  circle = 90 30 11
}
untrusted {
  panel = 1
  rectangle = 10 60 100 130
}
untrusted {
  panel = 1
  polygon = 100 100 150 110 140 140 110 150
}
untrusted {
  panel = 2
  pixel = 41 7
}
untrusted {
  panel = 5
}
"""
RESOLUTION = """
d_min = 2.6
d_max = 19
resolution_range = 3.4 3.9
resolution_range = 5.5 5.1
ice_rings.filter = True
ice_rings.width = 0.004
"""


@pytest.fixture(scope="module")
def run(data_dir):
    path = data_dir / "thermolysin_cspad/dials/refined.expt"
    experiments = load_experiments(str(path), check_format=False)
    return RunInputs(experiments, None, setups_of(experiments))


@pytest.fixture(scope="module")
def scope():
    return config.master_scope(Registry.discover({}), (), ("mask",))


def scope_of(scope, name, text):
    """The extracted scope of one mask, with the user's text inside."""
    working = scope.fetch(parse(f"mask.{name} {{\n{text}\n}}"))
    return getattr(working.extract().mask, name)


def assert_masks_are_equal(model, run, expected, at_edges=0):
    left_out = 0
    for index, mask in enumerate(expected):
        geometry = panel_geometry(run.experiments[0], 0, index)
        found = model.panel_mask(geometry)
        assert found.dtype == bool
        assert (found != mask.as_numpy_array()).sum() <= at_edges
        left_out += (~found).sum()
    assert 0.02 < left_out / (64 * 194 * 185) < 0.98


@pytest.mark.parametrize("text", [AREAS, RESOLUTION])
def test_untrusted_is_the_mask_of_dials(run, scope, text):
    model = Untrusted.from_params(scope_of(scope, "untrusted", text), run)
    params = phil_scope.fetch(parse(text)).extract()
    expected = generate_mask(run.experiments[0].imageset, params)
    assert_masks_are_equal(model, run, expected)


def test_resolution_is_the_mask_of_dials(run, scope):
    text = RESOLUTION.replace("resolution_range", "range")
    model = Resolution.from_params(scope_of(scope, "resolution", text), run)
    params = phil_scope.fetch(parse(RESOLUTION)).extract()
    expected = generate_mask(run.experiments[0].imageset, params)
    assert_masks_are_equal(model, run, expected, at_edges=2)


def test_rings_of_ice_reach_the_corner_of_the_detector(run, scope):
    model = Resolution.from_params(
        scope_of(scope, "resolution", "ice_rings.filter = True"), run
    )
    found = np.array(model.ranges)
    hexagonal_ice = np.array([3.895, 3.669, 3.441, 2.671, 2.249, 2.072])
    centre = np.mean(1 / found**2, axis=1) ** -0.5
    for d in hexagonal_ice:
        assert np.abs(centre - d).min() < 0.01
    corner = run.experiments[0].detector.get_max_resolution(
        run.experiments[0].beam.get_s0()
    )
    assert corner < centre.min() < corner + 0.06
    np.testing.assert_allclose(1 / found[:, 0] ** 2 - 1 / found[:, 1] ** 2, 0.002)


def test_resolution_limits_are_limits_of_d():
    s = np.array([[0.0, 0.1, 0.2, 0.25, 0.4, 0.6]], np.float32)
    geometry = SimpleNamespace(s_norm=s, shape=s.shape)
    assert Resolution(2, 8).panel_mask(geometry).tolist() == [
        [False, False, True, True, True, False]
    ]
    assert Resolution(ranges=[(4.5, 3.5)]).panel_mask(geometry).tolist() == [
        [True, True, True, False, True, True]
    ]
    assert Resolution(d_max=20).panel_mask(geometry).tolist() == [[False] + [True] * 5]


def test_masks_do_nothing_by_default(run, scope):
    geometry = panel_geometry(run.experiments[0], 0, 0)
    for params in (scope.extract().mask, scope.fetch(parse("")).extract().mask):
        for model, name in (
            (Untrusted, "untrusted"),
            (Resolution, "resolution"),
            (MaskFile, "file"),
        ):
            params_ = copy.deepcopy(getattr(params, name))
            assert model.from_params(params_, run).panel_mask(geometry) is None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("untrusted", "d_min=3\nd_max=2", r"mask\.untrusted\.d_min = 3"),
        ("untrusted", "border=-1", "border"),
        ("untrusted", "untrusted {\npanel=64\n}", "panels 0 to 63"),
        ("untrusted", "untrusted {\npixel=3 3\n}", "which panel"),
        ("resolution", "d_min=3\nd_max=2", r"mask\.resolution\.d_min = 3"),
        ("resolution", "ice_rings.filter=True\nice_rings.width=1", "width = 1"),
    ],
)
def test_unusable_parameters_are_refused(run, scope, name, text, message):
    model = {"untrusted": Untrusted, "resolution": Resolution}[name]
    with pytest.raises(ConfigError, match=message):
        model.from_params(scope_of(scope, name, text), run)


def test_what_only_dials_refuses_becomes_one_sentence(run, scope):
    text = "untrusted {\npanel=0\npolygon=1 2 3\n}"
    model = Untrusted.from_params(scope_of(scope, "untrusted", text), run)
    with pytest.raises(ConfigError, match=r"mask\.untrusted"):
        model.panel_mask(panel_geometry(run.experiments[0], 0, 0))


# ---------------------------------------------------------------- mask files


def detector_of(*shapes):
    return [SimpleNamespace(get_image_size=lambda s=s: s[::-1]) for s in shapes]


def run_with(*shapes):
    experiment = SimpleNamespace(detector=detector_of(*shapes))
    return RunInputs([experiment], None, (0,))


def flex_mask(array):
    return flex.bool(np.ascontiguousarray(array))


def write(path, content):
    path.write_bytes(pickle.dumps(content))
    return str(path)


def test_masks_of_several_files_are_combined(tmp_path, scope):
    rng = np.random.default_rng(3)
    shapes = [(4, 6), (5, 3)]
    first, second = ([rng.random(s) > 0.4 for s in shapes] for _ in range(2))
    one = write(tmp_path / "one.mask", tuple(flex_mask(m) for m in first))
    two = write(tmp_path / "two.mask", [flex_mask(m) for m in second])
    params = scope_of(scope, "file", f"path = {one}\npath = {two}")
    model = MaskFile.from_params(params, run_with(*shapes))
    for index in range(2):
        found = model.panel_mask(SimpleNamespace(index=index))
        np.testing.assert_array_equal(found, first[index] & second[index])


def test_single_array_is_the_mask_of_a_single_panel(tmp_path):
    mask = np.arange(12).reshape(3, 4) % 5 > 0
    path = write(tmp_path / "single.mask", flex_mask(mask))
    model = MaskFile.from_params(SimpleNamespace(path=[path]), run_with((3, 4)))
    np.testing.assert_array_equal(model.panel_mask(SimpleNamespace(index=0)), mask)


def test_mask_of_an_old_python_is_read(data_dir, tmp_path):
    packed = data_dir / "lcls_rayonix_kapton/mask_rayonix340mx_4x4.pickle.bz2"
    path = tmp_path / "rayonix.pickle"
    path.write_bytes(bz2.decompress(packed.read_bytes()))
    (mask,) = read_mask(str(path))
    assert mask.shape == (1920, 1920)
    assert 0.3 < mask.mean() < 1


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(3, 4), (3, 4)], "1 panels, but the detector has 2"),
        ([(4, 3)], r"Panel 0 of .* has the shape \(3, 4\)"),
    ],
)
def test_mask_of_another_detector_is_refused(tmp_path, shapes, message):
    path = write(tmp_path / "other.mask", (flex_mask(np.ones((3, 4), bool)),))
    with pytest.raises(InputError, match=message):
        MaskFile.from_params(SimpleNamespace(path=[path]), run_with(*shapes))


class Dangerous:
    def __reduce__(self):
        return (math.sqrt, (2,))


@pytest.mark.parametrize("content", [Dangerous(), {"a": 1}, (flex.bool(3),), ([1],)])
def test_other_pickles_are_refused_and_not_run(tmp_path, content):
    with pytest.raises(InputError, match=r"other\.mask.*dials\.generate_mask"):
        read_mask(write(tmp_path / "other.mask", content))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.mask can't be read"):
        read_mask(str(tmp_path / "absent.mask"))
    text = tmp_path / "text.mask"
    text.write_text("not a pickle")
    with pytest.raises(InputError, match=r"text\.mask isn't a mask file"):
        read_mask(str(text))
