"""Incoherent scattering: cross-sections, compositions and counts.

The cross-sections come from xraylib's own integrated and differential functions, which
the model doesn't use, molar masses from the literature.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xraylib
from scipy.integrate import trapezoid

import iotbx.cif.model
import iotbx.pdb

from diffuse_core import show
from diffuse_core.errors import ConfigError
from diffuse_core.models import BackgroundModel, IntensityBackground
from diffuse_core.plugins.background import compton
from diffuse_core.plugins.background.compton import composition, theory
from diffuse_core.testing import check_plugin, make_geometry, make_image, make_run

LYSOZYME = (
    "KVFGRCELAAAMKRHGLDNYRGYSLGNWVCAAKFESNFNTQATNRNTDGSTDYGILQINSRWWCNDGRTPGSRNLC"
    "NIPCSALLSSDITASVNCAKKIVSDGNGMNAWVAWRNRCKGTDVQAWIRGCRL"
)
WATER = {1: 2.0, 8: 1.0}
BARN_PER_R2 = 0.07940787
"""Classical electron radius squared, barn."""


WEIGHTS = {
    "H": 1.00794,
    "C": 12.0107,
    "N": 14.0067,
    "O": 15.9994,
    "P": 30.97376,
    "S": 32.065,
}


def mass(atoms):
    return sum(n * WEIGHTS[element] for element, n in atoms.items())


def cross_section(atoms, energy):
    """Integral of the model over 4 pi, barn."""
    angle = np.linspace(0.0, np.pi, 4001)
    cosine = np.cos(angle)
    k = theory.energy_ratio(energy, cosine)
    p = 0.5 * (1 + cosine**2)
    x = energy / theory.KEV_ANGSTROM * np.sin(angle / 2)
    intensity = theory.incoherent_function(atoms, x) * theory.klein_nishina_ratio(k, p)
    integrand = 2 * np.pi * np.sin(angle) * BARN_PER_R2 * p * intensity
    return trapezoid(integrand, angle)


@pytest.mark.parametrize("energy", [8.0, 12.4, 20.0])
@pytest.mark.parametrize("what", ["water", "protein"])
def test_integral_is_xraylibs_total_cross_section(what, energy):
    atoms = WATER
    if what == "protein":
        formula = composition.sequence_atoms(LYSOZYME, "protein")
        atoms = composition.atomic_numbers(formula, "test")
    expected = sum(n * xraylib.CSb_Compt(z, energy) for z, n in atoms.items())
    assert cross_section(atoms, energy) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("degrees", [5, 30, 60, 90, 150])
@pytest.mark.parametrize("element", [1, 6, 8, 16])
def test_curve_is_xraylibs_differential_cross_section(element, degrees):
    energy, angle = 12.4, np.radians(degrees)
    cosine = np.cos(angle)
    k = theory.energy_ratio(energy, cosine)
    x = np.array([energy / theory.KEV_ANGSTROM * np.sin(angle / 2)])
    ratio = theory.klein_nishina_ratio(k, 0.5 * (1 + cosine**2))
    ours = theory.incoherent_function({element: 1.0}, x)[0] * ratio
    theirs = xraylib.DCSb_Compt(element, energy, angle)
    thomson = BARN_PER_R2 * 0.5 * (1 + cosine**2)
    assert ours == pytest.approx(theirs / thomson, rel=2e-3)


def test_carbon_and_klein_nishina_at_12_4_kev():
    x = np.array([0.05, 0.10, 0.25, 0.50, 1.00])
    found = theory.incoherent_function({6: 1.0}, x)
    assert found == pytest.approx([0.3086, 1.0392, 3.1979, 4.4777, 5.3485], abs=2e-4)
    for degrees, expected in ((10, 0.9993), (60, 0.9763), (90, 0.9537)):
        cosine = np.cos(np.radians(degrees))
        k = theory.energy_ratio(12.4, cosine)
        ratio = theory.klein_nishina_ratio(k, 0.5 * (1 + cosine**2))
        assert ratio == pytest.approx(expected, abs=6e-5)
    assert theory.energy_ratio(12.4, 0.0) == pytest.approx(
        xraylib.ComptonEnergy(12.4, np.pi / 2) / 12.4
    )


@pytest.mark.parametrize("phi", [0.0, 40.0, 90.0])
def test_polarized_beam(phi):
    """The factor for a polarized beam, with xraylib's polarized cross-sections."""
    energy, angle, phi = 12.4, np.radians(70.0), np.radians(phi)
    p = xraylib.DCSP_Thoms(angle, phi) / BARN_PER_R2
    k = theory.energy_ratio(energy, np.cos(angle))
    expected = xraylib.DCSP_KN(energy, angle, phi) / xraylib.DCSP_Thoms(angle, phi)
    assert theory.klein_nishina_ratio(k, p) == pytest.approx(expected, rel=1e-4)


