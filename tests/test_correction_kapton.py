"""Kapton tapes against DIALS' own classes, pixel by pixel, and against the analytic."""

from __future__ import annotations

import importlib
import logging
import math

import numpy as np
import pytest

from dials.algorithms.integration.kapton_2019_correction import KaptonTape_2019
from dials.algorithms.integration.kapton_correction import (
    KaptonAbsorption,
    absorption_phil_scope,
    get_absorption_correction,
)
from dials.array_family import flex  # noqa: F401
from dxtbx import flumpy
from dxtbx.model import BeamFactory, Detector, Panel
from dxtbx.model.experiment_list import Experiment, ExperimentList
from iotbx.phil import parse

from diffuse_core.boundary import panel_geometry, pixel_positions
from diffuse_core.compat import load_experiments
from diffuse_core.errors import ConfigError
from diffuse_core.materials import material
from diffuse_core.models import RunInputs
from diffuse_core.plugins.correction.kapton import PHIL, Kapton, Tape, attenuation
from diffuse_core.testing import check_plugin

REAL = {
    "curved I23 P12M": "i23_p12m_thaumatin/dials/indexed.expt",
    "64-panel CSPAD": "thermolysin_cspad/dials/refined.expt",
}
TAPES = [(0.02, 0.05, 1.5875, 1.15), (0.5, 0.2, 3.0, -30.0)]


def one_panel(wavelength=1.3, sample_to_source=(0, 0, 1)):
    panel = Panel()
    panel.set_frame((1, 0, 0), (0, -1, 0), (-55, 50, -60))
    panel.set_pixel_size((0.5, 0.5))
    panel.set_image_size((230, 210))
    detector = Detector()
    detector.add_panel(panel)
    beam = BeamFactory.make_beam(
        sample_to_source=sample_to_source, wavelength=wavelength
    )
    return Experiment(detector=detector, beam=beam)


@pytest.fixture(params=["one panel", *REAL])
def experiment(request):
    if request.param not in REAL:
        return one_panel()
    data = request.getfixturevalue("data_dir")
    found = load_experiments(str(data / REAL[request.param]), check_format=False)[0]
    found.beam.set_wavelength(1.3)
    return found


def run_of(experiment):
    return RunInputs(ExperimentList([experiment]), None, (0,))


def dials_transmission(tape, experiment, s1):
    """1 / the factor of DIALS, for (n, 3) unit vectors."""
    wavelength = experiment.beam.get_wavelength()
    sizes = tape.height, tape.thickness, tape.half_width, tape.angle
    if tape.algorithm == "fuller_kapton":
        theirs = KaptonAbsorption(
            *sizes, wavelength_ang=wavelength, beam=experiment.beam
        )
    else:
        theirs = KaptonTape_2019(*sizes, wavelength_ang=wavelength)
    vectors = flumpy.vec_from_numpy(np.ascontiguousarray(s1))
    return 1 / flumpy.to_numpy(theirs.abs_correction_flex(vectors))


def leaves_through_an_end(tape, s1):
    """Where a ray is still between the faces of a kapton_2019 tape at its end."""
    if tape.algorithm == "fuller_kapton":
        return np.zeros(len(s1), bool)
    a = math.radians(tape.angle)
    x = -math.cos(a) * s1[:, 0] - math.sin(a) * s1[:, 1]
    y = -math.sin(a) * s1[:, 0] + math.cos(a) * s1[:, 1]
    at_end = 10 * tape.half_width / np.maximum(abs(y), 1e-9)
    inside = (x * at_end > tape.height) & (x * at_end < tape.height + tape.thickness)
    return inside & (abs(s1[:, 2]) * at_end < tape.half_width)


