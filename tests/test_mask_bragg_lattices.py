"""Satellites, several lattices, and reflections near the rotation axis."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dials.algorithms.profile_model.gaussian_rs import CoordinateSystem
from iotbx.phil import parse

from diffuse_core import config
from diffuse_core.models import Image
from diffuse_core.plugins.masking.bragg import NO_OPERATORS, Bragg
from diffuse_core.region_kernels import keep_pixels
from diffuse_core.regions import pack_regions
from diffuse_core.registry import Registry
from diffuse_core.testing import make_run

WAVELENGTH = 1.0
S0 = np.array([0.0, 0.0, -1.0 / WAVELENGTH])
AXIS = np.array([1.0, 0.0, 0.0])
WIDTH = 0.1
SIGMA_M = 0.1


@pytest.fixture(scope="module")
def scope():
    return config.master_scope(Registry.discover({}), (), ("mask",))


def kept(model, image, s):
    """(n,) bool: what the compiled rule keeps of pixels at s (n, 3)."""
    s = np.asarray(s, np.float32).reshape(1, -1, 3)
    every = np.ones(s.shape[:2], bool)
    out = np.empty((1, *every.shape), bool)
    regions = pack_regions([model.lattice_regions(image)])
    keep_pixels(every, every[None], s, regions, out)
    return out[0, 0]


def still(to_hkl, number=0):
    return Image(
        experiment=number,
        index=0,
        phi=0.0,
        width=0.0,
        exposure=1.0,
        to_hkl=to_hkl,
        s_shift=np.zeros(3),
        axis=np.zeros(3),
    )


# ------------------------------------------------------------------ satellites


def test_satellites_are_left_out_at_both_signs_of_all_orders(scope):
    text = """
    mask.bragg {
      size = floor
      floor = 0.05
      satellite { q = 0.3 0 0
        order = 2 }
      satellite { q = 0 0.21 -0.4 }
    }
    """
    params = scope.fetch(parse(text)).extract().mask.bragg
    model = Bragg.from_params(params, make_run())
    rng = np.random.default_rng(3)
    hkl = rng.uniform(-4, 4, (20_000, 3))
    to_hkl = np.linalg.inv(np.array([[0.03, 0, 0], [0.004, 0.02, 0], [0, 0.001, 0.04]]))
    keep = kept(model, still(to_hkl), hkl @ np.linalg.inv(to_hkl).T)
    q, p = np.array([0.3, 0, 0]), np.array([0, 0.21, -0.4])
    near = np.zeros(len(hkl), bool)
    for offset in (0 * q, q, -q, 2 * q, -2 * q, p, -p):
        away = hkl - offset
        near |= np.linalg.norm(away - np.rint(away), axis=1) < 0.05
    assert (keep == ~near).mean() > 0.9995
    share = 7 * 4 / 3 * math.pi * 0.05**3
    assert 1 - keep.mean() == pytest.approx(share, rel=0.1)


def test_satellites_have_the_ellipsoid_of_the_profile():
    b = np.eye(3) / 40.0
    size = np.array([[1e-3, 0.0, 2e-3, math.radians(0.5)]])
    q = np.array([0.5, 0.25, 0.0])
    model = Bragg([b], [size], [NO_OPERATORS], 0.0, np.array([q, -q]))
    centre = b @ (np.array([4, 8, 2]) + q)
    length = np.linalg.norm(centre)
    along = centre / length
    across = np.cross(along, [0, 0, 1.0])
    across /= np.linalg.norm(across)
    reach = math.hypot(2e-3, math.radians(0.5) * length)
    for direction, limit in ((along, 1e-3), (across, reach)):
        at = [centre + f * limit * direction for f in (0.95, 1.05)]
        assert kept(model, still(np.linalg.inv(b)), at).tolist() == [False, True]


def test_satellites_of_absent_points_are_left_out():
    """The absences of satellites are those of superspace, which no one has given."""
    screw = (np.diag([-1, -1, 1])[None], np.array([[0, 0, 6]]), 12)
    size = np.zeros((1, 4))
    b = np.eye(3) / 40.0
    model = Bragg([b], [size], [screw], 0.1, np.array([[0.25, 0, 0]]))
    at = [[0, 0, 5], [0, 0, 6], [0.25, 0, 5]]
    assert kept(model, still(np.linalg.inv(b)), at @ b).tolist() == [True, False, False]


# ------------------------------------------------------------- several lattices


def test_all_lattices_of_an_image_are_left_out_and_nothing_else():
    b = np.diag([1 / 30, 1 / 35, 1 / 40])
    turn = Rotation.from_rotvec([0.2, -0.5, 0.3]).as_matrix()
    model = Bragg([b, b], [np.zeros((1, 4))] * 2, [NO_OPERATORS] * 2, 0.15)
    first, second = np.linalg.inv(b), np.linalg.inv(turn @ b)
    pair = (still(first), still(second, 1))
    rng = np.random.default_rng(4)
    s = rng.uniform(-0.3, 0.3, (20_000, 3))
    expected = np.ones(len(s), bool)
    for to_hkl in (first, second):
        hkl = s @ to_hkl.T
        expected &= np.linalg.norm(hkl - np.rint(hkl), axis=1) >= 0.15
    for image in pair:
        keep = kept(model, replace(image, lattices=pair), s)
        assert (keep == expected).mean() > 0.9995


# ------------------------------------------------------------ near the spindle


def mosaic_crossings(rng, s, n):
    """Where n mosaic blocks put the reflection s: angle (deg), s on the sphere (n, 3).

    Each block is turned by a random rotation of `SIGMA_M` about every axis; its point
    is followed until it crosses the Ewald sphere. Blocks that never do are left out.
    """
    turns = Rotation.from_rotvec(rng.normal(scale=math.radians(SIGMA_M), size=(n, 3)))
    points = turns.apply(s)

    def excess(phi):
        turned = Rotation.from_rotvec(np.radians(phi)[:, None] * AXIS).apply(points)
        return np.linalg.norm(turned + S0, axis=1) - np.linalg.norm(S0)

    speed = np.abs(np.cross(AXIS, s) @ (s + S0)) / np.linalg.norm(S0)
    limit = np.degrees(8 * math.radians(SIGMA_M) * np.linalg.norm(s) / speed)
    low, high = np.full(n, -limit), np.full(n, limit)
    sign = np.sign(excess(low))
    crossing = sign != np.sign(excess(high))
    for _ in range(40):
        middle = 0.5 * (low + high)
        before = np.sign(excess(middle)) == sign
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    at = Rotation.from_rotvec(np.radians(low)[:, None] * AXIS).apply(points)
    return low[crossing], at[crossing]


def with_zeta(rng, low, high):
    """A random reflection s on the sphere with low < |zeta| < high (W. Kabsch)."""
    while True:
        s1 = rng.normal(size=3)
        s1 /= np.linalg.norm(s1) * WAVELENGTH
        s = s1 - S0
        zeta = abs(CoordinateSystem(AXIS, S0, s1, 0.0).zeta())
        if 0.2 < np.linalg.norm(s) < 1.2 and low < zeta < high:
            return s


@pytest.mark.parametrize(
    ("low", "high"), [(0.05, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1.0)]
)
def test_mosaic_crystal_is_left_out_at_the_spindle_as_elsewhere(low, high):
    """99 % of a simulated mosaic peak, however slowly it turns through the sphere.

    Near the rotation axis (small zeta) a peak lasts 1 / zeta times longer and wanders
    along the sphere meanwhile. The rule needs no zeta for that: what is slow stays
    within sigma_m of the sphere for long. exp(-9 / 2) = 1.1 % of a Gaussian of two
    dimensions lie beyond 3 sigma.
    """
    rng = np.random.default_rng(6)
    size = 3 * np.radians([[0.0, 0.0, 0.0, SIGMA_M]])
    size[:, [0, 2]] = 1e-4
    peaks = left = 0
    for _ in range(10):
        s = with_zeta(rng, low, high)
        hkl = np.array([9, 11, 13])
        b = np.eye(3) * np.linalg.norm(s) / np.linalg.norm(hkl)
        u = Rotation.align_vectors([s, AXIS], [b @ hkl, [1, 0, 0]], weights=[1e9, 1])
        u = u[0].as_matrix()
        model = Bragg([b], [size], [NO_OPERATORS], 0.0)
        phi, at = mosaic_crossings(rng, s, 300)
        for image in np.unique(np.floor(phi / WIDTH)):
            here = np.floor(phi / WIDTH) == image
            middle = math.radians((image + 0.5) * WIDTH)
            turn = Rotation.from_rotvec(AXIS * middle).as_matrix()
            one = replace(
                still(np.linalg.inv(turn @ u @ b)), width=WIDTH, axis=u.T @ AXIS
            )
            left += kept(model, one, at[here]).sum()
            peaks += here.sum()
    assert peaks > 1500
    assert left < 0.017 * peaks
