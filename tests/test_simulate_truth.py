"""The analytic truth against symmetry, brute force and its own file."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from cctbx import sgtbx

from diffuse_core.errors import ConfigError
from diffuse_core.simulate.build_truth import make_truth
from diffuse_core.simulate.phil import read_recipe
from diffuse_core.simulate.truth import Truth

CRYSTALS = {
    "P212121": "40 50 60 90 90 90",
    "C2": "50 60 40 90 105 90",
    "P3121": "60 60 80 90 90 120",
    "R32:H": "60 60 80 90 90 120",
    "F432": "80 80 80 90 90 90",
    "P1": "30 40 50 80 85 95",
}


def truth_of(symbol: str, more: str = "") -> Truth:
    cell = CRYSTALS[symbol]
    params, _ = read_recipe(
        f"crystal.unit_cell={cell}\ncrystal.space_group={symbol}\n{more}"
    )
    return make_truth(params)


def by_definition(truth: Truth, symbol: str, hkl: np.ndarray) -> np.ndarray:
    """The formulas of docs/simulate.md, operation by operation, with cctbx."""
    group = sgtbx.space_group_info(symbol).group()
    laue = group.build_derived_laue_group().all_ops()
    centring = [
        np.array(op.t().as_double()) for op in group.all_ops() if op.r().is_unit_mx()
    ]
    s = np.linalg.norm(hkl @ truth.b_matrix.T, axis=1)
    halo, cloud = truth.halo, truth.cloud
    total_halo, total_cloud = 0.0, 0.0
    for op in laue:
        r = np.array(op.r().as_double()).reshape(3, 3)
        turned = hkl @ r
        periodic = np.exp(
            (np.array(halo.kappa) * (np.cos(2 * np.pi * turned) - 1)).sum(1)
        )
        factor = sum(np.exp(2j * np.pi * turned @ t) for t in centring) / len(centring)
        total_halo = total_halo + periodic * np.abs(factor) ** 2
        for u, length, w in zip(
            cloud.vectors, cloud.lengths, cloud.weights, strict=True
        ):
            wave = np.cos(2 * np.pi * turned @ np.array(u))
            total_cloud = total_cloud + w * (wave - np.sinc(2 * s * length))
    return (
        truth.spherical(s)
        + halo.amplitude * np.exp(-halo.b_factor * s**2 / 2) * total_halo / len(laue)
        + cloud.amplitude * np.exp(-cloud.b_factor * s**2 / 2) * total_cloud / len(laue)
    )


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    rng = np.random.default_rng(7)
    near = rng.integers(-6, 7, (200, 3)) + rng.normal(0, 0.1, (200, 3))
    return np.vstack([rng.uniform(-12, 12, (200, 3)), near])


@pytest.mark.parametrize("symbol", CRYSTALS)
def test_intensity_is_what_the_formulas_say(symbol, points):
    truth = truth_of(symbol, "diffuse.halo.width=0.1 0.15 0.08\n")
    expected = by_definition(truth, symbol, points)
    np.testing.assert_allclose(truth.intensity(points), expected, rtol=1e-10)
    assert expected.min() > 0


@pytest.mark.parametrize("symbol", CRYSTALS)
def test_intensity_has_laue_symmetry_and_no_more(symbol, points):
    truth = truth_of(symbol, "diffuse.halo.width=0.1 0.15 0.08\n")
    value = truth.intensity(points)
    group = sgtbx.space_group_info(symbol).group()
    for op in group.all_ops():
        r = np.array(op.r().as_double()).reshape(3, 3)
        for sign in (1, -1):
            np.testing.assert_allclose(
                truth.intensity(sign * points @ r), value, rtol=1e-10
            )
    if symbol != "F432":
        other = truth.intensity(points[:, [1, 0, 2]])
        assert np.abs(other / value - 1).max() > 0.05


def test_length_of_s_is_the_inverse_d_spacing(points):
    truth = truth_of("P1")
    cell = read_recipe(f"crystal.unit_cell={CRYSTALS['P1']}\n")[0].crystal.unit_cell
    hkl = np.round(points[200:]).astype(int)
    hkl = hkl[hkl.any(axis=1)]
    s = np.linalg.norm(hkl @ truth.b_matrix.T, axis=1)
    d = [cell.d(tuple(map(int, h))) for h in hkl]
    np.testing.assert_allclose(1 / s, d, rtol=1e-9)


@pytest.mark.parametrize(
    ("symbol", "allowed", "absent"),
    [
        ("C2", [(1, 1, 3), (4, 2, 1)], [(1, 2, 3), (4, 1, 1)]),
        ("R32:H", [(1, 0, 1), (1, 1, 0), (1, 1, 3)], [(1, 0, 0), (1, 1, 1)]),
        ("F432", [(1, 1, 1), (2, 0, 0)], [(1, 0, 0), (2, 1, 1)]),
    ],
)
def test_halos_sit_on_allowed_points_only(symbol, allowed, absent):
    truth = truth_of(symbol, "diffuse.cloud.amplitude=0\n")

    def excess(hkl):
        hkl = np.array(hkl, dtype=float)
        s = np.linalg.norm(hkl @ truth.b_matrix.T, axis=1)
        fall_off = truth.halo.amplitude * np.exp(-truth.halo.b_factor * s**2 / 2)
        return (truth.intensity(hkl) - truth.spherical(s)) / fall_off

    np.testing.assert_allclose(excess(allowed), 1, atol=1e-9)
    np.testing.assert_allclose(excess(absent), 0, atol=1e-9)


def test_cloud_has_no_isotropic_part():
    truth = truth_of("P3121", "diffuse.halo.amplitude=0\n")
    n = 20000
    i = np.arange(n) + 0.5
    z, angle = 1 - 2 * i / n, np.pi * (1 + 5**0.5) * i
    radius = np.sqrt(1 - z**2)
    sphere = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), z])
    for s in (0.1, 0.3, 0.6):
        hkl = s * sphere @ np.linalg.inv(truth.b_matrix).T
        value = truth.intensity(hkl)
        assert value.mean() == pytest.approx(truth.spherical(s), rel=1e-3)
        assert value.std() > 0.01 * value.mean()


@pytest.mark.parametrize("symbol", ["P212121", "P3121", "C2"])
@pytest.mark.parametrize(("sigma", "width"), [(0.04, 1 / 3), (0.12, 1.0)])
def test_voxel_average_is_the_mean_over_the_voxel(symbol, sigma, width):
    truth = truth_of(symbol, f"diffuse.halo.width={sigma} {sigma} {sigma}\n")
    centres = np.array([(1, 1, 2), (1.3, 0.1, 2), (0.5, 2, 1.2), (3, 1, 0)])
    widths = np.array([width, 0.5 * width, width])
    n = 60
    line = (np.arange(n) + 0.5) / n - 0.5
    nodes = np.stack(np.meshgrid(line, line, line), axis=-1).reshape(-1, 3) * widths
    brute = [truth.intensity(centre + nodes).mean() for centre in centres]
    np.testing.assert_allclose(truth.voxel_average(centres, widths), brute, rtol=1e-3)
    centre_only = truth.voxel_average(centres, widths, order=1)
    np.testing.assert_allclose(centre_only, truth.intensity(centres), rtol=1e-12)


def test_file_rebuilds_the_truth(tmp_path, points):
    import json

    truth = truth_of("R32:H", "beam.flux=3\n")
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({**truth.to_dict(), "simulation": {}}))
    again = Truth.from_file(path)
    assert again.flux == 3
    assert again.unit_cell == truth.unit_cell
    np.testing.assert_array_equal(again.intensity(points), truth.intensity(points))
    with pytest.raises(ValueError, match="format is None"):
        Truth.from_dict({})


def test_truth_needs_no_cctbx():
    code = (
        "import sys, diffuse_core.simulate.truth;"
        "assert not {'cctbx', 'dxtbx', 'dials'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crystal.space_group=P4\n", "symmetry of crystal.space_group=P 4"),
        ("crystal.unit_cell=None\n", "must be given"),
        ("diffuse.cloud.amplitude=1e8\n", "negative; choose at most"),
        (
            "diffuse.spherical { constant=0\n amplitude=0 }\n"
            "diffuse.cloud.amplitude=0\n",
            "positive everywhere",
        ),
    ],
)
def test_unusable_parameters_are_one_sentence(text, message):
    params, _ = read_recipe(text)
    with pytest.raises(ConfigError, match=message):
        make_truth(params)
