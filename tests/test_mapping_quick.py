"""Radial profiles and the laboratory grid, alone and through the whole chain."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from iotbx.phil import parse

from diffuse_core import config
from diffuse_core.boundary import image_of, setups_of
from diffuse_core.command_line import diffuse
from diffuse_core.compat import load_experiments
from diffuse_core.errors import ConfigError
from diffuse_core.grid import indices_of
from diffuse_core.io.files import read_merged
from diffuse_core.models import RunInputs
from diffuse_core.plugins.mapping import lab_grid, radial
from diffuse_core.plugins.mapping.lab_grid import LabGrid
from diffuse_core.plugins.mapping.radial import Radial
from diffuse_core.registry import Registry
from diffuse_core.simulate import recipe, run_simulation
from diffuse_core.simulate.truth import Truth
from diffuse_core.testing import (
    check_plugin,
    make_geometry,
    make_image,
    make_run,
)


@pytest.fixture(scope="module")
def scope():
    return config.master_scope(Registry.discover({}), (), ("mapping",))


def build(scope, run, text):
    params = scope.fetch(parse(text)).extract()
    (model,) = config.build_models(Registry.discover({}), params, run, "mapping")
    return model


# ---------------------------------------------------------------------- radial


def test_radial_bins_are_s_of_the_image_s_own_beam():
    geometry = make_geometry(1)
    shifted = replace(make_image(3), s_shift=np.array([0.01, -0.02, 0.005]))
    model = Radial(0.004, [100, 200], True)
    for image in (make_image(3), shifted):
        index = indices_of(model.voxels(image, geometry).ravel())
        s = np.linalg.norm(geometry.s.reshape(-1, 3) + image.s_shift, axis=1)
        np.testing.assert_array_equal(index[:, 0], 103)
        assert np.abs(index[:, 1] * 0.004 - s).max() <= 0.002 + 1e-6
        assert not index[:, 2].any()
    found = model.grid.s_norm(index, None)
    np.testing.assert_allclose(found, index[:, 1] * 0.004)


@pytest.mark.parametrize(
    ("per", "numbers"),
    [("image", [0, 7, 10]), ("experiment", [0, 0, 1]), ("run", [0, 0, 0])],
)
def test_radial_profiles_are_numbered(scope, per, numbers):
    run = make_run()
    model = build(scope, run, f"mapping.model = radial\nmapping.radial.per = {per}")
    if per == "image":
        model = Radial(0.005, [0, 10], True)
    images = [make_image(0), make_image(7), make_image(still=True)]
    found = [model.voxels(image, make_geometry(0)) for image in images]
    assert [int(indices_of(v.ravel())[0, 0]) for v in found] == numbers


# -------------------------------------------------------------------- lab_grid


def test_laboratory_frame_is_s():
    image = replace(make_image(3), s_shift=np.array([0.01, 0.0, -0.02]))
    affine = LabGrid(0.02).affine(image)
    s = np.array([0.1, -0.3, 0.2])
    np.testing.assert_allclose(
        affine[:, :3] @ s + affine[:, 3], (s + image.s_shift) / 0.02
    )


def test_goniometer_frame_is_that_of_dials_at_zero(data_dir, scope):
    """A hkl, without any rotation of the goniometer, for four real sweeps."""
    path = data_dir / "l_cysteine/dials/refined.expt"
    experiments = load_experiments(str(path), check_format=False)
    run = RunInputs(experiments, None, setups_of(experiments))
    model = build(scope, run, "mapping.model = lab_grid")
    hkl = np.array([3.0, -2.0, 5.0])
    for number, experiment in enumerate(experiments):
        image = image_of(experiment, number, 4)
        s = np.linalg.solve(image.to_hkl, hkl) - image.s_shift
        affine = model.affine(image)
        found = 0.01 * (affine[:, :3] @ s + affine[:, 3])
        points = experiment.crystal.num_scan_points
        settings = [experiment.crystal.get_A()]
        if points:
            settings = [experiment.crystal.get_A_at_scan_point(i) for i in (4, 5)]
        expected = np.mean([np.reshape(a, (3, 3)) for a in settings], axis=0) @ hkl
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_still_without_goniometer_stays_in_the_laboratory(scope):
    model = build(scope, make_run(), "mapping.model = lab_grid")
    affine = model.affine(make_image(still=True))
    np.testing.assert_allclose(affine[:, :3], np.eye(3) / 0.01)


@pytest.mark.parametrize("name", ["radial", "lab_grid"])
def test_steps_of_nothing_are_refused(scope, name):
    with pytest.raises(ConfigError, match=f"mapping.{name}.step"):
        build(scope, make_run(), f"mapping.model={name}\nmapping.{name}.step=0")


@pytest.mark.parametrize("module", [radial, lab_grid])
def test_contract(module):
    check_plugin(module)


# ------------------------------------------------------------------- the chain


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Four images of a radial truth: a ring, nothing else."""
    text = """
    scan.n_images = 4
    bragg.enable = False
    diffuse {
      spherical.ring { height = 2
        d = 3.3
        width = 0.03 }
      halo.amplitude = 0
      cloud.amplitude = 0
    }
    beam.flux = 20
    """
    folder = tmp_path_factory.mktemp("radial")
    return run_simulation(recipe("rotation_small") + text, folder)


def reduce(simulated, folder, monkeypatch, *more):
    monkeypatch.chdir(folder)
    diffuse.run([str(simulated.expt_path), "mask.models=None", "nproc=1", *more])
    figures = json.loads((folder / "dials.diffuse.json").read_text())
    return read_merged("diffuse_merged.nxs"), figures


def test_profiles_of_a_run_are_those_of_the_truth(simulated, tmp_path, monkeypatch):
    merged, figures = reduce(
        simulated, tmp_path, monkeypatch, "mapping.model=radial", "radial.step=0.02"
    )
    assert merged.symmetry == "P1"
    assert figures["merging"]["overall"]["voxels"] == len(merged)
    assert set(merged.index[:, 0]) == {0, 1, 2, 3}
    s = merged.index[:, 1] * 0.02
    expected = 20 * Truth.from_file(simulated.truth_path).spherical(s)
    inside = (s > 0.15) & (s < 0.4)
    pull = (merged.intensity - expected)[inside] / merged.sigma[inside]
    assert abs(np.average(merged.intensity[inside] / expected[inside]) - 1) < 0.01
    assert np.abs(np.median(pull)) < 1
    for number in range(4):
        one = merged.index[:, 0] == number
        peak = s[one][np.argmax(np.where(s[one] > 0.2, merged.intensity[one], 0))]
        assert abs(peak - 1 / 3.3) < 0.03
    pictures = sorted(p.name for p in (tmp_path / "diffuse_pictures").glob("*.png"))
    assert pictures == ["section_numbers0.png"]


def test_laboratory_maps_are_merged_and_drawn(simulated, tmp_path, monkeypatch):
    """In the laboratory all images fall onto one and the same Ewald sphere."""
    voxels = []
    for frame in ("goniometer", "laboratory"):
        folder = tmp_path / frame
        folder.mkdir()
        more = [f"lab_grid.frame={frame}", "lab_grid.step=0.015"]
        merged, _ = reduce(
            simulated, folder, monkeypatch, "mapping.model=lab_grid", *more
        )
        assert merged.symmetry == "P1"
        assert len(list((folder / "diffuse_pictures").glob("*.png"))) == 3
        voxels.append(len(merged))
    assert voxels[0] > 1.2 * voxels[1]
