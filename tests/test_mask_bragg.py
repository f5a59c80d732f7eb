"""The Bragg mask: sizes against DIALS' own profile, observed spots, the rule itself."""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from dials.algorithms.profile_model.ellipsoid.model import EllipsoidProfileModel
from dials.algorithms.profile_model.gaussian_rs import CoordinateSystem
from dials.algorithms.profile_model.gaussian_rs.model import Model as GaussianProfile
from dials.array_family import flex
from iotbx.phil import parse

from diffuse_core import config
from diffuse_core.boundary import image_of, setups_of
from diffuse_core.compat import load_experiments
from diffuse_core.errors import ConfigError
from diffuse_core.models import Image, RunInputs
from diffuse_core.plugins.masking.bragg import Bragg, spot_sizes
from diffuse_core.registry import Registry

BLANK = Image(
    experiment=0,
    index=0,
    phi=0.0,
    width=0.0,
    exposure=1.0,
    to_hkl=np.eye(3),
    s_shift=np.zeros(3),
    axis=np.zeros(3),
)


def observed_sizes(experiments, setups, table):
    """Sizes by the strong spots of each experiment."""
    found = spot_sizes.observed_spots(experiments, setups, table)
    return [None if one is None else one.size for one in found]


@pytest.fixture(scope="module")
def scope():
    return config.master_scope(Registry.discover({}), (), ("mask",))


def params(scope, text=""):
    return scope.fetch(parse(text)).extract().mask.bragg


def load(data_dir, name, table=True):
    path = str(data_dir / name)
    experiments = load_experiments(path + ".expt", check_format=False)
    found = flex.reflection_table.from_file(path + ".refl") if table else None
    return RunInputs(experiments, found, setups_of(experiments))


def left_out(region, s, steps=20):
    """The rule of LatticeRegion by brute force: all points near all of the path.

    s is (..., 3); the shape of the result is (...).
    """
    c = (s @ region.affine[:, :3].T + region.affine[:, 3]) @ region.b.T
    length2 = (c * c).sum(axis=-1)[..., None, None]
    r2 = region.radial[0] ** 2 + region.radial[1] ** 2 * length2
    t2 = region.tangential[0] ** 2 + region.tangential[1] ** 2 * length2
    axis, half = region.axis, region.half_width
    angle = np.linspace(-half, half, 2 * steps + 1)[:, None]
    path = (
        c[..., None, :] * np.cos(angle)
        + np.cross(axis, c)[..., None, :] * np.sin(angle)
        + axis * (c @ axis)[..., None, None] * (1 - np.cos(angle))
    )
    at = (path @ np.linalg.inv(region.b).T)[..., None, :]
    offset = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    points = np.rint(at) + offset
    inside = np.linalg.norm(points - at, axis=-1) < region.floor
    d = (points - at) @ region.b.T
    along2 = (d * path[..., None, :]).sum(axis=-1) ** 2 / length2
    across2 = (d * d).sum(axis=-1) - along2
    known = (r2 > 0) & (t2 > 0)
    r2, t2 = np.where(known, r2, 1.0), np.where(known, t2, 1.0)
    inside |= known & (along2 / r2 + across2 / t2 < 1)
    inside[inside] = ~is_absent(region, points[inside].astype(int))
    return inside.any(axis=(-2, -1))


def is_absent(region, hkl):
    """Whether each of (n, 3) points is extinct: (n,) bool."""
    absent = np.zeros(len(hkl), bool)
    for r, t in zip(region.rotations, region.translations, strict=True):
        absent |= (hkl @ r == hkl).all(axis=1) & ((hkl @ t) % region.denominator != 0)
    return absent


# ------------------------------------------------------------- profile models