def test_transmission_is_that_of_dials(experiment):
    """Every pixel of the one panel, a dense sample of the pixels of all others."""
    beam = np.array(experiment.beam.get_unit_s0())
    pixels = sum(math.prod(p.get_image_size()) for p in experiment.detector)
    step = max(1, pixels // 150_000)
    lowest, at_ends, n = 1.0, 0, 0
    for panel in experiment.detector:
        s1 = pixel_positions(panel).reshape(-1, 3)[::step]
        s1 = s1 / np.linalg.norm(s1, axis=1, keepdims=True)
        for algorithm in ("fuller_kapton", "kapton_2019"):
            for sizes in TAPES:
                tape = Tape(algorithm, *sizes)
                ours = np.exp(-attenuation(1.3) * tape.path(s1, beam))
                theirs = dials_transmission(tape, experiment, s1)
                end = leaves_through_an_end(tape, s1)
                np.testing.assert_allclose(ours[~end], theirs[~end], rtol=0, atol=1e-6)
                lowest = min(lowest, ours.min())
                at_ends, n = at_ends + end.sum(), n + len(s1)
    assert lowest < 0.7
    assert at_ends < 1e-3 * n


@pytest.mark.parametrize("algorithm", ["fuller_kapton", "kapton_2019"])
def test_response_of_a_whole_panel_is_that_of_dials(experiment, algorithm):
    index = len(experiment.detector) // 3
    tape = Tape(algorithm)
    response = Kapton([tape], run_of(experiment)).panel_response(
        panel_geometry(experiment, 0, index)
    )
    s1 = pixel_positions(experiment.detector[index]).reshape(-1, 3)
    s1 = s1 / np.linalg.norm(s1, axis=1, keepdims=True)
    end = leaves_through_an_end(tape, s1)
    theirs = dials_transmission(tape, experiment, s1)
    np.testing.assert_allclose(
        response.ravel()[~end], np.maximum(theirs, 1e-6)[~end], rtol=0, atol=1e-6
    )


def test_response_without_experiments_is_that_of_the_geometry():
    geometry = panel_geometry(one_panel(), 0, 0)
    exact = Kapton([Tape()], run_of(one_panel())).panel_response(geometry)
    np.testing.assert_allclose(
        Kapton([Tape()]).panel_response(geometry), exact, rtol=0, atol=1e-6
    )


def test_fuller_kapton_turns_with_the_beam():
    tilted = one_panel(sample_to_source=(0.2, -0.1, 1))
    tape = Tape("fuller_kapton", angle=40.0)
    response = Kapton([tape], run_of(tilted)).panel_response(
        panel_geometry(tilted, 0, 0)
    )
    s1 = pixel_positions(tilted.detector[0]).reshape(-1, 3)
    s1 = s1 / np.linalg.norm(s1, axis=1, keepdims=True)
    theirs = dials_transmission(tape, tilted, s1)
    np.testing.assert_allclose(response.ravel(), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("algorithm", "side"), [("fuller_kapton", 1), ("kapton_2019", -1)]
)
def test_path_through_the_faces_is_the_thickness_over_the_cosine(algorithm, side):
    beam = np.array([0.0, 0.0, -1.0])
    tape = Tape(algorithm, 0.1, 0.05, 5.0, 0.0)
    rays = np.array([[1.0, 0.3, -1.0], [0.5, -0.2, -2.0], [0.1, 0.0, -8.0]])
    rays[:, 0] *= side
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    cosine = side * rays[:, 0]
    expected = [
        0.05 / cosine[0],
        0.05 / cosine[1],
        0.0,  # passes the edge at 5 mm before it reaches the face
    ]
    np.testing.assert_allclose(tape.path(rays, beam), expected, atol=1e-12)
    mirrored = rays * [-1, 1, 1]
    assert not tape.path(mirrored, beam).any()
    turned = Tape(algorithm, 0.1, 0.05, 5.0, 180.0)
    np.testing.assert_allclose(
        turned.path(mirrored, beam), tape.path(rays * [1, -1, 1], beam), atol=1e-12
    )


def test_ray_through_face_and_edge_is_cut_at_the_edge():
    beam = np.array([0.0, 0.0, -1.0])
    tape = Tape("kapton_2019", 0.1, 0.4, 1.0, 0.0)
    ray = np.array([[-0.3, 0.0, -1.0]]) / math.hypot(0.3, 1.0)
    expected = (1.0 - 0.1 / 0.3) * math.hypot(0.3, 1.0)
    np.testing.assert_allclose(tape.path(ray, beam), expected)


def test_rays_along_the_tape_are_finite():
    beam = np.array([0.0, 0.0, -1.0])
    rays = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    for algorithm in ("fuller_kapton", "kapton_2019"):
        for height in (0.0, 0.02):
            path = Tape(algorithm, height, angle=0.0).path(rays, beam)
            assert np.isfinite(path).all()
            assert not path[[0, 2]].any() or height == 0.0


@pytest.mark.parametrize("wavelength", [0.96, 1.0, 1.3038, 1.7, 2.06])
def test_coefficient_is_that_of_dials_inside_its_table(wavelength):
    assert attenuation(wavelength) == pytest.approx(
        1 / get_absorption_correction()(wavelength), rel=1e-12
    )


@pytest.mark.parametrize("edge", [12.398425 / 13.0, 12.398425 / 6.0])
def test_coefficient_is_continuous_where_the_table_ends(edge):
    assert attenuation(edge * 1.0001) == pytest.approx(
        attenuation(edge * 0.9999), rel=1e-3
    )


@pytest.mark.parametrize("kev", [3.0, 5.0, 14.0, 17.48, 22.16, 60.0])
def test_coefficient_beyond_is_that_of_nist_but_for_a_factor(kev):
    ratio = attenuation(12.39842 / kev) / material("kapton").attenuation(12.39842 / kev)
    assert 0.87 < ratio < 1.0


def params_of(text):
    return parse(PHIL).fetch(parse(text)).extract()


def test_a_scope_of_dials_is_read_as_it_stands():
    theirs = absorption_phil_scope.fetch(
        parse(
            """
            absorption_correction {
              apply = True
              algorithm = fuller_kapton
              fuller_kapton {
                xtal_height_above_kapton_mm.value = 0.04
                rotation_angle_deg.value = 0.55
                kapton_half_width_mm.value = 1.65
                kapton_thickness_mm.value = 0.025
                smart_sigmas = True
              }
            }
            """
        )
    )
    working, unused = parse(PHIL).fetch(theirs, track_unused_definitions=True)
    assert not unused
    model = Kapton.from_params(working.extract(), None)
    assert model.tapes == (Tape("fuller_kapton", 0.04, 0.025, 1.65, 0.55),)


def test_films_multiply_and_those_that_are_off_do_not_count(caplog):
    text = """
      absorption_correction {
        apply = True
        algorithm = fuller_kapton
        mu = 0.5
      }
      absorption_correction {
        apply = True
      }
      absorption_correction {
        algorithm = fuller_kapton
      }
    """
    with caplog.at_level(logging.INFO, "dials.diffuse"):
        model = Kapton.from_params(params_of(text), None)
    assert [tape.algorithm for tape in model.tapes] == ["fuller_kapton", "kapton_2019"]
    assert model.tapes[0].mu == 0.5
    assert len(caplog.records) == 2
    geometry = panel_geometry(one_panel(), 0, 0)
    single = [Kapton([tape]).panel_response(geometry) for tape in model.tapes]
    np.testing.assert_allclose(
        model.panel_response(geometry), single[0] * single[1], rtol=1e-12
    )


def test_default_parameters_are_those_of_dials():
    theirs = absorption_phil_scope.extract().absorption_correction[0].fuller_kapton
    (tape,) = Kapton.from_params(
        params_of("absorption_correction.apply = True"), None
    ).tapes
    assert tape == Tape(
        "kapton_2019",
        theirs.xtal_height_above_kapton_mm.value,
        theirs.kapton_thickness_mm.value,
        theirs.kapton_half_width_mm.value,
        theirs.rotation_angle_deg.value,
    )


def test_no_film_and_the_unknown_algorithm_are_said(caplog):
    for text in ("", "absorption_correction.mu = 1"):
        caplog.clear()
        assert not Kapton.from_params(params_of(text), None).tapes
        assert "does nothing without an absorption_correction block" in caplog.text
    with pytest.raises(ConfigError, match="fuller_kapton or kapton_2019, not other"):
        Kapton.from_params(
            params_of("absorption_correction {\n apply = True\n algorithm = other\n}"),
            None,
        )


def test_contract():
    check_plugin(importlib.import_module("diffuse_core.plugins.correction.kapton"))
