"""Scaling components, each against made-up observations or another program's values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special
from scipy.spatial.transform import Rotation

from dials.algorithms.scaling.scaling_utilities import (
    align_axis_along_z,
    calc_crystal_frame_vectors,
    sph_harm_table,
)
from dials.array_family import flex
from scitbx import sparse

from diffuse_core import boundary
from diffuse_core.directions import angles, frame_of, limits, rays
from diffuse_core.harmonics import harmonics, mount_of, path_harmonics
from diffuse_core.plugins.scaling.detector import DetectorScale
from diffuse_core.plugins.scaling.smooth_scale import SmoothScale
from diffuse_core.plugins.scaling.spherical_absorption.model import (
    SphericalAbsorption,
    Surface,
)
from diffuse_core.scaling import fit_scales
from diffuse_core.testing import make_experiments
from diffuse_core.testing.made_up import DISTANCE, PIXEL, SIZE, make_rows

PANEL = {
    "origin": [-SIZE * PIXEL / 2, -SIZE * PIXEL / 2, -DISTANCE],
    "fast": [1, 0, 0],
    "slow": [0, 1, 0],
    "pixel": [PIXEL, PIXEL],
    "size": [SIZE, SIZE],
}
FRAMES = [{"s0": [0, 0, -1.0], "panels": [PANEL]}]


def relative(found, true):
    """Relative rms difference, the level free."""
    ratio = found / true
    return float(np.std(ratio / ratio.mean()))


@pytest.mark.parametrize("panel", [0, 1])
def test_rays_and_angles_are_those_of_dxtbx(panel):
    experiment = make_experiments()[0]
    frame = frame_of(experiment)
    rng = np.random.default_rng(1)
    size = experiment.detector[panel].get_image_size()
    x, y = rng.uniform(0, size[0], 20), rng.uniform(0, size[1], 20)
    zero, which = np.zeros(20, int), np.full(20, panel)
    place = np.column_stack([x, y]) * experiment.detector[panel].get_pixel_size()
    expected = np.array([experiment.detector[panel].get_lab_coord(p) for p in place])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = rays([frame], zero, which, x, y)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    across = angles([frame], zero, which, x, y)
    beam = np.array(experiment.beam.get_unit_s0())
    two_theta = np.degrees(np.arccos(expected @ beam))
    np.testing.assert_allclose(np.linalg.norm(across, axis=1), two_theta, atol=1e-5)
    for (low, high), column in zip(limits(frame), across.T, strict=True):
        assert low <= column.min() and column.max() <= high
    assert boundary.panel_geometry(experiment, 0, panel).shape == size[::-1]


def test_smooth_detector_is_found():
    """A sensitivity that varies by 20 % across the detector, the same at all angles.

    It is odd in x: a part that depends on |s| alone is one with the intensities.
    """

    def path(source, x, y, phi):
        u, v = 2 * x / SIZE - 1, 2 * y / SIZE - 1
        return 1.0 + 0.2 * np.sin(4 * u) * np.cos(3 * v)

    made = make_rows(100.0, cell=(55.0, 60.0, 65.0), d_min=2.5, path=path)
    component = DetectorScale(
        [[(SIZE, SIZE)]], [0], smoothness=0.1, frames=FRAMES, intervals=(8, 8)
    )
    model = fit_scales(made.rows, made.sources, [("detector", component)]).model
    found = model.evaluate(made.rows).path
    print("G(x, y) rms", relative(found, made.path), made.path.std())
    assert made.path.std() > 0.08
    assert relative(found, made.path) < 0.01


@pytest.fixture(scope="module")
def tilted():
    """Frame, mount and dxtbx experiment of a scan with every rotation general."""
    experiment = make_experiments()[0]
    rng = np.random.default_rng(2)
    for name in ("fixed", "setting"):
        matrix = Rotation.random(random_state=rng.integers(100)).as_matrix()
        getattr(experiment.goniometer, f"set_{name}_rotation")(tuple(matrix.ravel()))
    return frame_of(experiment), mount_of(experiment), experiment


def some_points(experiment, n=60):
    """(n, 5) coordinates within a scan, and the table that dials.scale would have."""
    rng = np.random.default_rng(3)
    panel = rng.integers(0, len(experiment.detector), n)
    size = np.array(experiment.detector[0].get_image_size())
    x, y = rng.uniform(0, 1, (2, n)) * size[:, None]
    z = rng.uniform(*experiment.scan.get_array_range(), n)
    start, width = experiment.scan.get_oscillation()
    phi = start + z * width
    table = flex.reflection_table()
    table["id"] = flex.int(n, 0)
    table["xyzobs.px.value"] = flex.vec3_double(list(zip(x, y, z, strict=True)))
    s1 = [
        np.array(
            experiment.detector[int(p)].get_lab_coord(
                tuple(np.multiply((a, b), experiment.detector[int(p)].get_pixel_size()))
            )
        )
        for p, a, b in zip(panel, x, y, strict=True)
    ]
    wavelength = experiment.beam.get_wavelength()
    s1 = np.array([v / np.linalg.norm(v) / wavelength for v in s1])
    table["s1"] = flex.vec3_double(s1)
    s = np.linalg.norm(s1 - experiment.beam.get_s0(), axis=1)
    table["d"] = flex.double(1 / s)
    return np.column_stack([np.zeros(n), phi, panel, x, y]), s, table


def test_harmonics_are_those_of_scipy():
    rng = np.random.default_rng(4)
    v = rng.normal(size=(50, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    theta, phi = np.arccos(v[:, 2]), np.arctan2(v[:, 1], v[:, 0])
    found = harmonics(v, 6)
    column = 0
    for order in range(1, 7):
        for m in range(-order, order + 1):
            if hasattr(special, "sph_harm_y"):
                value = special.sph_harm_y(order, abs(m), theta, phi)
            else:
                value = special.sph_harm(abs(m), order, phi, theta)
            value = (-1) ** m * (value.imag if m < 0 else value.real)
            value *= np.sqrt(2) if m else 1
            np.testing.assert_allclose(found[:, column], value, atol=1e-13)
            column += 1
    assert column == found.shape[1]


def test_path_harmonics_are_those_of_dials_scale(tilted):
    frame, mount, experiment = tilted
    points, _, table = some_points(experiment)
    table = calc_crystal_frame_vectors(table, experiment)
    for name in ("s0c", "s1c"):
        table[name] = align_axis_along_z((1.0, 0.0, 0.0), table[name])
    table = sph_harm_table(table, 5)
    assert isinstance(table, sparse.matrix)
    expected = table.as_dense_matrix().as_numpy_array().T
    found = path_harmonics([frame], [0], [mount], 5, points)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_planted_absorption_surface_is_found():
    """exp of harmonics up to l = 3 with a random sign each; only B G is determined."""
    mount = {
        "fixed": np.eye(3).tolist(),
        "setting": np.eye(3).tolist(),
        "axis": [1.0, 0.0, 0.0],
    }
    size = 0.3 * np.random.default_rng(5).choice([-1.0, 1.0], 15)

    def path(source, x, y, phi):
        points = np.column_stack([0 * x, phi, 0 * x, x, y])
        return np.exp(path_harmonics(FRAMES, [0], [mount], 3, points) @ size)

    made = make_rows(100.0, cell=(55.0, 60.0, 65.0), d_min=2.5, path=path)
    components = [
        ("b", SmoothScale(5.0, 0.02)),
        ("g", SphericalAbsorption(FRAMES, [0], [mount], 4, smoothness=0.3)),
    ]
    model = fit_scales(made.rows, made.sources, components).model
    scales = model.evaluate(made.rows)
    print("B G rms", relative(scales.crystal * scales.path, made.path))
    assert made.path.std() / made.path.mean() > 0.1
    assert relative(scales.crystal * scales.path, made.path) < 0.01
    chi = model.figures["chi_squared"]
    assert chi["with scales"] < 1.02 < chi["without scales"]


def test_even_harmonics_do_not_tell_opposite_directions(tilted):
    frame, mount, _ = tilted
    surface = Surface({"0": 0}, [frame], [0], [mount], 4, odd=False)
    assert len(surface.initial) == 5 + 9
    v = np.random.default_rng(6).normal(size=(10, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    even = harmonics(v, 4)[:, surface._kept]
    np.testing.assert_allclose(even, harmonics(-v, 4)[:, surface._kept], atol=1e-12)
