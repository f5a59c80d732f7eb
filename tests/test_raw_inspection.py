"""Faults planted in image files are found by a look at them, before any indexing."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import dxtbx
from dials.array_family import flex
from dxtbx import flumpy

from diffuse_core.errors import InputError
from diffuse_core.inputs import load
from diffuse_core.io.masks import read_mask
from diffuse_core.raw_images import summary, validation
from diffuse_core.raw_images.inspection import inspect
from diffuse_core.raw_images.steps import Step, Steps
from diffuse_core.simulate import minicbf, run_simulation

RECIPE = """
detector { name = pilatus_300k
  distance = 110 }
scan { n_images = 10
  width = 12 }
crystal.unit_cell = 38 46 54 90 90 90
bragg.d_min = 3
diffuse.cloud.length = 3 12
background.air.amplitude = 6e6
"""
REFILL = "scale.values = 1 0.97 0.94 0.91 0.88 0.85 1.1 1.07 1.04 1.01\n"
STOP = 20


def no_progress(done, total):
    """Instead of a progress bar."""


def imported(folder, files, user=""):
    steps = Steps(folder, {"import": user} if user else {})
    step = Step("import", "import", files, {"output.experiments": "imported.expt"})
    return steps, steps.run(step)[0]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    return run_simulation(RECIPE, folder)


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A refill of the beam, and a beam stop that no mask covers."""
    folder = tmp_path_factory.mktemp("bad")
    result = run_simulation(RECIPE + REFILL, folder)
    for path in sorted(folder.glob("*.cbf")):
        image = dxtbx.load(str(path))
        counts = flumpy.to_numpy(image.get_raw_data()).copy()
        text = path.read_bytes().split(b";")[1].decode().strip()
        counts[stop_of(image.get_detector()[0], image.get_beam()) & (counts > 0)] = 0
        minicbf.write(path, counts, "DECTRIS PILATUS 300K", text)
    return result


def stop_of(panel, beam):
    n_fast, n_slow = panel.get_image_size()
    slow, fast = np.mgrid[0:n_slow, 0:n_fast] + 0.5
    centre = panel.get_beam_centre_px(beam.get_s0())
    return np.hypot(fast - centre[0], slow - centre[1]) < STOP


def cbf(result):
    return sorted(result.expt_path.parent.glob("*.cbf"))


def test_good_images_are_quiet(good, tmp_path):
    steps, path = imported(tmp_path, cbf(good))
    assert inspect(steps, path, 1, no_progress) == []


def test_planted_faults_are_named(bad, tmp_path):
    panel = load([str(bad.expt_path)], (), False)[0][0].detector[0]
    true = panel.get_beam_centre_px((0, 0, -1))
    wrong = f"{true[0] - 4}, {true[1] + 3}"
    user = f"geometry.detector.fast_slow_beam_centre = {wrong}"
    steps, path = imported(tmp_path, cbf(bad), user)
    told = inspect(steps, path, 1, no_progress)
    assert any("jumps at simulated_00007.cbf (x 1." in text for text in told)
    centre = next(text for text in told if "background is centred" in text)
    found = [float(x) for x in centre.rstrip(".").split("=")[1].split(",")]
    assert np.allclose(found, true, atol=0.7)
    assert any("shadow of a beam stop" in text for text in told)
    (keep,) = read_mask(str(tmp_path / "beam_stop.mask"))
    n_fast, n_slow = panel.get_image_size()
    slow, fast = np.mgrid[0:n_slow, 0:n_fast] + 0.5
    r = np.hypot(fast - true[0], slow - true[1])
    assert keep[r > STOP + 8].all()
    assert not keep[r < STOP - 2].any()
    assert inspect(steps, path, 1, None) == told


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "1 of 10 images of a scan can't be imported (simulated_00005.cbf)"),
        (30000, "The image simulated_00005.cbf can't be read"),
    ],
)
def test_broken_image_of_a_scan_is_named(good, tmp_path, run_command, size, message):
    for path in cbf(good):
        shutil.copy(path, tmp_path)
    broken = tmp_path / "simulated_00005.cbf"
    broken.write_bytes(broken.read_bytes()[:size])
    done = run_command("dials.diffuse", ".", "parallel.nproc=1", cwd=tmp_path, status=1)
    assert message in done.stderr.strip().splitlines()[-1]


def test_exact_models_have_small_residuals(good):
    experiments, table = load([str(good.expt_path)], [str(good.refl_path)], False)
    found = validation.residuals(experiments, as_seen(table))
    assert len(found.d) > 100
    assert np.median(found.distance) < 0.01
    assert validation.judge(found, 1) == []


def test_wrong_models_are_refused(good):
    experiments, table = load([str(good.expt_path)], [str(good.refl_path)], False)
    crystal = experiments[0].crystal
    crystal.rotate_around_origin((0, 1, 0), 4.0, deg=True)
    found = validation.residuals(experiments, as_seen(table))
    with pytest.raises(InputError, match="indices from where they should be"):
        validation.judge(found, 1)


def test_moved_beam_centre_is_named(good):
    before = load([str(good.expt_path)], (), False)[0][0]
    after = load([str(good.expt_path)], (), False)[0][0]
    assert summary.moved(before, after) == []
    panel = after.detector[0]
    origin = np.array(panel.get_origin())
    moved = origin - 5 * 0.172 * np.array(panel.get_fast_axis())
    panel.set_frame(panel.get_fast_axis(), panel.get_slow_axis(), tuple(moved))
    (text,) = summary.moved(before, after)
    assert "+5.0, +0.0 pixels" in text or "+5.0, -0.0 pixels" in text


def test_orientations_of_one_crystal_agree(good):
    experiments = [load([str(good.expt_path)], (), False)[0][0] for _ in range(2)]
    assert validation.orientation_spread(experiments) < 1e-4
    experiments[1].crystal.rotate_around_origin((1, 0, 0), 0.4, deg=True)
    assert validation.orientation_spread(experiments) == pytest.approx(0.2, abs=1e-3)


def as_seen(table):
    """Predictions of the simulation in the place of observed centroids."""
    table["xyzobs.px.value"] = table["xyzcal.px"]
    table.set_flags(flex.bool(len(table), True), table.flags.strong)
    return table
