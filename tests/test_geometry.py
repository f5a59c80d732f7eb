"""Where DIALS predicts a reflection, our geometry finds its index."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from dials.array_family import flex
from dxtbx.model import MultiAxisGoniometer, Scan
from scitbx import matrix

from diffuse_core import boundary
from diffuse_core.compat import load_experiments
from diffuse_core.simulate import recipe, run_simulation

REAL = {
    "snase": "snase/dials/refined_10.expt",
    "l_cysteine": "l_cysteine/dials/refined.expt",
    "i23_p12m": "i23_p12m_thaumatin/dials/indexed.expt",
    "thaumatin": "thaumatin_grid/dials/refined.expt",
    "cspad": "thermolysin_cspad/dials/refined.expt",
    "rayonix": "lcls_rayonix_kapton/dials/refined.expt",
}
MOST = 3000


def predictions(experiments, d_min):
    """Predicted reflections whose rays hit a panel within the scan."""
    table = flex.reflection_table()
    for number in range(len(experiments)):
        one = flex.reflection_table.from_predictions(experiments[number], dmin=d_min)
        one["id"] = flex.int(len(one), number)
        table.extend(one)
    return table


def index_errors(experiments, table):
    """(n, 3) hkl of our geometry at the predicted positions, minus the indices."""
    rows = np.linspace(0, len(table) - 1, min(len(table), MOST)).astype(int)
    errors = []
    for row in rows:
        experiment = experiments[table["id"][row]]
        if boundary.is_still(experiment):
            found = still_index(experiment, table, row)
        else:
            found = boundary.hkl_at(
                experiment, table["panel"][row], table["xyzcal.px"][row]
            )
        errors.append(found - np.array(table["miller_index"][row]))
    return np.array(errors)


def still_index(experiment, table, row):
    """hkl of a still's prediction, turned back by the angle DIALS turned it.

    A still predicts every point near the Ewald sphere at the place where it would
    touch it after a rotation by delpsi about the axis normal to s0 and s.
    """
    image = boundary.image_of(experiment, 0, 0)
    found = boundary.hkl_at(experiment, table["panel"][row], table["xyzcal.px"][row])
    s0 = matrix.col(experiment.beam.get_s0())
    s = matrix.col(tuple(np.linalg.inv(image.to_hkl) @ found))
    axis = s.cross(s0).normalize()
    back = s.rotate_around_origin(axis, -table["delpsical.rad"][row])
    return image.to_hkl @ np.array(back.elems)


@pytest.mark.parametrize("name", REAL)
def test_predictions_of_real_experiments_are_recovered(data_dir, name):
    experiments = load_experiments(str(Path(data_dir) / REAL[name]), False)
    table = predictions(experiments, 2.2 if name != "l_cysteine" else 0.7)
    assert len(table) > 20
    assert np.abs(index_errors(experiments, table)).max() < 0.01


def drifting(crystal, n, degrees):
    """The crystal, turning by some degrees about an odd axis over n images."""
    a = matrix.sqr(crystal.get_A())
    axis = matrix.col((0.3, 0.8, -0.5)).normalize()
    points = []
    for i in range(n + 1):
        turn = axis.axis_and_angle_as_r3_rotation_matrix(degrees * i / n, deg=True)
        points.append(tuple(turn * a))
    result = copy.deepcopy(crystal)
    result.set_A_at_scan_points(points)
    return result


@pytest.fixture
def rotation(data_dir):
    """A 40-image scan on a three-axis goniometer that scans its middle axis."""
    experiments = load_experiments(
        str(Path(data_dir) / REAL["snase"]), check_format=False
    )
    experiment = experiments[0]
    experiment.goniometer = MultiAxisGoniometer(
        flex.vec3_double(
            matrix.col(axis).normalize() for axis in ((1, 0, 0), (2, 9, 3), (0, 1, 9))
        ),
        flex.double([12.0, 0.0, -33.0]),
        flex.std_string(["phi", "kappa", "omega"]),
        1,
    )
    experiment.scan = Scan((5, 44), (17.0, 0.5))
    return experiments


def moved_panel(panel):
    """The panel, tilted out of the plane normal to the beam."""
    turn = matrix.col((0.4, 0.9, 0.1)).normalize()
    turn = turn.axis_and_angle_as_r3_rotation_matrix(25.0, deg=True)
    panel.set_frame(
        tuple(turn * matrix.col(panel.get_fast_axis())),
        tuple(turn * matrix.col(panel.get_slow_axis())),
        tuple(turn * matrix.col(panel.get_origin())),
    )


@pytest.mark.parametrize("case", ["multi_axis", "scan_varying", "beam", "tilted"])
def test_predictions_of_made_up_experiments_are_recovered(rotation, case):
    experiment = rotation[0]
    assert (
        np.abs(
            np.reshape(experiment.goniometer.get_setting_rotation(), (3, 3)) - np.eye(3)
        ).max()
        > 0.1
    )
    assert (
        np.abs(
            np.reshape(experiment.goniometer.get_fixed_rotation(), (3, 3)) - np.eye(3)
        ).max()
        > 0.1
    )
    n = experiment.scan.get_num_images()
    if case == "scan_varying":
        experiment.crystal = drifting(experiment.crystal, n, 1.5)
    if case == "beam":
        experiment.crystal = drifting(experiment.crystal, n, 0.0)
        s0 = matrix.col(experiment.beam.get_s0())
        up = matrix.col((0, 1, 0))
        experiment.beam.set_s0_at_scan_points(
            [tuple(s0.rotate_around_origin(up, 0.01 * i / n)) for i in range(n + 1)]
        )
    if case == "tilted":
        moved_panel(experiment.detector[0])
    table = predictions(rotation, 2.2)
    assert len(table) > 500
    assert np.abs(index_errors(rotation, table)).max() < 0.01


def test_interpolation_is_needed_and_starts_at_the_image(rotation):
    """A slip of half an image in the orientation would be noticed."""
    experiment = rotation[0]
    experiment.crystal = drifting(
        experiment.crystal, experiment.scan.get_num_images(), 1.5
    )
    table = predictions(rotation, 2.2)
    shifted = table["xyzcal.px"] + flex.vec3_double(len(table), (0.0, 0.0, 0.5))
    table["xyzcal.px"] = shifted
    assert np.abs(index_errors(rotation, table)).max() > 0.05


def test_pixel_geometry_is_that_of_dxtbx_at_pixel_centres(data_dir):
    """s, distance and incidence, with and without parallax, on many panels."""
    for name in ("thaumatin", "i23_p12m", "cspad"):
        experiments = load_experiments(str(Path(data_dir) / REAL[name]), False)
        experiment = experiments[0]
        s0 = np.array(experiment.beam.get_s0())
        for index in range(0, len(experiment.detector), 7):
            geometry = boundary.panel_geometry(experiment, 0, index)
            panel = experiment.detector[index]
            n_slow, n_fast = geometry.shape
            for y, x in ((0, 0), (n_slow - 1, 3), (n_slow // 2, n_fast - 1)):
                xyz = np.array(panel.get_pixel_lab_coord((x + 0.5, y + 0.5)))
                length = np.linalg.norm(xyz)
                s1 = xyz / length / experiment.beam.get_wavelength()
                assert geometry.s[y, x] == pytest.approx(s1 - s0, abs=2e-7)
                assert geometry.distance[y, x] == pytest.approx(length, rel=1e-6)
                cosine = abs(np.dot(xyz / length, panel.get_normal()))
                assert geometry.cos_incidence[y, x] == pytest.approx(cosine, rel=1e-6)
                d = panel.get_resolution_at_pixel(tuple(s0), (x + 0.5, y + 0.5))
                assert 1.0 / geometry.s_norm[y, x] == pytest.approx(d, rel=1e-5)


def test_experiments_with_equal_detector_and_beam_share_a_setup(data_dir):
    experiments = load_experiments(str(Path(data_dir) / REAL["l_cysteine"]), False)
    assert boundary.setups_of(experiments) == (0, 0, 0, 1)


def test_exposure_of_one_second_where_none_is_known(data_dir):
    experiments = load_experiments(str(Path(data_dir) / REAL["cspad"]), False)
    assert boundary.exposure_time(experiments[0], 0) == 1.0
    assert boundary.lacks_exposure(experiments)


def test_rotation_axis_in_the_crystal_frame_turns_the_crystal(rotation):
    """hkl of a fixed pixel moves along axis x s in the crystal's Cartesian frame."""
    experiment = rotation[0]
    b = np.reshape(experiment.crystal.get_B(), (3, 3))
    s = np.array([0.11, -0.07, 0.2])
    half = 0.01
    first, last = (
        boundary.image_of(experiment, 0, 3, (0.5 + sign * half, 1.0))
        for sign in (-1, 1)
    )
    middle = boundary.image_of(experiment, 0, 3)
    moved = b @ (last.to_hkl @ s - first.to_hkl @ s)
    angle = np.radians(2 * half * 0.5)
    expected = -np.cross(middle.axis, b @ (middle.to_hkl @ s)) * angle
    assert moved == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("name", ["rotation_small", "multipanel_small"])
