"""Attenuation coefficients against NIST's and xraylib's values."""

from __future__ import annotations

import pytest

from diffuse_core.errors import ConfigError
from diffuse_core.materials import material

KEV_A = 12.398419843320026


@pytest.mark.parametrize(
    ("name", "kev", "per_mm"),
    [
        # NIST X-ray mass attenuation tables (cm^2/g) times density / 10
        ("be", 10, 0.6466 * 0.1848),
        ("diamond", 10, 2.373 * 0.351),
        ("diamond", 20, 0.4420 * 0.351),
        ("silicon", 8, 64.68 * 0.233),
        ("water", 15, 1.673 * 0.1),
        ("helium", 8, 0.2933 * 1.66322e-5),
        ("air", 20, 0.7779 * 1.20479e-4),
        ("pmma", 10, 3.357 * 0.119),
        # xraylib 4.3, total
        ("borosilicate", 20, 2.2966 * 0.223),
        ("kapton", 8, 6.1602 * 0.142),
    ],
)
def test_coefficients_are_those_of_nist(name, kev, per_mm):
    assert material(name).attenuation(KEV_A / kev) == pytest.approx(per_mm, rel=0.03)


def test_a_formula_is_the_named_material():
    wanted = material("kapton").attenuation(1.0)
    assert material("C22 H10 N2 O5", 1.42).attenuation(1.0) == pytest.approx(wanted)
    assert material("C44H20N4O10", 1.42).attenuation(1.0) == pytest.approx(wanted)
    assert material("kapton", 2.84).attenuation(1.0) == pytest.approx(2 * wanted)
    assert material("Al2O3", 3.97).fractions["Al"] == pytest.approx(0.52925, abs=1e-4)


def test_only_gases_follow_temperature_and_pressure():
    helium, water = material("helium"), material("water")
    cold = helium.attenuation(1.0, -126.575, 101.325)
    assert cold == pytest.approx(2 * helium.attenuation(1.0))
    assert water.attenuation(1.0, 60.0, 50.0) == water.attenuation(1.0)
    given = material("helium", 2e-4)
    assert given.attenuation(1.0, 60.0, 50.0) == given.attenuation(1.0)


def test_vacuum_attenuates_nothing():
    assert material("vacuum").attenuation(1.0) == 0.0


@pytest.mark.parametrize("text", ["unobtainium", "Xx2O3", "Al2O3)", "al2o3", ""])
def test_unknown_materials_are_refused(text):
    with pytest.raises(ConfigError, match="neither a chemical formula nor one of"):
        material(text, where="correction.absorber.plate.material")


def test_a_formula_needs_a_density():
    with pytest.raises(ConfigError, match=r"give correction\.absorber\.plate\.density"):
        material("Al2O3", where="correction.absorber.plate.material")
