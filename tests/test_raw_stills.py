"""Simulated stills, with no .expt: indexed, and broken ones change nothing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from diffuse_core.boundary import exposure_time
from diffuse_core.compat import load_experiments
from diffuse_core.io.files import read_merged
from diffuse_core.raw_images.cells import largest_group
from diffuse_core.raw_images.screening import problem_with, unreadable
from diffuse_core.simulate import run_simulation

CELL = [38.0, 46.0, 54.0, 90.0, 90.0, 90.0]
RECIPE = """
detector {{ name = pilatus_300k
  distance = 80 }}
stills.n = {n}
stills.seed = {seed}
crystal {{ unit_cell = {cell}
  space_group = P212121
  mosaicity = 0.1 }}
bragg {{ amplitude = {bragg}
  d_min = 2.8 }}
diffuse.cloud.length = 3 12
"""
GOOD = ["good_00001.cbf", "good_00002.cbf", "good_00003.cbf", "good_00004.cbf"]


def simulate(folder, n=1, seed=1, cell=CELL, bragg=30):
    text = RECIPE.format(n=n, seed=seed, bragg=bragg, cell=" ".join(map(str, cell)))
    return run_simulation(text, folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Folder `good` with four stills; `all` with those and four that are no use."""
    root = tmp_path_factory.mktemp("stills")
    simulate(root / "simulated", n=4)
    simulate(root / "other", seed=8, cell=[31.0, 61.0, 70.0, 90.0, 90.0, 90.0])
    simulate(root / "blank", seed=9, bragg=0)
    for name in ("good", "all"):
        (root / name).mkdir()
        for number, target in enumerate(GOOD, 1):
            source = root / "simulated" / f"simulated_{number:05d}.cbf"
            shutil.copy(source, root / name / target)
    bad = root / "all"
    shutil.copy(root / "other" / "simulated_00001.cbf", bad / "other_00001.cbf")
    shutil.copy(root / "blank" / "simulated_00001.cbf", bad / "blank_00001.cbf")
    for name in ("good", "all"):
        path = root / name / GOOD[1]
        text = path.read_bytes()
        assert b"Exposure_period 1 s" in text
        path.write_bytes(text.replace(b"Exposure_period 1 s", b"Exposure_period 2 s"))
    whole = (bad / GOOD[0]).read_bytes()
    (bad / "truncated_00001.cbf").write_bytes(whole[: len(whole) // 2])
    (bad / "empty_00001.cbf").write_bytes(b"")
    (bad / "garbage_00001.cbf").write_bytes(bytes(range(256)) * 40)
    return root


def test_problems_are_named(images):
    folder = images / "all"
    assert problem_with(str(folder / GOOD[0])) is None
    assert problem_with(str(folder / "truncated_00001.cbf")) == "damaged image"
    assert problem_with(str(folder / "empty_00001.cbf")) == "empty file"
    assert problem_with(str(folder / "garbage_00001.cbf")) == (
        "no image of a known format"
    )


def test_files_are_read_once(images, tmp_path, monkeypatch):
    files = [str(images / "all" / name) for name in (GOOD[0], "truncated_00001.cbf")]
    first = unreadable(files, 1, tmp_path / "images.json")
    assert first == {files[1]: "damaged image"}
    monkeypatch.setattr("diffuse_core.raw_images.screening._look", None)
    assert unreadable(files, 1, tmp_path / "images.json") == first


def test_the_largest_group_of_cells():
    rng = np.random.default_rng(1)
    cells = np.tile(CELL, (12, 1)) * (1 + 0.004 * rng.standard_normal((12, 6)))
    cells[3] = [31, 61, 70, 90, 90, 90]
    cells[7, 0] *= 1.08
    found = largest_group(cells, 0.05, 3.0)
    assert np.flatnonzero(~found.same).tolist() == [3, 7]
    assert np.allclose(found.median, CELL, rtol=5e-3)
    assert np.all(found.spread < 0.012 * np.array(CELL))


@pytest.mark.slow
def test_useless_images_change_nothing(images, run_command, tmp_path):
    options = (
        "crystal.unit_cell=38,46,54,90,90,90",
        "crystal.space_group=P212121",
        "dials.stills_program=ssx",
        "dials.ssx_index.method=fft1d",
        "dials.ssx_index.indexing.stills.refine_all_candidates=False",
        "dials.ssx_integrate.algorithm=stills",
        "mask.resolution.d_min=4",
        "parallel.nproc=1",
        "output.pictures=None",
        "output.html=None",
    )
    merged, texts = [], []
    for name in ("good", "all"):
        folder = tmp_path / name
        folder.mkdir()
        done = run_command(
            "dials.diffuse", images / name, *options, cwd=folder, timeout=900
        )
        texts.append(done.stdout)
        merged.append(read_merged(folder / "diffuse_merged.nxs"))
    assert "4 of 4 stills were indexed" in texts[0]
    assert "4 of 9 stills were indexed" in texts[1]
    for reason in ("1 empty file", "1 damaged image", "1 no image", "1 too few spots"):
        assert reason in texts[1]
    assert "1 not indexed" in texts[1] or "1 another unit cell" in texts[1]
    good, everything = merged
    assert np.array_equal(good.index, everything.index)
    assert np.array_equal(good.counts, everything.counts)
    assert np.array_equal(good.intensity, everything.intensity)
    assert "Images without an exposure time" not in texts[1]
    path = tmp_path / "all" / "diffuse_dials" / "stills.expt"
    kept = load_experiments(str(path), check_format=False)
    assert [exposure_time(one, 0) for one in kept] == [1.0, 2.0, 1.0, 1.0]
    steps = json.loads((tmp_path / "all" / "diffuse_dials" / "steps.json").read_text())
    assert "ssx_integrate" in steps
