"""Expected counts against formulas evaluated by hand, one pixel at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dials.algorithms.integration import Corrections
from dials.array_family import flex
from scitbx import matrix

from diffuse_core.errors import ConfigError
from diffuse_core.simulate import recipe
from diffuse_core.simulate.models import make_crystals
from diffuse_core.simulate.phil import read_recipe
from diffuse_core.simulate.responses import pixel_vectors, solid_angle
from diffuse_core.simulate.simulation import Simulation

SMOOTH = """
diffuse.cloud.amplitude = 0
diffuse.halo.amplitude = 0
diffuse.spherical { amplitude = 0
  constant = 1e-9 }
"""


def simulation(text: str, base: str = "rotation_small") -> Simulation:
    return Simulation(read_recipe(recipe(base) + text)[0])


def crystal_rotation(sim: Simulation, phi_deg: float) -> matrix.sqr:
    goniometer = sim.instrument.goniometer
    axis = matrix.col(goniometer.get_rotation_axis_datum())
    turn = axis.axis_and_angle_as_r3_rotation_matrix(phi_deg, deg=True)
    setting = matrix.sqr(goniometer.get_setting_rotation())
    return setting * turn * matrix.sqr(goniometer.get_fixed_rotation())


def ray(sim: Simulation, panel: int, fast: float, slow: float) -> matrix.col:
    """Unit vector to a pixel coordinate."""
    xyz = sim.instrument.detector[panel].get_pixel_lab_coord((fast, slow))
    return matrix.col(xyz).normalize()


def numerical_solid_angle(panel, i: int, j: int, n: int = 40) -> float:
    """Sum of A cos / r^2 over n x n parts of the physical pixel."""
    fast_mm, slow_mm = panel.get_pixel_size()
    normal = np.array(panel.get_normal())
    total = 0.0
    for a in range(n):
        for b in range(n):
            mm = ((i + (a + 0.5) / n) * fast_mm, (j + (b + 0.5) / n) * slow_mm)
            xyz = np.array(panel.get_lab_coord(mm))
            total += abs(normal @ xyz) / np.linalg.norm(xyz) ** 3
    return total * fast_mm * slow_mm / n**2


@pytest.mark.parametrize(
    "geometry",
    [
        "",
        "detector { tilt = 12\n two_theta = 20 }\ngoniometer.axis = 0 1 0\n",
        "goniometer { axes = 1 0 0 0 0.3 -1 1 0 0.2\n angles = 20 -54.7 10\n"
        " scan_axis = 2 }\n",
        "detector.name = test_curved\ncrystal.drift { angle = 2\n cell = 0.02 }\n",
    ],
    ids=["plain", "tilted", "three_axes", "curved_drift"],
)
def test_expected_counts_are_those_of_the_formula(geometry):
    sim = simulation(
        geometry
        + """
        beam { flux = 3
          wavelength = 1.1
          polarization_fraction = 0.9
          polarization_normal = 0.2 1 0 }
        scan { start = 35
          width = 0.7
          n_images = 4
          exposure = 0.25 }
        scale.values = 0.8 1 1.2 1.5
        background { counts_per_pixel = 0.7
          air { amplitude = 3e5
            b_factor = 15 } }
        response { air_temperature = 280
          air_pressure = 90 }
        bragg.enable = False
        """
    )
    beam, detector = sim.instrument.beam, sim.instrument.detector
    corrections = Corrections(beam, detector)
    s0 = matrix.col(beam.get_s0())
    image = 2
    crystal = sim.crystals[0]
    if crystal.num_scan_points:
        a0, a1 = (matrix.sqr(crystal.get_A_at_scan_point(image + k)) for k in (0, 1))
        a = 0.5 * (a0 + a1)
    else:
        a = matrix.sqr(crystal.get_A())
    ub = crystal_rotation(sim, 35 + (image + 0.5) * 0.7) * a
    expected = sim.expected_counts(image)
    rng = np.random.default_rng(1)
    for panel_index, panel in enumerate(detector):
        n_fast, n_slow = panel.get_image_size()
        for i, j in rng.integers(0, (n_fast, n_slow), (4, 2)):
            u = ray(sim, panel_index, i + 0.5, j + 0.5)
            s = u / 1.1 - s0
            hkl = np.array(ub.inverse() * s)
            normal = matrix.col(beam.get_polarization_normal())
            polarization = (1 - 2 * 0.9) * (1 - normal.dot(u) ** 2)
            polarization += 0.9 * (1 + s0.normalize().dot(u) ** 2)
            assert 1 / corrections.lp(tuple(u)) == pytest.approx(polarization)
            xyz = matrix.col(panel.get_pixel_lab_coord((i + 0.5, j + 0.5)))
            # 4.5e-4 / mm at 1.1 A is good to 2 %, so the absorption to 6e-4
            mu_air = 4.5e-4 * (293.15 / 280) * (90 / 101.325)
            k = polarization * numerical_solid_angle(panel, i, j)
            k *= corrections.qe(tuple(u), panel_index)
            k *= math.exp(-mu_air * xyz.length())
            air = 3e5 * math.exp(-15 * s.length_sq() / 2)
            rate = 3 * k * (1.2 * float(sim.truth.intensity(hkl)) + air) + 0.7
            assert expected[panel_index][j, i] == pytest.approx(0.25 * rate, rel=1e-3)


def test_air_coefficient():
    from diffuse_core.simulate.responses import air_coefficient

    # xraylib and xraydb: 3.305e-3 and 3.362e-3 per cm at 12.4 keV
    assert air_coefficient(0.99987, 293.15, 101.325) == pytest.approx(3.34e-4, rel=0.01)
    assert air_coefficient(1.0, 293.15, 0) == 0


def test_total_solid_angle_of_a_flat_detector():
    sim = simulation(
        "response { polarization = False\n sensor = False\n air = False }\n"
    )
    panel = sim.instrument.detector[0]
    a, b = (0.5 * size for size in panel.get_image_size_mm())
    d = panel.get_distance()
    exact = 4 * math.asin(a * b / math.sqrt((a * a + d * d) * (b * b + d * d)))
    assert sim.views[0].response.sum() == pytest.approx(exact, rel=1e-9)
    np.testing.assert_array_equal(sim.views[0].response, solid_angle(panel))


def test_a_sensor_without_attenuation_has_response_one():
    text = "response { polarization = False\n air = False }\ndetector.mu = 0\n"
    sim = simulation(text)
    panel = sim.instrument.detector[0]
    np.testing.assert_array_equal(sim.views[0].response, solid_angle(panel))


def test_rotation_is_averaged_over_its_parts():
    whole = simulation(
        "oversampling.rotation = 3\nscan.width = 3\nbragg.enable = False\n"
    )
    parts = simulation("bragg.enable = False\n")
    sums = sum(parts.expected_counts(image)[0] for image in (3, 4, 5)) / 3
    np.testing.assert_allclose(whole.expected_counts(1)[0], sums, rtol=1e-10)
    one = simulation("scan.width = 3\nbragg.enable = False\n").expected_counts(1)[0]
    assert np.abs(one / sums - 1).max() > 1e-3


def test_pixels_are_averaged_over_their_points():
    sim = simulation("oversampling.pixel = 3 2\nbragg.enable = False\n")
    centre = simulation("bragg.enable = False\n")
    beam, panel = sim.instrument.beam, sim.instrument.detector[0]
    s0 = np.array(beam.get_s0())
    to_hkl = np.linalg.inv(sim.orientations[0].matrices(np.array([0.5]))[0])
    i, j = 40, 90
    values = [
        sim.truth.intensity(
            to_hkl
            @ (np.array(ray(sim, 0, i + (a + 0.5) / 3, j + (b + 0.5) / 2).elems) - s0)
        )
        for a in range(3)
        for b in range(2)
    ]
    response = sim.views[0].response[j, i]
    assert sim.expected_counts(0)[0][j, i] == pytest.approx(response * np.mean(values))
    middle = pixel_vectors(panel, beam, 0.5, 0.5)[0] - s0
    np.testing.assert_array_equal(centre.views[0].s[0], middle)


def test_spots_do_not_depend_on_the_width_of_images():
    wide = simulation(SMOOTH + "scan { width = 2\n n_images = 2\n exposure = 2 }\n")
    fine = simulation(
        SMOOTH + "scan { width = 0.25\n n_images = 16\n exposure = 0.25 }\n"
    )
    one = wide.expected_counts(1)[0]
    many = sum(fine.expected_counts(image)[0] for image in range(8, 16))
    np.testing.assert_allclose(many, one, rtol=1e-6, atol=1e-4 * one.max())
    assert one.max() > 10


def test_spots_have_the_intensity_that_lorentz_demands():
    """sum of counts = flux t/dphi lambda^3 L P Omega-free k J, L from DIALS."""
    sim = simulation(
        SMOOTH + "bragg { b_factor = 0\n width = 1e-3\n seed = 5 }\n"
        "crystal { unit_cell = 12 15 18 90 90 90\n mosaicity = 0.1 }\n"
        "response.sensor = False\nresponse.air = False\nscan.n_images = 20\n"
        "oversampling.pixel = 3 3\n"
    )
    beam, detector = sim.instrument.beam, sim.instrument.detector
    corrections = Corrections(beam, sim.instrument.goniometer, detector)
    total = sum(sim.expected_counts(image)[0] for image in range(20))
    spots = sim.spots[0]
    n_fast, n_slow = detector[0].get_image_size()
    checked = 0
    for row in range(len(spots)):
        (x, y), (dx, dy) = spots.pixel[row], spots.half_box[row]
        inside = dx < x < n_fast - dx and dy < y < n_slow - dy
        whole = spots.half_z[row] < spots.z[row] < 20 - spots.half_z[row]
        clash = np.abs(spots.pixel - spots.pixel[row]) < 2 * spots.half_box[row]
        if not inside or not whole or clash.all(axis=1).sum() > 1:
            continue
        box = np.s_[int(y - dy) : int(y + dy) + 2, int(x - dx) : int(x + dx) + 2]
        s1 = tuple(spots.centre[row] + np.array(beam.get_s0()))
        lorentz_polarization = 1 / corrections.lp(s1)
        counts = spots.strength[row] * lorentz_polarization / math.radians(1.0)
        assert total[box].sum() == pytest.approx(counts, rel=0.01)
        checked += 1
    assert checked > 20


def test_spots_obey_symmetry_and_wilson():
    from diffuse_core.simulate.bragg import make_reflections
    from diffuse_core.simulate.build_truth import crystal_symmetry

    text = "crystal { unit_cell = 60 60 90 90 90 120\n space_group = P3121 }\n"
    params, _ = read_recipe(text + "bragg.b_factor = 0\nbragg.amplitude = 2\n")
    symmetry = crystal_symmetry(params)
    found = make_reflections(params, symmetry, 2.5)
    strength = {tuple(h): x for h, x in zip(found.hkl, found.strength, strict=True)}
    assert len(strength) == len(found.hkl)
    assert (0, 0, 1) not in strength
    assert (0, 0, 3) in strength
    for op in symmetry.space_group().all_ops():
        r = np.array(op.r().as_double()).reshape(3, 3)
        for h in found.hkl[:200]:
            assert strength[tuple(h @ r)] == strength[tuple(-h)] == strength[tuple(h)]
    values = np.array(list(strength.values()))
    assert values.mean() == pytest.approx(2, rel=0.05)
    assert np.mean(values**2) / values.mean() ** 2 == pytest.approx(2, rel=0.15)
    assert make_reflections(params, symmetry, 3.0).strength.max() in values


def test_stills_have_their_spots_where_the_table_says():
    sim = simulation(SMOOTH + "stills.n = 3\n", "stills_small")
    assert sim.instrument.goniometer is None
    n_checked = 0
    for image in range(3):
        expected = sim.expected_counts(image)[0]
        spots = sim.spots[image]
        a = np.array(sim.crystals[image].get_A()).reshape(3, 3)
        s0 = np.array(sim.instrument.beam.get_s0())
        np.testing.assert_allclose(spots.hkl @ a.T, spots.centre, atol=1e-12)
        distance = np.linalg.norm(spots.centre + s0, axis=1) - 1 / 1.0
        assert np.all(np.abs(distance) < 5 * spots.width)
        for row in range(len(spots)):
            (x, y), half = spots.pixel[row], spots.half_box[row]
            clash = np.abs(spots.pixel - spots.pixel[row]) < 2 * half
            edge = min(x, y, 256 - x, 256 - y) < half.max() + 1
            if clash.all(axis=1).sum() > 1 or edge:
                continue
            j, i = np.mgrid[
                int(y - half[1]) : int(y + half[1]) + 2,
                int(x - half[0]) : int(x + half[0]) + 2,
            ]
            weight = expected[j, i]
            centroid = np.sum(weight * (i + 0.5)), np.sum(weight * (j + 0.5))
            centroid = np.array(centroid) / weight.sum()
            np.testing.assert_allclose(centroid, (x, y), atol=0.1)
            n_checked += 1
    assert n_checked > 20


def test_still_orientations_are_uniform_and_seeded():
    text = "stills { n = 400\n seed = %d }\n"
    first, again, other = (
        make_crystals(read_recipe(text % seed)[0]) for seed in (4, 4, 5)
    )
    assert [c.get_U() for c in first] == [c.get_U() for c in again]
    assert first[0].get_U() != other[0].get_U()
    u = np.array([c.get_U() for c in first])
    # Haar measure: every element has mean 0 and variance 1/3, angles mean 126.5 deg
    assert np.abs(u.mean(axis=0)).max() < 4 / math.sqrt(3 * 400)
    np.testing.assert_allclose((u**2).mean(axis=0), 1 / 3, atol=0.08)
    angle = np.degrees(np.arccos((u[:, [0, 4, 8]].sum(axis=1) - 1) / 2))
    assert angle.mean() == pytest.approx(math.degrees(math.pi / 2 + 2 / math.pi), abs=5)


def test_counts_are_poisson_with_the_expected_mean():
    sim = simulation("bragg.enable = False\n")
    expected = sim.expected_counts(0)[0]
    good = ~sim.faults[0].gap
    counts = [sim.counts(0)[0]]
    for seed in range(2, 6):
        sim.params.noise.seed = seed
        counts.append(sim.counts(0)[0])
    counts = np.array(counts)[:, good]
    mean = expected[good]
    assert np.all(counts >= 0)
    assert len(np.unique(counts, axis=0)) == 5
    z = (counts.sum() - 5 * mean.sum()) / math.sqrt(5 * mean.sum())
    assert abs(z) < 4
    chi_squared = ((counts - mean) ** 2 / mean).mean()
    assert chi_squared == pytest.approx(1, abs=0.01)


def test_faults_of_the_detector():
    text = """
    noise { hot_pixels = 7
      dead_pixels = 5
      hot_rate = 1e4 }
    scan.exposure = 2
    """
    sim = simulation(text)
    plain = simulation("scan.exposure = 2\n")
    faults = sim.faults[0]
    counts, without = sim.counts(0)[0], plain.counts(0)[0]
    assert len(faults.hot) == 7
    assert len(faults.dead) == 5
    assert np.all(np.abs(counts[tuple(faults.hot.T)] - 2e4) < 1000)
    assert np.all(counts[tuple(faults.dead.T)] == 0)
    assert np.all(counts[faults.gap] == -1)
    assert faults.gap.sum() == 256**2 - 4 * 124**2
    assert not faults.gap[0, 123]
    assert faults.gap[0, 124] and faults.gap[0, 131] and not faults.gap[0, 132]
    assert without.min() == -1
    rounded = simulation("noise.poisson = False\nbragg.enable = False\n")
    np.testing.assert_array_equal(
        rounded.counts(0)[0][~faults.gap],
        np.rint(rounded.expected_counts(0)[0])[~faults.gap],
    )
    clipped = simulation("detector.saturation = 3\n")
    data = clipped.counts(0)[0]
    assert data.max() == 3
    panel = clipped.instrument.detector[0]
    trusted = panel.get_trusted_range_mask(flex.int(data)).as_numpy_array()
    np.testing.assert_array_equal(trusted, (data >= 0) & (data < 3))


def test_scale_over_the_images():
    sim = simulation("scale { amplitude = 0.3\n period = 0.5 }\n")
    x = (np.arange(12) + 0.5) / 12
    np.testing.assert_allclose(sim.scales, 1 + 0.3 * np.sin(4 * np.pi * x))
    with pytest.raises(
        ConfigError, match="scale.values has 2 numbers but there are 12"
    ):
        simulation("scale.values = 1 2\n")


@pytest.mark.parametrize(
    ("name", "size", "gaps"),
    [
        ("pilatus_300k", (487, 619), 2 * 17 * 487),
        ("pilatus_1m", (981, 1043), 4 * 17 * 981 + 7 * (1043 - 4 * 17)),
        ("pilatus_2m", (1475, 1679), None),
        ("pilatus_6m", (2463, 2527), None),
        ("eiger_1m", (1030, 1065), 37 * 1030),
        ("eiger_4m", (2070, 2167), None),
        ("eiger_9m", (3110, 3269), None),
        ("eiger_16m", (4150, 4371), None),
    ],
)
def test_layouts_are_those_of_the_real_detectors(name, size, gaps):
    from diffuse_core.simulate.detectors import gap_mask, make_detector

    params, _ = read_recipe(f"detector.name={name}\ndetector.thickness=0.32\n")
    panel = make_detector(params)[0]
    assert panel.get_image_size() == size
    assert panel.get_pixel_size()[0] == (0.172 if "pilatus" in name else 0.075)
    assert panel.get_thickness() == 0.32
    assert panel.get_beam_centre_px((0, 0, -1)) == pytest.approx(
        (size[0] / 2, size[1] / 2)
    )
    by_dxtbx = gap_mask(panel, None)
    np.testing.assert_array_equal(gap_mask(panel, name), by_dxtbx)
    if gaps is not None:
        assert by_dxtbx.sum() == gaps