def test_size_is_that_of_the_foreground_of_dials(data_dir, scope):
    """The 3-sigma foreground, in DIALS' own coordinates, is left out, not much more.

    The region is larger: it turns a point by sigma_m about every axis, not only about
    the one that brings it into reflection.
    """
    run = load(data_dir, "l_cysteine/dials/integrated", table=False)
    experiment = run.experiments[0]
    model = Bragg.from_params(params(scope, "mask.bragg.floor = 0"), run)
    table = flex.reflection_table.from_predictions(experiment, dmin=0.8)
    delta_b, delta_m = (
        math.radians(d)
        for d in (experiment.profile.delta_b(), experiment.profile.delta_m())
    )
    axis, s0 = experiment.goniometer.get_rotation_axis(), experiment.beam.get_s0()
    panel, scan = experiment.detector[0], experiment.scan
    both = foregrounds = regions = checked = 0
    for s1, (x, y, z), phi in zip(
        table["s1"],
        table["xyzcal.px"],
        table["xyzcal.mm"].parts()[2],
        strict=True,
    ):
        frame = CoordinateSystem(axis, s0, s1, phi)
        if abs(frame.zeta()) < 0.3 or not (10 < x < 1460 and 10 < y < 1660):
            continue
        checked += 1
        pixels = np.array(
            [
                panel.get_pixel_lab_coord((int(x) + dx + 0.5, int(y) + dy + 0.5))
                for dx, dy in itertools.product(range(-8, 9, 2), repeat=2)
            ]
        )
        rays = pixels / np.linalg.norm(pixels, axis=1)[:, None] * np.linalg.norm(s0)
        e = np.array([frame.from_beam_vector(tuple(ray)) for ray in rays])
        across = (e**2).sum(axis=1) / delta_b**2
        for index in range(max(int(z) - 3, 0), min(int(z) + 4, 15)):
            (region,) = model.lattice_regions(image_of(experiment, 0, index))
            ends = [
                scan.get_angle_from_array_index(index + i, deg=False) for i in (0, 1)
            ]
            e3 = [frame.from_rotation_angle(end) for end in ends]
            nearest = 0.0 if e3[0] * e3[1] < 0 else min(map(abs, e3))
            foreground = across + (nearest / delta_m) ** 2 < 1
            masked = left_out(region, rays - np.array(s0), steps=4)
            foregrounds += foreground.sum()
            regions += masked.sum()
            both += (foreground & masked).sum()
    assert checked >= 8
    assert both > 200
    assert both > 0.99 * foregrounds
    assert regions < 2 * foregrounds


def gaussian(sigma_b, sigma_m):
    return GaussianProfile(None, 3, sigma_b, sigma_m, deg=True)


def with_profile(profile, wavelength=0.8, crystal=None):
    beam = SimpleNamespace(get_wavelength=lambda: wavelength)
    return SimpleNamespace(profile=profile, beam=beam, crystal=crystal)


def test_profile_that_varies_gives_every_image_its_own_size():
    profile = gaussian(flex.double([0.02, 0.03, 0.05]), flex.double([0.1, 0.2, 0.4]))
    sizes = spot_sizes.profile_size(with_profile(profile))
    spot = 3 * np.radians([0.02, 0.03, 0.05]) / 0.8
    np.testing.assert_allclose(sizes[:, 0], spot)
    np.testing.assert_allclose(sizes[:, 2], spot)
    np.testing.assert_allclose(sizes[:, 3], 3 * np.radians([0.1, 0.2, 0.4]))
    assert not sizes[:, 1].any()
    operators = (np.zeros((0, 3, 3)), np.zeros((0, 3)), 12)
    model = Bragg([np.eye(3)], [sizes], [operators], 0.1)
    for index, row in [(0, 0), (1, 1), (2, 2), (7, 2)]:
        (region,) = model.lattice_regions(replace(BLANK, index=index, width=-0.4))
        assert (*region.radial, *region.tangential) == tuple(sizes[row])
        assert region.half_width == pytest.approx(math.radians(0.2))


def test_constant_profile_is_one_size():
    sizes = spot_sizes.profile_size(with_profile(gaussian(0.05, 0.1)))
    spot = 3 * math.radians(0.05) / 0.8
    np.testing.assert_allclose(sizes, [[spot, 0, spot, 3 * math.radians(0.1)]])


