"""Simulated rotation images, with no .expt, make a map as good as exact models do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest

from dials.array_family import flex

from diffuse_core.compat import load_experiments
from diffuse_core.io.files import read_merged
from diffuse_core.simulate import run_simulation
from diffuse_core.simulate.truth import Truth
from diffuse_core.statistics import correlation, spherical_average

pytestmark = pytest.mark.slow

RECIPE = """
detector { name = pilatus_300k
  distance = 100 }
scan { width = 0.5
  n_images = 20 }
crystal { unit_cell = 28 36 44 90 90 90
  space_group = P212121
  mosaicity = 0.1 }
bragg { amplitude = 10
  d_min = 1.8 }
"""
OPTIONS = (
    "mapping.hkl_grid.divisions=4,4,4",
    "parallel.nproc=1",
    "output.pictures=None",
    "output.html=None",
)
FEW_TRIALS = "dials.index.indexing.basis_vector_combinations.max_refine=5"
"""dials.index refines 50 candidates in most of its time; the first ones are enough."""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return run_simulation(RECIPE, tmp_path_factory.mktemp("rotation"))


@pytest.fixture(scope="module")
def reduced(images, run_command, tmp_path_factory):
    """Folder of a run that was killed while it integrated and then continued."""
    folder = tmp_path_factory.mktemp("reduced")
    template = str(images.expt_path.parent / "simulated_#####.cbf")
    arguments = [template, "crystal.space_group=P212121", FEW_TRIALS, *OPTIONS]
    program = Path(sysconfig.get_path("scripts")) / "dials.diffuse"
    process = subprocess.Popen(
        [program, *arguments], cwd=folder, stdout=subprocess.DEVNULL
    )
    steps = folder / "diffuse_dials" / "steps.json"
    until = time.monotonic() + 240
    while time.monotonic() < until and process.poll() is None:
        if steps.exists() and "index" in json.loads(steps.read_text()):
            break
        time.sleep(0.1)
    time.sleep(1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = run_command("dials.diffuse", *arguments, cwd=folder, timeout=1200)
    return folder, done.stdout + done.stderr


def quality(folder, truth, far=True) -> float:
    """Correlation of the anisotropic part with the truth.

    Args:
        far: Only voxels far from lattice points. The truth is averaged over whole
            voxels: those whose peak of diffuse scattering a mask cuts off agree the
            worse with it the larger the mask is.

    Voxels that few pixels touch are left out: they hold noise and little else.
    """
    merged = read_merged(folder / "diffuse_merged.nxs")
    use = merged.exposure > 0.2 * np.median(merged.exposure)
    if far:
        use &= (merged.index % 4 == 2).any(axis=1)
    centres = merged.grid.centres(merged.index)[use]
    s = merged.grid.s_norm(merged.index, merged.unit_cell)[use]
    true = truth.voxel_average(centres, np.array(merged.grid.steps))
    found, expected = (
        values - spherical_average(s, values)(s)
        for values in (merged.intensity[use], true)
    )
    return correlation(found, expected)


def test_killed_run_continues(reduced):
    _, text = reduced
    for program in ("import", "find_spots", "index"):
        assert f"dials.{program}: done by an earlier run" in text
    assert "dials.integrate ..." in text


def test_route_is_logged(reduced):
    folder, _ = reduced
    log = (folder / "dials.diffuse.log").read_text()
    assert "reduced as rotation: each image is 0.5 degrees wide" in log


def test_map_is_as_good_as_with_exact_models(images, reduced, run_command, tmp_path):
    folder, _ = reduced
    run_command(
        "dials.diffuse",
        images.expt_path,
        images.refl_path,
        *OPTIONS,
        cwd=tmp_path,
        timeout=1200,
    )
    truth = Truth.from_file(images.truth_path)
    exact, found = quality(tmp_path, truth), quality(folder, truth)
    print(f"CC with exact models {exact:.4f}, from images {found:.4f}")
    assert exact > 0.6
    assert found > 0.99 * exact


def test_near_lattice_points_too_where_masks_are_equal(
    images, reduced, run_command, tmp_path
):
    """All voxels: exact geometry, with the sizes of spots that DIALS finds."""
    folder, _ = reduced
    dials = folder / "diffuse_dials"
    document = json.loads((dials / "integrated.expt").read_text())
    exact_models = json.loads(images.expt_path.read_text())
    for kind in ("crystal", "beam", "detector", "goniometer"):
        document[kind] = exact_models[kind]
    (tmp_path / "exact.expt").write_text(json.dumps(document))
    run_command(
        "dials.diffuse",
        "exact.expt",
        dials / "spots.refl",
        *OPTIONS,
        cwd=tmp_path,
        timeout=1200,
    )
    truth = Truth.from_file(images.truth_path)
    exact, found = (quality(f, truth, far=False) for f in (tmp_path, folder))
    print(f"CC of all voxels with exact models {exact:.4f}, from images {found:.4f}")
    assert exact > 0.65
    assert found > 0.99 * exact


def test_parameters_of_programs_reach_them(reduced, run_command, tmp_path):
    """From imported.expt on: nothing is imported; an error is one sentence."""
    folder, _ = reduced
    imported = folder / "diffuse_dials" / "imported.expt"
    done = run_command(
        "dials.diffuse",
        imported,
        "dials.find_spots.spotfinder.filter.d_min=20",
        cwd=tmp_path,
        status=1,
        timeout=1200,
    )
    assert "d_min = 20" in (tmp_path / "diffuse_dials" / "find_spots.phil").read_text()
    assert not (tmp_path / "diffuse_dials" / "import.phil").exists()
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Sorry: dials.")
    assert "stopped: " in last
    assert ".log, its parameters are set with dials." in last


def test_reversed_axis_is_named(reduced, run_command, tmp_path):
    folder, _ = reduced
    dials = folder / "diffuse_dials"
    document = json.loads((dials / "imported.expt").read_text())
    (goniometer,) = document["goniometer"]
    goniometer["rotation_axis"] = [-x for x in goniometer["rotation_axis"]]
    wrong = tmp_path / "wrong.expt"
    wrong.write_text(json.dumps(document))
    done = run_command(
        "dials.diffuse",
        wrong,
        dials / "strong.refl",
        "crystal.space_group=P212121",
        FEW_TRIALS,
        "parallel.nproc=1",
        cwd=tmp_path,
        status=1,
        timeout=1200,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "The rotation axis is reversed" in last
    assert "invert_rotation_axis=True" in last
    assert not (tmp_path / "diffuse_observations").exists()


def test_beam_centre_off_by_five_pixels_is_named(reduced, run_command, tmp_path):
    """12 images: background and refinement find the centre, and a map comes out."""
    folder, _ = reduced
    (one,) = experiments = load_experiments(
        str(folder / "diffuse_dials" / "imported.expt"), check_format=True
    )
    one.imageset = one.imageset[0:12]
    one.scan = one.imageset.get_scan()
    (panel,) = one.detector
    centre = np.array(panel.get_beam_centre_px(one.beam.get_s0()))
    fast, slow = map(np.array, (panel.get_fast_axis(), panel.get_slow_axis()))
    pixel = panel.get_pixel_size()
    origin = panel.get_origin() - 3 * pixel[0] * fast + 4 * pixel[1] * slow
    panel.set_frame(fast, slow, origin)
    wrong = panel.get_beam_centre_px(one.beam.get_s0())
    assert np.allclose(wrong - centre, [3, -4])
    experiments.as_file(str(tmp_path / "wrong.expt"))
    spots = flex.reflection_table.from_file(
        str(folder / "diffuse_dials" / "strong.refl")
    )
    spots = spots.select(spots["xyzobs.px.value"].parts()[2] < 12)
    spots.as_file(str(tmp_path / "strong.refl"))
    run_command(
        "dials.diffuse",
        "wrong.expt",
        "strong.refl",
        "crystal.space_group=P212121",
        FEW_TRIALS,
        "dials.index.indexing.method=fft1d",
        "mapping.hkl_grid.divisions=1,1,1",
        "merging.half_sets=None",
        "merging.leave_one_out=False",
        "parallel.nproc=1",
        "output.pictures=None",
        "output.html=None",
        cwd=tmp_path,
        timeout=1200,
    )
    summary = json.loads((tmp_path / "diffuse_dials" / "summary.json").read_text())
    background, refined = summary["warnings"]
    advice = re.search(r"fast_slow_beam_centre=([\d.]+),([\d.]+)\.$", background)
    assert np.allclose([float(x) for x in advice.groups()], centre, atol=2)
    assert refined.startswith("The beam centre of the headers is off")
    found = re.search(r"to ([\d.]+), ([\d.]+)\.$", refined)
    assert np.allclose([float(x) for x in found.groups()], centre, atol=0.2)
    merged = read_merged(tmp_path / "diffuse_merged.nxs")
    assert len(merged.index) > 1000
    assert np.isfinite(merged.intensity).all()


def test_geometry_is_validated(images, reduced):
    """Residuals, pictures and the report of a good geometry; none of its complaints."""
    folder, text = reduced
    assert "Observed against predicted" in text
    pictures = list((folder / "diffuse_dials" / "pictures").glob("spots_*.png"))
    assert len(pictures) == 3
    summary = json.loads((folder / "diffuse_dials" / "summary.json").read_text())
    assert summary["warnings"] == []
