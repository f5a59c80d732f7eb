"""A recipe for one command serves the others too; mistakes are still refused."""

from __future__ import annotations

import pytest

from dials.util import Sorry

from diffuse_core.command_line import diffuse_integrate, diffuse_merge
from diffuse_core.simulate import recipe, run_simulation

RECIPE = """
block.width = 2
merging {
  symmetry = P1
}
mask {
  models = bragg resolution
  resolution.d_min = 3
}
output.map = other.nxs
"""
RAW = """
mode = rotation
crystal.space_group = P212121
scaling.fit = True
dials {
  stills_program = ssx
  find_spots.spotfinder.filter.d_min = 2
}
output.dials = steps
"""


@pytest.fixture
def scan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = f"{recipe('rotation_small')}\nscan.n_images = 2\n"
    return run_simulation(text, tmp_path / "scan")


def test_one_recipe_for_all_commands(scan, tmp_path):
    (tmp_path / "all.phil").write_text(RECIPE)
    diffuse_integrate.run([str(scan.expt_path), "all.phil", "nproc=1"])
    log = (tmp_path / "dials.diffuse_integrate.log").read_text()
    lines = [line for line in log.splitlines() if "not used here" in line]
    assert lines == [
        "Parameters of other commands, not used here: merging.symmetry output.map"
    ]
    working = (tmp_path / "dials.diffuse_integrate.phil").read_text()
    assert "merging" not in working and "other.nxs" not in working
    assert "d_min = 3" in working and "width = 2" in working
    diffuse_merge.run(["diffuse_observations", "all.phil", "output.pictures=None"])
    assert (tmp_path / "other.nxs").exists()
    log = (tmp_path / "dials.diffuse_merge.log").read_text()
    assert "not used here: block.width mask.models mask.resolution.d_min" in log


def test_a_recipe_that_starts_from_raw_images(scan, tmp_path):
    """Its parameters for programs of DIALS are left out where nothing is indexed."""
    (tmp_path / "raw.phil").write_text(f"{RECIPE}{RAW}")
    diffuse_integrate.run([str(scan.expt_path), "raw.phil", "nproc=1"])
    log = (tmp_path / "dials.diffuse_integrate.log").read_text()
    said = next(line for line in log.splitlines() if "not used here" in line)
    assert said.split(": ")[1].split() == [
        "merging.symmetry",
        "output.map",
        "mode",
        "crystal.space_group",
        "scaling.fit",
        "dials.stills_program",
        "dials.find_spots.spotfinder.filter.d_min",
        "output.dials",
    ]
    working = (tmp_path / "dials.diffuse_integrate.phil").read_text()
    assert "find_spots" not in working and "d_min = 3" in working


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("dials.find_spots.spotfinder.filter.d_mim = 2", "d_mim"),
        ("dials.find_spot.spotfinder.filter.d_min = 2", "d_min = 2"),
        ("dials.stills_programm = ssx", "stills_programm"),
        ("merging.min_pixel = 3", "min_pixel = 3"),
        ("mask.resolution.d_mim = 3", "d_mim"),
        ("block.width = wide", "block.width"),
    ],
)
def test_a_mistake_in_a_recipe_is_refused(scan, tmp_path, line, complaint):
    (tmp_path / "all.phil").write_text(f"{RECIPE}{line}\n")
    with pytest.raises(Sorry, match=complaint) as caught:
        diffuse_integrate.run([str(scan.expt_path), "all.phil", "nproc=1"])
    assert "merging.symmetry" not in str(caught.value)


def test_on_the_command_line_they_are_refused(scan):
    with pytest.raises(Sorry, match="merging.symmetry"):
        diffuse_integrate.run([str(scan.expt_path), "merging.symmetry=P1"])
