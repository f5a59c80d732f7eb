"""The sense of rotation, from the map and from the places of spots."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dials.array_family import flex
from scitbx import matrix

from diffuse_core.checks.symmetry_mates import agreement
from diffuse_core.compat import load_experiments
from diffuse_core.errors import InputError
from diffuse_core.raw_images import map_test, rotation_sense
from diffuse_core.simulate import run_simulation

RECIPE = """
detector { name = test_small
  distance = 50 }
scan { n_images = 8
  start = 20
  width = 1 }
crystal.unit_cell = 28 36 44 90 90 90
bragg.d_min = 2.5
"""


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return run_simulation(RECIPE, tmp_path_factory.mktemp("scan"))


def turned_the_other_way(path: Path, target: Path) -> Path:
    """The axis reversed, the crystal as it is in the middle of the scan."""
    experiments = load_experiments(str(path), check_format=False)
    (one,) = experiments
    first, last = one.scan.get_oscillation_range()
    axis = matrix.col(one.goniometer.get_rotation_axis_datum())
    fixed = matrix.sqr(one.goniometer.get_fixed_rotation())
    twice = axis.axis_and_angle_as_r3_rotation_matrix(first + last, deg=True)
    crystal = one.crystal
    crystal.reset_scan_points()
    u = fixed.inverse() * twice * fixed * matrix.sqr(crystal.get_U())
    crystal.set_U(u)
    one.goniometer.set_rotation_axis(-axis)
    experiments.as_file(str(target))
    return target


def test_reversed_axis_shows_in_the_map(scan, tmp_path):
    assert map_test.say(scan.expt_path) == []
    wrong = turned_the_other_way(scan.expt_path, tmp_path / "wrong.expt")
    (sentence,) = map_test.say(wrong)
    assert "The rotation axis of experiment 0 seems to be reversed" in sentence
    assert "invert_rotation_axis=True" in sentence


def test_mates_of_a_symmetric_function_correlate():
    """cos(h) cos(2 k) has mmm, but not the fourfold axis of 4/mmm."""
    rng = np.random.default_rng(1)
    hkl = rng.integers(-15, 16, (20_000, 3)) / 3.0
    values = 2 + np.cos(hkl[:, 0]) * np.cos(2 * hkl[:, 1])
    signs = [np.diag(s) for s in np.ndindex(2, 2, 2)]
    mmm = [np.eye(3, dtype=int) - 2 * sign for sign in signs]
    place = np.zeros(len(hkl), int)
    right, voxels = agreement(hkl, values, place, mmm)
    assert right == pytest.approx(1.0)
    assert voxels > 1000
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    fourfold = [r @ o for o in (np.eye(3, dtype=int), swap) for r in mmm]
    wrong, _ = agreement(hkl, values, place, fourfold)
    assert wrong < 0.8


def test_what_depends_on_the_place_alone_does_not_count():
    rng = np.random.default_rng(2)
    hkl = rng.integers(-9, 10, (20_000, 3)) / 3.0
    place = np.abs(np.rint(hkl[:, 0])).astype(int)
    values = (1.0 + place) * rng.uniform(0.8, 1.2, len(hkl))
    mmm = [np.eye(3, dtype=int) - 2 * np.diag(s) for s in np.ndindex(2, 2, 2)]
    found, voxels = agreement(hkl, values, place, mmm)
    assert abs(found) < 4 / np.sqrt(voxels)


@dataclass
class Programs:
    """Instead of dials.index: hands out a table that indexes with the axis reversed."""

    folder: Path
    reflections: Path

    def once(self, name, inputs, outputs, work):
        work()

    def run(self, step):
        return [self.folder / "indexed.expt", self.reflections]


def table(path: Path, part: float, astray: float) -> Path:
    n = 200
    spots = flex.reflection_table()
    spots["xyzobs.px.value"] = flex.vec3_double(n, (100.0, 100.0, 3.0))
    spots["xyzcal.px"] = flex.vec3_double(
        n, (100.0 + 0.6 * astray, 100 - 0.8 * astray, 3)
    )
    spots["flags"] = flex.size_t(n, 0)
    spots.set_flags(flex.bool(np.arange(n) < part * n), spots.flags.indexed)
    spots.as_file(str(path))
    return path


@pytest.mark.parametrize(
    ("as_given", "other", "wrong"),
    [
        ((0.7, 2.0), (0.95, 0.1), True),
        ((0.5, 2.0), (0.9, 2.0), True),
        ((0.7, 2.0), (0.7, 1.9), False),
        ((0.5, 0.2), (0.6, 0.2), False),
        ((0.9, 0.1), (1.0, 0.01), False),
    ],
)
def test_reversed_axis_of_a_narrow_wedge(tmp_path, as_given, other, wrong):
    """Most spots are indexed, but pixels away from their places."""
    imported = tmp_path / "imported.expt"
    imported.write_text(json.dumps({"goniometer": [{"rotation_axis": [1, 0, 0]}]}))
    programs = Programs(tmp_path, table(tmp_path / "other.refl", *other))
    indexed = table(tmp_path / "indexed.refl", *as_given)
    assert rotation_sense.indexed_part(indexed) == pytest.approx(as_given)

    def check():
        rotation_sense.check(programs, imported, tmp_path / "s.refl", "", indexed)

    if not wrong:
        return check()
    with pytest.raises(InputError, match="The rotation axis is reversed"):
        check()
    document = json.loads((tmp_path / "reversed.expt").read_text())
    assert document["goniometer"][0]["rotation_axis"] == [-1, 0, 0]
