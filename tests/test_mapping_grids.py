"""Grid mappings against DIALS' predictions and its own reciprocal-space vectors."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from dials.array_family import flex
from dxtbx import flumpy

from diffuse_core.boundary import image_of
from diffuse_core.compat import load_experiments
from diffuse_core.errors import ConfigError
from diffuse_core.models import Image, RunInputs
from diffuse_core.plugins.mapping.hkl_grid import HklGrid
from diffuse_core.plugins.mapping.q_grid import QGrid

IMAGE = Image(
    experiment=0,
    index=0,
    phi=0.0,
    width=0.1,
    exposure=1.0,
    to_hkl=np.array([[10.0, 0, 0], [3.0, 20.0, 0], [0, 0, 30.0]]),
    s_shift=np.array([0.0, 0.001, 0.0]),
    axis=np.array([1.0, 0, 0]),
)


def apply(affine, s):
    return affine[:, :3] @ s + affine[:, 3]


@pytest.fixture(scope="module")
def l_cysteine(data_dir):
    """Four sweeps, two goniometer axes, varying crystals; predictions of DIALS."""
    path = data_dir / "l_cysteine/dials/integrated.expt"
    experiments = load_experiments(str(path), check_format=False)
    table = flex.reflection_table()
    for number, experiment in enumerate(experiments):
        one = flex.reflection_table.from_predictions(experiment, dmin=0.8)
        one["id"] = flex.int(len(one), number)
        table.extend(one)
    return experiments, table


def grid_positions(mapper, experiments, table):
    """(n, 3) voxel coordinates of the predicted positions of a table."""
    found = []
    for number, s1, (_, _, z) in zip(
        table["id"], table["s1"], table["xyzcal.px"], strict=True
    ):
        experiment = experiments[number]
        z -= experiment.scan.get_array_range()[0]
        image = image_of(experiment, number, int(z), (z - int(z), 1.0))
        s = np.array(s1) - np.array(experiment.beam.get_s0())
        found.append(apply(mapper.affine(image), s))
    return np.array(found)


def test_hkl_grid_has_n_voxels_per_index_and_whole_indices_at_centres():
    mapper = HklGrid((4, 2, 1))
    assert mapper.grid.frame == "hkl"
    assert mapper.grid.steps == (0.25, 0.5, 1.0)
    hkl = np.array([1.25, -2.5, 7.0])
    s = np.linalg.solve(IMAGE.to_hkl, hkl) - IMAGE.s_shift
    np.testing.assert_allclose(apply(mapper.affine(IMAGE), s), [5, -5, 7], atol=1e-9)
    np.testing.assert_allclose(mapper.grid.centres([[5, -5, 7]]), [hkl])


def test_hkl_grid_puts_predicted_reflections_on_their_indices(l_cysteine):
    experiments, table = l_cysteine
    hkl = np.array(table["miller_index"].as_vec3_double())
    divisions = np.array([5, 3, 2])
    found = grid_positions(HklGrid(divisions), experiments, table)
    assert set(table["id"]) == {0, 1, 2, 3}
    np.testing.assert_allclose(found, hkl * divisions, atol=3e-5)


def test_q_grid_is_the_frame_of_dials_at_goniometer_zero(data_dir):
    path = str(data_dir / "snase/dials/refined_10")
    experiments = load_experiments(path + ".expt", check_format=False)
    assert experiments[0].crystal.num_scan_points == 0
    table = flex.reflection_table.from_file(path + ".refl")
    table = table.select(table["id"] >= 0)[:200]
    mapper = QGrid(0.02, [np.reshape(experiments[0].crystal.get_A(), (3, 3))])
    table["imageset_id"] = table["id"]
    table.map_centroids_to_reciprocal_space(experiments, calculated=True)
    expected = flumpy.to_numpy(table["rlp"])
    found = grid_positions(mapper, experiments, table) * 0.02
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert mapper.grid.steps == (0.02, 0.02, 0.02)
    assert (mapper.grid.frame, mapper.grid.units) == ("q", "1/A")


def test_q_grid_takes_out_the_variation_of_the_crystal(l_cysteine):
    experiments, table = l_cysteine
    first = experiments[0].crystal
    assert first.num_scan_points > 0
    table = table.select(table["id"] == 0)
    run = RunInputs(experiments, None, (0, 0, 0, 1))
    params = SimpleNamespace(step=0.05, oversample=[1, 1, 1])
    found = grid_positions(QGrid.from_params(params, run), experiments, table) * 0.05
    hkl = np.array(table["miller_index"].as_vec3_double())
    expected = hkl @ np.reshape(first.get_A(), (3, 3)).T
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_q_grid_lays_crystals_of_all_orientations_upon_each_other():
    rng = np.random.default_rng(2)
    experiments, orientations = [], []
    b = np.diag([0.1, 0.05, 0.04])
    for _ in range(2):
        u, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        u *= np.linalg.det(u)
        orientations.append(u)
        crystal = SimpleNamespace(get_U=lambda u=u: u.ravel(), get_B=lambda: b.ravel())
        experiments.append(SimpleNamespace(crystal=crystal))
    params = SimpleNamespace(step=0.01, oversample=[1, 1, 1])
    mapper = QGrid.from_params(params, RunInputs(experiments, None, (0, 0)))
    hkl = np.array([3.2, -1.5, 4.0])
    for number, u in enumerate(orientations):
        image = replace(
            IMAGE,
            experiment=number,
            to_hkl=np.linalg.inv(u @ b),
            s_shift=np.zeros(3),
        )
        found = apply(mapper.affine(image), u @ b @ hkl)
        np.testing.assert_allclose(found, orientations[0] @ b @ hkl / 0.01)


def test_q_grid_refuses_a_step_of_zero():
    with pytest.raises(ConfigError, match=r"mapping\.q_grid\.step"):
        QGrid.from_params(SimpleNamespace(step=0.0, oversample=[1, 1, 1]), None)