def test_s_is_quadratic_below_the_table_and_0_at_0():
    s = theory.incoherent_function(WATER, np.array([0.0, 2e-4, 1e-3]))
    assert s[0] == 0.0
    assert s[1] == pytest.approx(0.04 * s[2])


def test_sensor_sees_less_energetic_photons_better():
    k = np.array([1.0, 0.976])
    depth = np.array([0.5, 0.5])
    ratio = theory.relative_efficiency("Si", 12.4, k, depth)
    mu = [xraylib.CS_Total(14, 12.4 * one) for one in k]
    full = 1 - np.exp(-0.5 * np.array(mu) / mu[0])
    assert ratio == pytest.approx(full / full[0], rel=1e-4)
    assert 1.04 < ratio[1] < 1.07
    assert theory.relative_efficiency("Si", 12.4, k, 0 * depth) == pytest.approx(1.0)


def test_molar_masses():
    """Hen egg-white lysozyme, reduced: 14313 Da; glucose: 180.16 Da."""
    assert len(LYSOZYME) == 129
    lysozyme = composition.sequence_atoms(LYSOZYME, "protein")
    assert mass(lysozyme) == pytest.approx(14313.1, abs=1.0)
    assert mass(composition.parse_formula("C6H12O6", "f")) == pytest.approx(
        180.16, 1e-3
    )


@pytest.mark.parametrize(
    "molecule,sequence,expected",
    [("dna", "ACGT", 1253.9), ("rna", "ACGU", 1303.8)],
)
def test_nucleotides(molecule, sequence, expected):
    """Sum of the nucleotides 331.2, 307.2, 347.2, 322.2 (RNA 347.2, 323.2, 363.2,
    324.2) g/mol less three waters."""
    found = mass(composition.sequence_atoms(sequence, molecule))
    assert found == pytest.approx(expected, abs=0.5)


def test_every_entry_of_a_fasta_file_is_a_chain(tmp_path):
    path = tmp_path / "chains.fasta"
    path.write_text(">one\nGA\nG\n>two\nW*\n")
    both = composition.sequence_atoms(str(path), "protein")
    alone = composition.sequence_atoms("GAG", "protein")
    alone.update(composition.sequence_atoms("W", "protein"))
    assert both == alone
    path.write_text(">one\nGXZ\n")
    with pytest.raises(ConfigError, match=r"chains.fasta has letters .*\(X, Z\)"):
        composition.sequence_atoms(str(path), "protein")


PDB = """\
CRYST1   40.000   50.000   60.000  90.00  90.00  90.00 P 21 21 21
ATOM      1  N   GLY A   1      11.000  10.000  10.000  1.00 10.00           N
ATOM      2  CA  GLY A   1      12.000  10.000  10.000  1.00 10.00           C
ATOM      3  C   GLY A   1      13.000  10.000  10.000  1.00 10.00           C
ATOM      4  O   GLY A   1      14.000  10.000  10.000  1.00 10.00           O
HETATM    5  O   HOH A   2      20.000  20.000  20.000  0.50 10.00           O
HETATM    6 NA    NA A   3      25.000  20.000  20.000  1.00 10.00          NA
END
"""


@pytest.mark.parametrize("kind", ["pdb", "cif"])
def test_a_model_is_completed_with_hydrogens_and_symmetry(tmp_path, kind):
    path = tmp_path / "model.pdb"
    path.write_text(PDB)
    if kind == "cif":
        model = iotbx.pdb.input(file_name=str(path))
        path = tmp_path / "model.cif"
        block = iotbx.cif.model.cif()
        block["model"] = model.construct_hierarchy().as_cif_block(
            crystal_symmetry=model.crystal_symmetry()
        )
        path.write_text(str(block))
    found = composition.model_atoms(str(path))
    assert found == {"C": 8, "N": 4, "O": 6, "Na": 4, "H": 4 * (3 + 0.5 * 2)}


def test_a_model_without_symmetry_is_refused(tmp_path):
    path = tmp_path / "model.pdb"
    path.write_text("\n".join(PDB.splitlines()[1:]))
    with pytest.raises(ConfigError, match="no space group"):
        composition.model_atoms(str(path))


def test_solvent_is_water_with_ions():
    atoms = composition.solvent_atoms(1e6, {"Na": 1.0, "SO4": 0.5})
    assert atoms["Na"] == pytest.approx(602.2, rel=1e-3)
    assert atoms["S"] == pytest.approx(301.1, rel=1e-3)
    grams = mass(composition.solvent_atoms(1e24, {})) / 6.02214076e23
    assert grams == pytest.approx(0.9982, rel=1e-3)


