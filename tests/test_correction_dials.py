"""Polarization and sensor against DIALS' own Corrections, pixel by pixel."""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from dials.algorithms.integration import Corrections, CorrectionsMulti
from dials.array_family import flex
from dxtbx import flumpy
from dxtbx.model import BeamFactory, Detector, Panel, ParallaxCorrectedPxMmStrategy
from dxtbx.model.experiment_list import Experiment, ExperimentList

from diffuse_core.boundary import panel_geometry, pixel_positions, setups_of
from diffuse_core.compat import load_experiments
from diffuse_core.errors import ConfigError
from diffuse_core.models import RunInputs
from diffuse_core.plugins.correction.polarization import Polarization
from diffuse_core.plugins.correction.sensor import Sensor

REAL = {
    "curved I23 P12M": "i23_p12m_thaumatin/dials/indexed.expt",
    "64-panel CSPAD": "thermolysin_cspad/dials/refined.expt",
}


def one_panel(mu=3.8, thickness=0.45, normal=(0, 1, 0), fraction=0.93):
    """A tilted panel near a beam that isn't along an axis of the laboratory."""
    c, s = math.cos(0.35), math.sin(0.35)
    panel = Panel()
    panel.set_frame((c, 0, s), (0, -1, 0), (-30, 45, -110))
    panel.set_pixel_size((1.72, 1.72))
    panel.set_image_size((40, 55))
    panel.set_mu(mu)
    panel.set_thickness(thickness)
    if mu and thickness:
        panel.set_px_mm_strategy(ParallaxCorrectedPxMmStrategy(mu, thickness))
    detector = Detector()
    detector.add_panel(panel)
    beam = BeamFactory.make_beam(sample_to_source=(0.05, 0, 1), wavelength=0.97)
    beam.set_polarization_normal(normal)
    beam.set_polarization_fraction(fraction)
    return Experiment(detector=detector, beam=beam)


@pytest.fixture(params=["one panel", *REAL])
def experiment(request):
    if request.param not in REAL:
        return one_panel()
    data = request.getfixturevalue("data_dir")
    return load_experiments(str(data / REAL[request.param]), check_format=False)[0]


def dials_values(experiment, pixels):
    """1/lp as for a still, and qe, at the centres of `pixels` (panel, fast, slow)."""
    dials = Corrections(experiment.beam, experiment.detector)
    p, e = [], []
    for panel, fast, slow in pixels:
        s1 = experiment.detector[panel].get_pixel_lab_coord((fast + 0.5, slow + 0.5))
        p.append(1 / dials.lp(s1))
        e.append(dials.qe(s1, panel))
    return np.array(p), np.array(e)


