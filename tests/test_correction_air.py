"""Absorption by air against tabulated values and the law of absorption."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from dials.array_family import flex  # noqa: F401
from dxtbx.model import BeamFactory, Detector, Panel
from dxtbx.model.experiment_list import Experiment

from diffuse_core.boundary import panel_geometry
from diffuse_core.errors import ConfigError
from diffuse_core.plugins.correction.air import Air, attenuation

KEV_A = 12.398419843320026


@pytest.fixture
def geometry():
    panel = Panel()
    panel.set_frame((1, 0, 0), (0, -1, 0), (-60, 60, -200))
    panel.set_pixel_size((10, 10))
    panel.set_image_size((12, 12))
    detector = Detector()
    detector.add_panel(panel)
    beam = BeamFactory.make_beam(sample_to_source=(0, 0, 1), wavelength=KEV_A / 12.4)
    return panel_geometry(Experiment(detector=detector, beam=beam), 0, 0)


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
            SimpleNamespace(length=None, temperature=-273.15, pressure=1), None
        )