def geometry_without_sensor():
    return replace(make_geometry(), sensor_mu=0.0, sensor_thickness=0.0)


def test_counts_are_scale_times_response_times_theory():
    geometry = geometry_without_sensor()
    model = compton.Compton(WATER, [geometry], scale=50.0)
    response = np.full(geometry.shape, 0.01, np.float32)
    mean, variance = model.panel_background(geometry, response)
    y, x = 5, 40
    angle = np.radians(float(geometry.two_theta[y, x]))
    energy = 12.398419843 / geometry.beam.wavelength
    u = geometry.direction[y, x].astype(float)
    p = 0.99 * (1 - u[0] ** 2) + 0.01 * (1 - u[1] ** 2)
    # Polarization of 0.99 with the normal along y: the field is along x, or along y.
    azimuth = [np.arccos(np.clip(u[i] / np.sin(angle), -1, 1)) for i in (0, 1)]
    kn = sum(
        f * xraylib.DCSP_KN(energy, angle, a)
        for f, a in zip((0.99, 0.01), azimuth, strict=True)
    )
    q = xraylib.MomentTransf(energy, angle)
    s = sum(n * xraylib.SF_Compt(z, q) for z, n in WATER.items())
    expected = 50.0 * 0.01 * s * kn / (BARN_PER_R2 * p)
    assert mean[y, x] == pytest.approx(expected, rel=1e-3)
    assert variance == 0.0
    assert model.intensity(np.array([0.1, 0.3])) == (pytest.approx([0.0, 0.0]), 0.0)


def test_an_integrating_detector_sees_less_energy():
    geometry = geometry_without_sensor()
    photons = compton.Compton(WATER, [geometry])
    energy = compton.Compton(WATER, [geometry], counting=False)
    ratio = energy.apparent_intensity(geometry) / photons.apparent_intensity(geometry)
    cosine = np.cos(np.radians(geometry.two_theta.astype(float)))
    kev = 12.398419843 / geometry.beam.wavelength
    assert ratio == pytest.approx(1 / (1 + kev / 510.999 * (1 - cosine)), rel=1e-6)


def test_intensity_background_is_the_mean_of_what_the_pixels_see():
    panels = [make_geometry(0), make_geometry(1)]
    model = compton.Compton(WATER, panels)
    assert model.panel_background(panels[0], np.ones(panels[0].shape)) == (0.0, 0.0)
    s = np.concatenate([g.s_norm.ravel() for g in panels])
    seen = np.concatenate([model.apparent_intensity(g).ravel() for g in panels])
    curve, variance = model.intensity(s)
    assert variance == 0.0
    assert np.median(np.abs(curve / seen - 1)) < 2e-3
    assert curve.sum() == pytest.approx(seen.sum(), rel=1e-3)


def test_contract_and_parameters(caplog):
    model = check_plugin(compton)[0]
    assert isinstance(model, (BackgroundModel, IntensityBackground))
    assert "background.compton does nothing without" in caplog.text
    text = "sequence = GAGW\nscale = 2\nsolvent { fraction = 0.5\nion { formula = Na\n"
    (model,) = check_plugin(compton, phil={"compton": text + "concentration = 1 }}"})
    volume = make_run().experiments[0].crystal.get_unit_cell().volume()
    assert model.atoms[11] == pytest.approx(0.5 * volume * 6.022e-4, rel=1e-3)
    response = np.ones((36, 48), np.float32)
    mean, _ = model.panel_background(make_geometry(), response)
    assert (mean > 0).all()


@pytest.mark.parametrize(
    "text,message",
    [
        ("formula = Xx3", "is no chemical formula"),
        ("formula = C\nsensor = glass", "background.compton.sensor"),
        ("model = missing.pdb", "missing.pdb"),
    ],
)
def test_unusable_parameters_are_named(text, message):
    with pytest.raises(AssertionError, match=message):
        check_plugin(compton, phil={"compton": text})


def test_unknown_element():
    with pytest.raises(ConfigError, match="Qq is no element"):
        composition.atomic_numbers({"Qq": 1}, "background.compton")


def test_show_gives_the_counts_that_are_subtracted():
    geometry = make_geometry()
    response = np.full(geometry.shape, 0.01, np.float32)
    model = compton.Compton(WATER, [geometry], 50.0)
    shown = show.backgrounds([("compton", model)], [geometry], make_image(), [response])
    expected, _ = model.panel_background(geometry, response)
    np.testing.assert_allclose(shown[0].values[0], expected)
    assert expected.min() > 0
