"""dials.diffuse_show: figures, pictures, messages."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from dials.util import Sorry

from diffuse_core import show
from diffuse_core.boundary import panel_geometry
from diffuse_core.command_line import diffuse_show
from diffuse_core.compat import load_experiments
from diffuse_core.plugins.background.constant import Constant
from diffuse_core.plugins.correction.solid_angle import SolidAngle
from diffuse_core.report.detector import seen_from_sample, write_detector
from diffuse_core.simulate import recipe, run_simulation
from diffuse_core.testing import make_geometry, make_image


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    text = recipe("multipanel_small") + "\nscan.n_images = 3\n"
    return run_simulation(text, tmp_path_factory.mktemp("show"))


@pytest.fixture
def shown(simulated, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*more):
        diffuse_show.run([str(simulated.expt_path), str(simulated.refl_path), *more])
        return json.loads((tmp_path / "dials.diffuse_show.json").read_text())

    return run


def test_corrections_of_all_panels_and_their_product(shown, simulated, tmp_path):
    figures = shown("kind=correction")
    assert figures["unit"] == "response"
    assert figures["image"] == 2
    names = [model["name"] for model in figures["models"]]
    assert names[-1] == "product"
    assert "solid_angle" in names
    model = figures["models"][names.index("solid_angle")]
    (experiment,) = load_experiments(str(simulated.expt_path), check_format=False)
    for index, panel in enumerate(model["panels"]):
        geometry = panel_geometry(experiment, 0, index)
        expected = SolidAngle().panel_response(geometry)
        assert panel["min"] == pytest.approx(expected.min(), rel=1e-6)
        assert panel["median"] == pytest.approx(np.median(expected), rel=1e-6)
        assert panel["max"] == pytest.approx(expected.max(), rel=1e-6)
    assert model["min"] == min(panel["min"] for panel in model["panels"])
    picture = imread(tmp_path / "diffuse_pictures" / "correction.png")
    assert picture.shape[0] > 500
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 100


def test_masks_tell_the_share_that_is_kept(shown, tmp_path):
    figures = shown("kind=mask", "mask.untrusted.border=10", "show.image=1")
    models = {model["name"]: model for model in figures["models"]}
    assert figures["image"] == 1
    border = 1 - (96 - 20) * (192 - 20) / (96 * 192)
    assert models["untrusted"]["mean"] == pytest.approx(1 - border)
    assert 0.8 < models["bragg"]["mean"] < 1
    shares = [model["mean"] for name, model in models.items() if name != "all masks"]
    assert models["all masks"]["mean"] <= min(shares)
    assert "image format" in models
    assert (tmp_path / "diffuse_pictures" / "mask.png").is_file()


def test_backgrounds_are_counts_per_second(shown, tmp_path):
    figures = shown(
        "kind=background",
        "background.models=constant",
        "background.constant.rate=0.25",
        "output.pictures=None",
    )
    for model in figures["models"]:
        assert model["min"] == model["max"] == 0.25
    assert [model["name"] for model in figures["models"]] == ["constant", "sum"]
    assert not (tmp_path / "diffuse_pictures").exists()


def test_table_is_in_the_log(shown, tmp_path):
    shown("kind=correction", "correction.models=solid_angle", "pictures=None")
    log = (tmp_path / "dials.diffuse_show.log").read_text()
    assert "solid_angle" in log
    assert "median" in log


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["image=9"], "has images 1 to 3"),
        (["experiment=4"], "there are 1 experiments"),
        (["kind=background"], "No background model is selected"),
    ],
)
def test_what_can_not_be_shown_is_said(shown, arguments, message):
    with pytest.raises(Sorry, match=message):
        shown(*arguments)


def test_sums_and_products_are_those_of_the_models():
    panels = [make_geometry(0), make_geometry(1)]
    responses = [np.full(p.shape, 0.5, np.float32) for p in panels]
    found = show.backgrounds(
        [("a", Constant(2.0, 0.0)), ("b", Constant(0.5, 0.0))],
        panels,
        make_image(0),
        responses,
    )
    assert [one.name for one in found] == ["a", "b", "sum"]
    assert show.figures(found[-1])["median"] == 2.5
    assert show.figures(found[0], [1])["max"] == 2.0


def test_detector_is_seen_from_the_sample_along_the_beam():
    panel = make_geometry(0)
    x, y = seen_from_sample(panel)
    np.testing.assert_allclose(np.hypot(x, y), panel.two_theta, atol=1e-3)
    right = panel.direction @ np.array([1.0, 0.0, 0.0])
    up = panel.direction @ np.array([0.0, 1.0, 0.0])
    np.testing.assert_array_equal(x > 0, right > 0)
    np.testing.assert_allclose(np.arctan2(y, x), np.arctan2(up, right), atol=1e-5)
    beam = replace(panel.beam, s0=(0.0, -1.0, 0.0))
    assert np.isfinite(seen_from_sample(replace(panel, beam=beam))).all()


def test_pictures_of_flat_and_unknown_values_are_drawn(tmp_path):
    panels = [make_geometry(0), make_geometry(1)]
    flat = [np.ones(p.shape) for p in panels]
    unknown = [np.full(p.shape, np.nan) for p in panels]
    path = tmp_path / "new" / "picture.png"
    write_detector(path, ["flat", "unknown"], [flat, unknown], panels, "response")
    assert imread(path).ndim == 3