def test_ellipsoid_profile_is_covered_in_all_directions():
    profile = EllipsoidProfileModel.from_dict(
        {
            "parameterisation": "simple6",
            "parameters": np.array([2e-4, 1e-4, 3e-4, -1e-4, 2e-4, 5e-4]),
        }
    )
    ((r0, r1, t0, t1),) = spot_sizes.profile_size(with_profile(profile))
    assert (r1, t1) == (0, 0)
    rng = np.random.default_rng(5)
    directions = rng.normal(size=(2000, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    sigma = np.sqrt(
        np.einsum("ni,ij,nj->n", directions, np.array(profile.sigma()), directions)
    )
    assert r0 == t0
    assert 3 * sigma.max() <= r0 < 3 * sigma.max() * 1.01


def test_crystal_of_a_still_has_its_domain_size_and_mosaicity(data_dir):
    run = load(data_dir, "lcls_rayonix_kapton/dials/refined", table=False)
    sizes = spot_sizes.profile_size(run.experiments[0])
    spot = 1 / 4660.0409
    np.testing.assert_allclose(
        sizes, [[spot, 0, spot, math.radians(0.0510463)]], rtol=1e-6
    )


def test_plain_crystal_without_profile_has_no_size():
    assert spot_sizes.profile_size(with_profile(None)) is None


# -------------------------------------------------------------- observed spots


@pytest.mark.parametrize(
    "name", ["lcls_rayonix_kapton/dials/refined", "i23_p12m_thaumatin/dials/indexed"]
)
def test_observed_size_covers_the_bounding_boxes(data_dir, name):
    run = load(data_dir, name)
    experiment = run.experiments[0]
    (found,) = observed_sizes(run.experiments, run.setups, run.reflections)
    reach = []
    table = run.reflections.select(run.reflections["id"] == 0)
    for (x, y, _), box, panel in zip(
        table["xyzcal.px"], table["bbox"], table["panel"], strict=True
    ):
        one = experiment.detector[panel]

        def s1(x, y, one=one):
            ray = np.array(one.get_pixel_lab_coord((x, y)))
            return ray / np.linalg.norm(ray) / experiment.beam.get_wavelength()

        ends = [(box[0], y), (box[1], y), (x, box[2]), (x, box[3])]
        reach.append(max(np.linalg.norm(s1(*end) - s1(x, y)) for end in ends))
    assert (
        found[0, 0] == found[0, 2] == pytest.approx(np.quantile(reach, 0.95), rel=0.05)
    )


def test_observed_mosaicity_of_stills_is_their_excursion(data_dir):
    run = load(data_dir, "thaumatin_grid/dials/refined")
    table = run.reflections
    sizes = observed_sizes(run.experiments, run.setups, table)
    for number, size in enumerate(sizes):
        psi = table.select(table["id"] == number)["delpsical.rad"].as_numpy_array()
        assert size[0, 3] == pytest.approx(np.quantile(np.abs(psi), 0.95))


def scan_spots(experiment, half_angle):
    """Spots in all directions that last 2 half_angle(|s|) / |zeta|, in radians."""
    width = math.radians(experiment.scan.get_oscillation()[1])
    rng = np.random.default_rng(6)
    n = 4000
    s1 = rng.normal(size=(n, 3))
    s1 /= np.linalg.norm(s1, axis=1)[:, None] * experiment.beam.get_wavelength()
    e1 = np.cross(s1, experiment.beam.get_s0())
    e1 /= np.linalg.norm(e1, axis=1)[:, None]
    zeta = np.abs(e1 @ np.array(experiment.goniometer.get_rotation_axis()))
    keep = zeta > 0.2
    s1, zeta = s1[keep], zeta[keep]
    s_norm = np.linalg.norm(s1 - np.array(experiment.beam.get_s0()), axis=1)
    z = rng.uniform(100, 200, len(s1))
    half = half_angle(s_norm) / width / zeta
    z0, z1 = np.floor(z - half).astype(int), np.ceil(z + half).astype(int)
    table = flex.reflection_table()
    table["id"] = flex.int(len(z), 0)
    table["panel"] = flex.size_t(len(z), 0)
    table["s1"] = flex.vec3_double(s1)
    centre = np.column_stack([np.full((len(z), 2), 500.0), z])
    table["xyzobs.px.value"] = flex.vec3_double(centre)
    table["xyzcal.px"] = flex.vec3_double(centre)
    table["bbox"] = flex.int6(
        [(495, 505, 497, 503, int(a), int(b)) for a, b in zip(z0, z1, strict=True)]
    )
    table["flags"] = flex.size_t(len(z), 0)
    table.set_flags(flex.bool(len(z), True), table.flags.strong)
    return table, s_norm


@pytest.mark.parametrize("per_image", [0.1, 0.4, 1.0, 4.0])
def test_observed_mosaicity_of_a_scan(data_dir, per_image):
    """Spots that last 2 m, on images of any width, give m, whatever their phase."""
    run = load(data_dir, "l_cysteine/dials/refined", table=False)
    experiment = run.experiments[0]
    width = math.radians(experiment.scan.get_oscillation()[1])
    table, _ = scan_spots(experiment, lambda s: per_image * width + 0 * s)
    (found, *_) = observed_sizes(run.experiments, run.setups, table)
    assert found[0, 3] == pytest.approx(per_image * width, rel=0.15)


@pytest.mark.parametrize(
    "width, mosaicity", [(0.002, 0.0), (0.002, 0.004), (0.0, 0.006)]
)
def test_width_and_mosaicity_are_told_apart(data_dir, width, mosaicity):
    """A point of width w rocks for hypot(w / |s|, m); sigma_m is a mean of that."""
    run = load(data_dir, "l_cysteine/dials/refined", table=False)
    experiment = run.experiments[0]
    table, s = scan_spots(
        experiment, lambda s: 3 * np.hypot(width / s, mosaicity) + 0 * s
    )
    photons = np.exp(-2 * s)
    table["intensity.sum.value"] = flex.double(1e4 * photons)
    (found, *_) = spot_sizes.observed_spots(run.experiments, run.setups, table)
    angle = np.hypot(width * np.average(1 / s**2, weights=photons) ** 0.5, mosaicity)
    experiment.profile = gaussian(0.01, math.degrees(angle))
    model = spot_sizes.profile_size(experiment)
    s = s[s > 0.3]
    for size in (found.resolved(model), np.array([[0, 0, found.width, found.angle]])):
        across = np.hypot(size[0, 2], size[0, 3] * s)
        true = 3 * np.hypot(width, mosaicity * s)
        np.testing.assert_allclose(across, true, rtol=0.2)
    if width and not mosaicity:
        assert np.hypot(model[0, 2], model[0, 3] * s).max() > 1.5 * 3 * width


def test_few_spots_take_the_size_of_all_and_integrated_ones_do_not_count(data_dir):
    run = load(data_dir, "thaumatin_grid/dials/refined")
    table = run.reflections
    number = table["id"].as_numpy_array()
    few = np.concatenate([np.nonzero(number == 0)[0], np.nonzero(number == 1)[0][:5]])
    some = table.select(flex.size_t(few.astype(np.uint64)))
    sizes = observed_sizes(run.experiments, run.setups, some)
    np.testing.assert_array_equal(sizes[1], sizes[2])
    assert not np.array_equal(sizes[0], sizes[1])
    some.set_flags(flex.bool(len(some), True), some.flags.integrated_sum)
    assert observed_sizes(run.experiments, run.setups, some) == [None] * 3
    assert observed_sizes(run.experiments, run.setups, None) == [None] * 3


@pytest.mark.parametrize(
    "name",
    [
        "lcls_rayonix_kapton/dials/refined",
        "thaumatin_grid/dials/refined",
        "snase/dials/refined_10",
    ],
)
def test_strong_spots_are_left_out(data_dir, scope, name):
    run = load(data_dir, name)
    model = Bragg.from_params(params(scope), run)
    table = run.reflections.select(run.reflections["id"] == 0)
    rows = np.random.default_rng(7).permutation(len(table))[:60].tolist()
    masked = everywhere = 0
    for row in rows:
        experiment = run.experiments[0]
        x, y, z = table["xyzobs.px.value"][row]
        (region,) = model.lattice_regions(image_of(experiment, 0, int(z)))
        for where, dx in (("peak", 0), ("far", 40)):
            ray = np.array(
                experiment.detector[table["panel"][row]].get_pixel_lab_coord(
                    (x + dx, y)
                )
            )
            s1 = ray / np.linalg.norm(ray) / experiment.beam.get_wavelength()
            hit = left_out(region, s1 - np.array(experiment.beam.get_s0()), steps=5)
            masked += hit and where == "peak"
            everywhere += hit and where == "far"
    assert masked >= 0.9 * len(rows)
    assert everywhere < 0.8 * masked


# ------------------------------------------------------------------ selection


def test_auto_is_the_larger_of_profile_and_observed(data_dir, scope):
    run = load(data_dir, "thaumatin_grid/dials/refined")
    sizes = {
        size: Bragg.from_params(params(scope, f"mask.bragg.size = {size}"), run).sizes
        for size in ("auto", "profile", "observed", "floor")
    }
    default = Bragg.from_params(params(scope), run).sizes
    for number in range(3):
        larger = np.maximum(sizes["profile"][number], sizes["observed"][number])
        np.testing.assert_array_equal(sizes["auto"][number], larger)
        np.testing.assert_array_equal(default[number], larger)
        assert not sizes["floor"][number].any()


def test_n_sigma_scales_all_sizes(data_dir, scope):
    run = load(data_dir, "thaumatin_grid/dials/refined")
    for size in ("profile", "observed"):
        text = f"mask.bragg.size = {size}"
        three = Bragg.from_params(params(scope, text), run).sizes
        text += "\nmask.bragg.n_sigma = 4.5"
        more = Bragg.from_params(params(scope, text), run).sizes
        np.testing.assert_allclose(more, 1.5 * np.array(three))


def test_unknown_size_is_said_once_or_refused(data_dir, scope, caplog):
    run = load(data_dir, "i23_p12m_thaumatin/dials/indexed", table=False)
    with caplog.at_level(logging.WARNING, "dials.diffuse"):
        model = Bragg.from_params(params(scope), run)
    assert "1 of 1 crystals" in caplog.text
    assert not model.sizes[0].any()
    assert model.floor == 0.12
    for size in ("profile", "observed"):
        text = f"mask.bragg.size = {size}"
        with pytest.raises(ConfigError, match=f"size={size}: experiment 0"):
            Bragg.from_params(params(scope, text), run)


def test_masks_that_leave_nothing_are_warned_of(data_dir, scope, caplog):
    run = load(data_dir, "thermolysin_cspad/dials/refined")
    with caplog.at_level(logging.WARNING, "dials.diffuse"):
        Bragg.from_params(params(scope), run)
    assert not caplog.records
    for experiment in run.experiments:
        experiment.profile = gaussian(0.3, 0.3)
    with caplog.at_level(logging.WARNING, "dials.diffuse"):
        Bragg.from_params(params(scope), run)
    assert "4 of 4 crystals" in caplog.text


def test_every_crystal_on_an_image_has_its_region(data_dir, scope):
    run = load(data_dir, "thaumatin_grid/dials/refined")
    model = Bragg.from_params(params(scope), run)
    images = [image_of(run.experiments[i], i, 0) for i in (0, 2)]
    image = replace(images[0], lattices=tuple(images))
    for number, region in zip((0, 2), model.lattice_regions(image), strict=True):
        a = np.reshape(run.experiments[number].crystal.get_A(), (3, 3))
        b = np.reshape(run.experiments[number].crystal.get_B(), (3, 3))
        np.testing.assert_allclose(region.affine[:, :3] @ a, np.eye(3), atol=1e-9)
        np.testing.assert_array_equal(region.b, b)
        assert region.tangential[1] == model.sizes[number][0, 3]


def test_absent_points_stay_unless_the_user_wants_them_masked(data_dir, scope):
    run = load(data_dir, "thaumatin_grid/dials/refined")
    experiment = run.experiments[0]
    a = np.reshape(experiment.crystal.get_A(), (3, 3))
    image = image_of(experiment, 0, 0)
    for text, absent in [("", True), ("mask.bragg.absent_points = True", False)]:
        (region,) = Bragg.from_params(params(scope, text), run).lattice_regions(image)
        for hkl in [(0, 0, 5), (0, 0, 6), (3, 0, 0)]:
            assert left_out(region, a @ hkl) != absent
        for hkl in [(0, 0, 8), (2, 0, 0), (3, 1, 0), (5, 2, 7)]:
            assert left_out(region, a @ hkl)
