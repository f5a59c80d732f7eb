"""Absorption by air against tabulated values and the law of absorption."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from dials.array_family import flex  # noqa: F401
from dxtbx.model import BeamFactory, Detector, Panel
from dxtbx.model.experiment_list import Experiment, ExperimentList
from iotbx.phil import parse

from diffuse_core.boundary import panel_geometry
from diffuse_core.errors import ConfigError
from diffuse_core.materials import material
from diffuse_core.models import RunInputs
from diffuse_core.plugins.correction.air import PHIL, Air, Medium, attenuation

KEV_A = 12.398419843320026


@pytest.fixture
def experiment():
    panel = Panel()
    panel.set_frame((1, 0, 0), (0, -1, 0), (-60, 60, -200))
    panel.set_pixel_size((10, 10))
    panel.set_image_size((12, 12))
    detector = Detector()
    detector.add_panel(panel)
    beam = BeamFactory.make_beam(sample_to_source=(0, 0, 1), wavelength=KEV_A / 12.4)
    return Experiment(detector=detector, beam=beam)


@pytest.fixture
def geometry(experiment):
    return panel_geometry(experiment, 0, 0)


def from_phil(text, experiment):
    run = RunInputs(ExperimentList([experiment]), None, (0,))
    return Air.from_params(parse(PHIL).fetch(parse(text)).extract(), run)


@pytest.mark.parametrize(
    ("kev", "per_cm"),
    [
        # xraylib 4.3, total attenuation, 0.001205 g/cm^3
        (8.0, 0.011952),
        (12.4, 0.003305),
        (13.0, 0.002890),
        (17.48, 0.001301),
        # NIST XCOM, dry air: 5.120 cm^2/g at 10 keV, 0.7779 at 20 keV
        (10.0, 5.120 * 1.205e-3),
        (20.0, 0.7779 * 1.205e-3),
    ],
)
def test_attenuation_of_dry_air(kev, per_cm):
    assert attenuation(KEV_A / kev) * 10 == pytest.approx(per_cm, rel=0.02)


def test_density_follows_the_ideal_gas_law():
    assert attenuation(1.0, 20.0, 202.65) == pytest.approx(2 * attenuation(1.0))
    assert attenuation(1.0, -126.575) == pytest.approx(2 * attenuation(1.0))


def test_transmission_is_exponential_in_the_distance_to_the_pixel(geometry):
    response = Air().panel_response(geometry)
    slow, fast = np.mgrid[:12, :12]
    distance = np.sqrt((10 * fast - 55.0) ** 2 + (55.0 - 10 * slow) ** 2 + 200.0**2)
    np.testing.assert_allclose(response, np.exp(-3.343e-4 * distance), rtol=2e-4)
    assert response[5, 5] == pytest.approx(0.936, abs=1.5e-3)


def test_fixed_length_is_one_number_and_no_air_is_one(geometry):
    mu = attenuation(KEV_A / 12.4, 25.0, 95.0)
    response = Air(50.0, 25.0, 95.0).panel_response(geometry)
    assert response == pytest.approx(math.exp(-mu * 50))
    assert Air(0.0).panel_response(geometry) == 1.0
    assert (Air(pressure=0.0).panel_response(geometry) == 1.0).all()


def test_impossible_temperature_is_refused():
    with pytest.raises(ConfigError, match=r"correction\.air\.temperature"):
        Air.from_params(
            SimpleNamespace(length=None, temperature=-273.15, pressure=1, medium=[]),
            None,
        )


def test_helium_path_with_windows(experiment, geometry):
    model = from_phil(
        """
        temperature = 25
        medium {
          material = air
          length = 20
        }
        medium {
          material = kapton
          length = 0.05
          flat = True
        }
        medium {
          material = helium
        }
        medium {
          material = Be
          length = 0.25
          flat = True
        }
        """,
        experiment,
    )
    wavelength = geometry.beam.wavelength
    slow, fast = np.mgrid[:12, :12]
    distance = np.sqrt((10 * fast - 55.0) ** 2 + (55.0 - 10 * slow) ** 2 + 200.0**2)
    windows = np.array([0.05, 0.25])[:, None, None] * distance / 200.0
    depth = (
        material("air").attenuation(wavelength, 25.0) * 20.0
        + material("kapton").attenuation(wavelength) * windows[0]
        + material("be").attenuation(wavelength) * windows[1]
        + material("helium").attenuation(wavelength, 25.0)
        * (distance - 20.0 - windows.sum(axis=0))
    )
    np.testing.assert_allclose(
        model.panel_response(geometry), np.exp(-depth), rtol=1e-6
    )
    assert Air().panel_response(geometry).max() < model.panel_response(geometry).min()


def test_air_all_the_way_as_a_medium_is_the_default(geometry):
    np.testing.assert_allclose(
        Air(media=[Medium(material("air"))]).panel_response(geometry),
        Air().panel_response(geometry),
        rtol=1e-6,
    )


def test_a_medium_ends_at_the_pixel_and_what_is_not_filled_is_vacuum(geometry):
    water = material("water")
    long = Air(media=[Medium(water, 150.0), Medium(water, 1e4)])
    rest = Air(media=[Medium(water)])
    np.testing.assert_allclose(
        long.panel_response(geometry), rest.panel_response(geometry), rtol=1e-6
    )
    np.testing.assert_allclose(
        Air(media=[Medium(water, 3.0)]).panel_response(geometry),
        math.exp(-3.0 * water.attenuation(geometry.beam.wavelength)),
    )


def test_a_formula_with_a_density(experiment, geometry):
    model = from_phil(
        "medium {\n material = Al2O3\n density = 3.97\n length = 0.5\n}", experiment
    )
    mu = material("sapphire").attenuation(geometry.beam.wavelength)
    np.testing.assert_allclose(
        model.panel_response(geometry), math.exp(-0.5 * mu), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("length = 3\nmedium.material = helium", r"medium with material=air"),
        (
            "medium {\n material = air\n}\nmedium {\n material = helium\n}",
            "only one of them can fill the rest",
        ),
        (
            "medium {\n material = air\n length = 300\n}",
            "add up to 300 mm, but no pixel is farther than 217.",
        ),
        ("medium.material = plutonic", "neither a chemical formula"),
    ],
)
def test_contradictions_are_refused(text, expected, experiment):
    with pytest.raises(ConfigError, match=expected):
        from_phil(text, experiment)
