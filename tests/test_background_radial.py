"""The radial profile against simulated images whose isotropic part is known.

The simulator makes its responses with DIALS' own functions and exact solid angles.
"""

from __future__ import annotations

import numpy as np
import pytest

from dxtbx.model import Experiment, ExperimentList

from diffuse_core import boundary
from diffuse_core.models import Image, RunInputs
from diffuse_core.plugins.background import radial
from diffuse_core.simulate.phil import read_recipe
from diffuse_core.simulate.simulation import Simulation
from diffuse_core.testing import check_plugin, make_geometry, make_image, make_run

RECIPE = """
detector { name = test_curved
           distance = 70 }
beam.polarization_fraction = 0.95
scan { n_images = 3
       exposure = %g }
crystal.unit_cell = 20 25 30 90 90 90
diffuse { spherical { amplitude = 4e5
                      constant = 5e4
                      ring.height = 0.3 }
          halo.amplitude = 0
          cloud.amplitude = 0 }
bragg { enable = %s
        amplitude = %g
        width = 1e-3 }
response.air = False
noise { hot_pixels = 40
        dead_pixels = 40 }
"""


def simulated(exposure, bragg=True, amplitude=30, more=""):
    params, _ = read_recipe(RECIPE % (exposure, bragg, amplitude) + more)
    return Simulation(params)


def run_of(simulation):
    models = simulation.instrument
    experiment = Experiment(
        beam=models.beam,
        detector=models.detector,
        goniometer=models.goniometer,
        scan=simulation.scan,
        crystal=simulation.crystals[0],
    )
    return RunInputs(ExperimentList([experiment]), None, (0,))


def image_of(simulation, index):
    counts = tuple(simulation.counts(index))
    return Image(
        experiment=0,
        index=index,
        phi=index + 0.5,
        width=1.0,
        exposure=simulation.params.scan.exposure,
        to_hkl=np.eye(3),
        s_shift=np.zeros(3),
        axis=np.zeros(3),
        counts=counts,
        usable=tuple(c >= 0 for c in counts),
    )


def backgrounds(model, run, image):
    panels = range(len(run.experiments[0].detector))
    geometries = [boundary.panel_geometry(run.experiments[0], 0, i) for i in panels]
    return [model.image_background(image, g, np.ones(g.shape)) for g in geometries]


@pytest.mark.parametrize("exposure", [0.03, 0.1, 0.5, 20.0])
def test_profile_of_all_panels_is_unbiased_under_bragg_peaks(exposure):
    """0.05 to 40 counts per pixel, spots, hot and dead pixels."""
    simulation = simulated(exposure)
    clean = simulated(exposure, bragg=False)
    run = run_of(simulation)
    model = radial.Radial(run, rings=60)
    found, expected, raw, naive = [], [], [], []
    for index in range(3):
        image = image_of(simulation, index)
        means = [m for m, _ in backgrounds(model, run, image)]
        for mean, truth, counts in zip(
            means, clean.expected_counts(index), image.counts, strict=True
        ):
            found.append(exposure * mean.ravel())
            expected.append(truth.ravel())
            raw.append(counts[counts >= 0].mean())
            naive.append(np.median(counts[counts >= 0]))
    found, expected = np.concatenate(found), np.concatenate(expected)
    precision = 3 / np.sqrt(expected.sum())
    assert found.mean() == pytest.approx(expected.mean(), rel=0.003 + precision)
    assert np.mean(raw) > 1.1 * expected.mean()
    if expected.mean() < 2:
        assert abs(np.mean(naive) / expected.mean() - 1) > 0.15


def test_shape_of_the_profile_follows_the_polarization():
    """Without the polarization the profile at high counts would be 30 % wrong."""
    simulation = simulated(400.0, bragg=False)
    run = run_of(simulation)
    model = radial.Radial(run, rings=100)
    image = image_of(simulation, 0)
    truth = simulation.expected_counts(0)
    for (mean, _), expected in zip(backgrounds(model, run, image), truth, strict=True):
        relative = 400.0 * mean / expected - 1
        assert np.quantile(np.abs(relative), 0.95) < 0.02


def test_errors_are_those_of_the_profile():
    pulls = []
    for seed in range(1, 7):
        simulation = simulated(
            0.3, bragg=False, more=f"noise {{ seed = {seed}\nhot_pixels = 0 }}"
        )
        run = run_of(simulation)
        model = radial.Radial(run, rings=25)
        image = image_of(simulation, 0)
        (mean, variance), *_ = backgrounds(model, run, image)
        expected = simulation.expected_counts(0)[0] / 0.3
        pull = (mean - expected) / np.sqrt(variance)
        pulls.append(pull.ravel()[:: len(pull.ravel()) // 25])
    assert 0.6 < np.std(pulls) < 1.3


def test_profile_is_made_once_per_image(monkeypatch):
    simulation = simulated(0.3)
    run = run_of(simulation)
    model = radial.Radial(run)
    calls = []
    calculate = model._calculate
    monkeypatch.setattr(
        model, "_calculate", lambda image: calls.append(1) or calculate(image)
    )
    image = image_of(simulation, 0)
    first = backgrounds(model, run, image)
    again = backgrounds(model, run, image)
    assert len(calls) == 1
    np.testing.assert_array_equal(first[0][0], again[0][0])
    backgrounds(model, run, image_of(simulation, 1))
    assert len(calls) == 2


def test_gain_and_pedestal():
    run = make_run()
    image = make_image(0)
    plain, _ = radial.Radial(run).image_background(image, make_geometry(), None)
    for panel in run.experiments[0].detector:
        panel.set_gain(4.0)
        panel.set_pedestal(10.0)
    raw = tuple(c * 4 + 10 for c in image.counts)
    again = Image(
        **{name: getattr(image, name) for name in vars(image) if name != "counts"},
        counts=raw,
    )
    found, _ = radial.Radial(run).image_background(again, make_geometry(), None)
    np.testing.assert_allclose(found, plain)


def test_unusable_pixels_do_not_count():
    image = make_image(0)
    usable = tuple(np.zeros(c.shape, bool) for c in image.counts)
    fields = {name: getattr(image, name) for name in vars(image) if name != "usable"}
    model = radial.Radial(make_run())
    blind = Image(**fields, usable=usable)
    assert model.image_background(blind, make_geometry(), None) == (0.0, 0.0)
    usable[0][:18] = True
    model = radial.Radial(make_run())
    half = Image(**fields, usable=usable)
    mean, _ = model.image_background(half, make_geometry(), None)
    assert np.isfinite(mean).all() and (mean > 0).any()


def test_contract():
    check_plugin(radial)