def some_pixels(experiment, per_panel=12):
    rng = np.random.default_rng(1)
    pixels = []
    n = len(experiment.detector)
    for i in range(0, n, max(1, n // 8)):
        n_fast, n_slow = experiment.detector[i].get_image_size()
        corners = [(0, 0), (n_fast - 1, 0), (0, n_slow - 1), (n_fast - 1, n_slow - 1)]
        inside = zip(
            rng.integers(0, n_fast, per_panel),
            rng.integers(0, n_slow, per_panel),
            strict=True,
        )
        pixels += [(i, int(x), int(y)) for x, y in [*corners, *inside]]
    return pixels


def at(model, experiment, pixels):
    values = {}
    for i in {panel for panel, _, _ in pixels}:
        geometry = panel_geometry(experiment, 0, i)
        values[i] = np.broadcast_to(model.panel_response(geometry), geometry.shape)
    return np.array([values[i][y, x] for i, x, y in pixels])


def dials_panel(experiment, panel, step):
    """1/lp as for a still, and qe, at every `step`th pixel of a panel."""
    dials = CorrectionsMulti()
    dials.append(Corrections(experiment.beam, experiment.detector))
    positions = pixel_positions(experiment.detector[panel]).reshape(-1, 3)[::step]
    s1 = flumpy.vec_from_numpy(np.ascontiguousarray(positions))
    number = flex.int(len(s1), 0)
    lp = flumpy.to_numpy(dials.lp(number, s1))
    return 1 / lp, flumpy.to_numpy(dials.qe(number, s1, flex.size_t(len(s1), panel)))


def run_of(*experiments):
    listed = ExperimentList(experiments)
    return RunInputs(listed, None, setups_of(listed))


def test_both_are_those_of_dials_all_over_the_detector(experiment):
    """Every pixel of the one panel, a dense sample of the pixels of every other."""
    experiment = copy.deepcopy(experiment)
    pixels = sum(math.prod(p.get_image_size()) for p in experiment.detector)
    step = max(1, pixels // 200_000)
    for panel in experiment.detector:
        if not panel.get_mu():
            panel.set_mu(3.2)
            panel.set_thickness(0.5)
    for index in range(len(experiment.detector)):
        geometry = panel_geometry(experiment, 0, index)
        p, e = dials_panel(experiment, index, step)
        for model, expected in ((Polarization(), p), (Sensor(), e)):
            np.testing.assert_allclose(
                model.panel_response(geometry).ravel()[::step],
                expected,
                rtol=0,
                atol=1e-6,
            )


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 1, 0.2), (-0.3, 0.5, -1)])
def test_both_are_those_of_dials_for_a_beam_from_anywhere(direction):
    experiment = one_panel()
    normal = np.cross(direction, (0.3, -0.2, 0.9))
    experiment.beam.set_unit_s0(tuple(-np.array(direction, float)))
    experiment.beam.set_polarization_normal(tuple(normal / np.linalg.norm(normal)))
    geometry = panel_geometry(experiment, 0, 0)
    p, e = dials_panel(experiment, 0, 1)
    assert p.max() - p.min() > 0.02
    for model, expected in ((Polarization(), p), (Sensor(), e)):
        response = model.panel_response(geometry)
        np.testing.assert_allclose(response.ravel(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fraction", [0.5, 0.0, 0.8, 1.0])
@pytest.mark.parametrize("normal", [(0, 1, 0), (0.6, -0.8, 0)])
def test_polarization_for_other_beams(fraction, normal):
    experiment = one_panel(normal=normal, fraction=fraction)
    pixels = some_pixels(experiment)
    expected, _ = dials_values(experiment, pixels)
    np.testing.assert_allclose(
        at(Polarization(), experiment, pixels), expected, rtol=0, atol=1e-6
    )


def test_polarization_fraction_of_the_user_replaces_that_of_the_beam():
    pixels = some_pixels(one_panel())
    expected, _ = dials_values(one_panel(fraction=0.5), pixels)
    np.testing.assert_allclose(
        at(Polarization(0.5), one_panel(), pixels), expected, rtol=0, atol=1e-6
    )


def test_unpolarised_beam_has_the_textbook_factor():
    geometry = panel_geometry(one_panel(), 0, 0)
    expected = (1 + np.cos(np.radians(geometry.two_theta)) ** 2) / 2
    np.testing.assert_allclose(
        Polarization(0.5).panel_response(geometry), expected, atol=1e-6
    )


def test_polarization_stays_above_zero_along_the_field():
    geometry = panel_geometry(one_panel(), 0, 0)
    beam = replace(geometry.beam, polarization_fraction=1.0)
    along = np.cross(beam.polarization_normal, beam.s0)
    s1 = along / np.linalg.norm(along) / beam.wavelength
    s = np.broadcast_to(s1 - np.array(beam.s0), (*geometry.shape, 3))
    response = Polarization().panel_response(
        replace(geometry, beam=beam, s=s.astype(np.float32))
    )
    assert (response > 0).all()
    assert response.max() < 1e-5


def test_polarization_refuses_what_is_not_x_rays():
    beam = SimpleNamespace(get_probe=lambda: "electron")
    run = RunInputs([SimpleNamespace(beam=beam)], None, (0,))
    with pytest.raises(ConfigError, match="experiment 0 is electron"):
        Polarization.from_params(SimpleNamespace(fraction=None), run)


@pytest.mark.parametrize(("mu", "thickness"), [(0, 0.45), (3.8, 0)])
def test_unknown_sensor_has_response_one_and_is_said_once(mu, thickness, caplog):
    one, two = one_panel(mu, thickness), one_panel(mu, thickness)
    with caplog.at_level(logging.WARNING, "dials.diffuse"):
        model = Sensor.from_params(None, run_of(one, two))
    assert len(caplog.records) == 1
    assert model.panel_response(panel_geometry(one, 0, 0)) == 1.0


def test_known_sensor_is_not_talked_about(caplog):
    with caplog.at_level(logging.WARNING, "dials.diffuse"):
        Sensor.from_params(None, run_of(one_panel()))
    assert not caplog.records
