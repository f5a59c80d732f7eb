"""A model that DIALS makes from simulated images, scaled to images of other flux."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from dials.algorithms.background.gmodel import StaticBackgroundModel
from dials.array_family import flex

from diffuse_core import boundary
from diffuse_core.compat import load_experiments
from diffuse_core.errors import InputError
from diffuse_core.models import RunInputs
from diffuse_core.plan import ImageSource, make_blocks
from diffuse_core.plugins.background import dials_model
from diffuse_core.simulate import run_simulation
from diffuse_core.simulate.phil import read_recipe
from diffuse_core.simulate.simulation import Simulation
from diffuse_core.testing import check_plugin, make_image, make_run

SCALES = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.4, 1.3, 1.2, 1.1, 1.0, 0.9)
RECIPE = f"""
detector {{ name = test_small
           distance = 60 }}
scan {{ n_images = {len(SCALES)}
       exposure = 2 }}
crystal.unit_cell = 20 25 30 90 90 90
diffuse {{ halo.amplitude = 0
          cloud.amplitude = 0
          spherical {{ amplitude = 4e5
                      constant = 2e5
                      ring.height = 0 }} }}
scale.values = {" ".join(map(str, SCALES))}
bragg {{ amplitude = 20
        width = 1e-3 }}
nproc = 2
"""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    result = run_simulation(RECIPE, tmp_path_factory.mktemp("simulated"))
    experiments = load_experiments(str(result.expt_path), check_format=True)
    return RunInputs(experiments, None, (0,))


def write(path, panels):
    model = StaticBackgroundModel()
    for panel in panels:
        model.add(flex.double(np.ascontiguousarray(panel, float)))
    path.write_bytes(pickle.dumps(model, protocol=pickle.HIGHEST_PROTOCOL))
    return str(path)


@pytest.fixture(scope="module")
def model_file(simulated, tmp_path_factory):
    """What dials.model_background does, without its pictures."""
    from dials.algorithms.background.modeller import BackgroundModeller
    from dials.command_line.model_background import phil_scope

    params = phil_scope.extract()
    experiments = simulated.experiments
    predicted = flex.reflection_table.from_predictions_multi(experiments)
    (made,) = BackgroundModeller(experiments, predicted, params).compute()
    path = tmp_path_factory.mktemp("model") / "background.pickle"
    return write(path, [made.model.as_numpy_array()])


def exposures(run):
    (block,) = make_blocks(run.experiments, [0], len(SCALES))
    return [exposure.image for exposure in ImageSource(run, 1).exposures(block)]


def test_scaled_model_is_the_smooth_part_of_each_image(simulated, model_file):
    """Scales follow those of the simulation; the smooth part is right where the model
    of DIALS is, under the Bragg peaks that raise the mean of an image."""
    params, _ = read_recipe(RECIPE + "bragg.enable = False\n")
    clean = Simulation(params)
    model = dials_model.DialsModel(dials_model.read_model(model_file), simulated)
    geometry = boundary.panel_geometry(simulated.experiments[0], 0, 0)
    ratios = []
    for image in exposures(simulated):
        mean, variance = model.image_background(image, geometry, None)
        expected = clean.expected_counts(image.index)[0]
        use = image.usable[0]
        found = image.exposure * mean[use]
        ratios.append(found.sum() / expected[use].sum())
        assert np.median(np.abs(found / expected[use] - 1)) < 0.05
        assert (variance[use] > 0).all()
        assert image.counts[0][use].sum() > 1.05 * expected[use].sum()
    assert ratios == pytest.approx([1.0] * len(ratios), abs=0.02)
    assert np.std(ratios) < 0.01


def test_scale_is_that_of_the_counts(tmp_path):
    """An exact model: the scale within its error, gain and pedestal, masked pixels."""
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.1, 0.5, (36, 48))
    path = write(tmp_path / "background.pickle", [truth])
    run = make_run()
    experiment = run.experiments[0]
    detector = type(experiment.detector)()
    detector.add_panel(experiment.detector[0])
    detector[0].set_gain(2.0)
    detector[0].set_pedestal(5.0)
    experiment.detector = detector
    model = dials_model.DialsModel(dials_model.read_model(path), run)
    pulls = []
    for _ in range(50):
        counts = 2.0 * rng.poisson(1.7 * truth) + 5.0
        usable = np.ones(truth.shape, bool)
        counts[:3], usable[:3] = 1e6, False
        image = replace(make_image(0), counts=(counts,), usable=(usable,), exposure=0.5)
        mean, variance = model.image_background(image, None, None)
        pulls.append(((0.5 * mean - 1.7 * truth) / np.sqrt(0.25 * variance))[9, 9])
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.5)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.3)
    blind = replace(image, usable=(np.zeros(truth.shape, bool),))
    assert model.image_background(blind, None, None) == (0.0, 0.0)
    assert model.image_background(replace(image, counts=()), None, None) == (0.0, 0.0)


def test_models_that_do_not_fit_are_refused(simulated, tmp_path):
    def build(name):
        params = type("Params", (), {"file": name, "tail": 1e-4, "spread": 0.3})
        return dials_model.DialsModel.from_params(params, simulated)

    with pytest.raises(InputError, match=r"has the shape \(10, 20\), but the detector"):
        build(write(tmp_path / "small.pickle", [np.ones((10, 20))]))
    with pytest.raises(InputError, match="two.pickle has 2 panels"):
        build(write(tmp_path / "two.pickle", [np.ones((256, 256))] * 2))
    with pytest.raises(InputError, match=r"missing.pickle can't be read \(No such"):
        build(str(tmp_path / "missing.pickle"))
    path = tmp_path / "other.pickle"
    path.write_bytes(pickle.dumps(pytest.approx))
    with pytest.raises(InputError, match="isn't a background model .*it holds"):
        build(str(path))
    build(write(tmp_path / "good.pickle", [np.ones((256, 256))]))


def test_several_panels_are_refused(tmp_path):
    name = write(tmp_path / "one.pickle", [np.ones((36, 48))])
    with pytest.raises(AssertionError, match="one panel, not of 2"):
        check_plugin(dials_model, phil={"dials_model": f"file = {name}"})


def test_without_a_file_it_does_nothing_and_says_so(caplog):
    check_plugin(dials_model)
    assert "does nothing without background.dials_model.file" in caplog.text