def test_simulated_bragg_peaks_lie_on_their_lattice_points(tmp_path, name):
    """The simulator's geometry is its own; half a pixel would be about 0.03."""
    fine = """
    scan {
      n_images = 200
      width = 0.1
    }
    bragg.amplitude = 300
    diffuse {
      halo.amplitude = 0
      cloud.amplitude = 0
    }
    """
    files = run_simulation(recipe(name) + fine, tmp_path)
    experiments = load_experiments(str(files.expt_path), check_format=True)
    experiment = experiments[0]
    panels = [
        boundary.panel_geometry(experiment, 0, i)
        for i in range(len(experiment.detector))
    ]
    sums, ends = {}, set()
    last = len(experiment.imageset) - 1
    for index in range(last + 1):
        image = boundary.image_of(experiment, 0, index)
        counts, usable = boundary.read_image(experiment, index)
        for panel in panels:
            n = counts[panel.index].astype(float)
            n -= np.median(n[usable[panel.index]])
            bright = usable[panel.index] & (n > 50)
            hkl = panel.s[bright] @ image.to_hkl.T
            point = np.rint(hkl)
            spot = np.abs(hkl - point).max(axis=1) < 0.3
            rows = zip(point[spot], (hkl - point)[spot], n[bright][spot], strict=True)
            for at, offset, weight in rows:
                total = sums.setdefault(tuple(at), np.zeros(4))
                total += weight * np.array([*offset, 1.0])
                if index in (0, last):
                    ends.add(tuple(at))
    spots = np.array([total for at, total in sums.items() if at not in ends])
    assert len(spots) > 150
    mean = (spots[:, :3] / spots[:, 3:]).mean(axis=0)
    assert np.abs(mean).max() < 0.003
