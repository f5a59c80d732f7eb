"""The files of a simulation, as dxtbx and DIALS read them."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import dxtbx
from dials.array_family import flex
from dxtbx import flumpy
from dxtbx.model import Beam, Detector, MultiAxisGoniometer
from dxtbx.model.experiment_list import ExperimentListFactory
from libtbx.phil import parse

from diffuse_core.errors import DiffuseError
from diffuse_core.simulate import SimulationResult, recipe, run_simulation
from diffuse_core.simulate.models import make_scan
from diffuse_core.simulate.nexus import NexusWriter
from diffuse_core.simulate.phil import phil_scope, read_recipe
from diffuse_core.simulate.simulation import Simulation
from diffuse_core.simulate.truth import Truth


def load(path: Path):
    return ExperimentListFactory.from_json_file(str(path), check_format=True)


def counts_of(imageset, index: int) -> list[np.ndarray]:
    return [flumpy.to_numpy(x).copy() for x in imageset.get_raw_data(index)]


@pytest.fixture(scope="module")
def rotation(tmp_path_factory) -> SimulationResult:
    directory = tmp_path_factory.mktemp("rotation")
    return run_simulation(recipe("rotation_small"), directory)


@pytest.mark.parametrize(
    "text",
    [
        "detector.name = test_small\n",
        "detector { name = pilatus_300k\n beam_centre = 240.123456 300.654321 }\n",
        "detector { name = eiger_1m\n thickness = 0.32 }\nbeam.wavelength = 0.97623\n",
        "output.format = nxs\n",
        "output.format = nxs\ndetector { tilt = 5\n two_theta = 10 }\n",
        "detector.name = test_curved\n",
    ],
    ids=["generic", "pilatus", "eiger", "nexus", "tilted", "curved"],
)
def test_images_alone_give_the_same_models(text, tmp_path):
    text += "scan { n_images = 2\n start = 12.5\n width = 0.3\n exposure = 0.123 }\n"
    result = run_simulation(recipe("rotation_small") + text, tmp_path)
    files = sorted(str(p) for p in tmp_path.iterdir() if p.suffix in (".cbf", ".nxs"))
    assert len(files) == (1 if files[0].endswith(".nxs") else 2)
    (imported,) = ExperimentListFactory.from_filenames(files)
    (written,) = load(result.expt_path)
    assert len(imported.detector) == len(written.detector)
    for one, other in zip(imported.detector, written.detector, strict=True):
        if files[0].endswith(".nxs"):
            # dxtbx names panels after the file's groups, and up to 3.11 takes the
            # largest valid count of NeXus as the first that is not valid
            one.set_name(other.get_name())
            one.set_trusted_range(other.get_trusted_range())
        assert one == other
        np.testing.assert_allclose(one.get_origin(), other.get_origin(), atol=1e-8)
        assert one.get_mu() == other.get_mu() > 0
        assert one.get_thickness() == pytest.approx(other.get_thickness())
        corner = one.get_pixel_lab_coord((0, 0)), other.get_pixel_lab_coord((0, 0))
        np.testing.assert_allclose(*corner, atol=1e-8)
    assert imported.beam == written.beam
    assert imported.goniometer == written.goniometer
    if files[0].endswith(".nxs"):
        imported.scan.set_epochs(written.scan.get_epochs())  # NeXus: from 0
    assert imported.scan == written.scan
    exposures = list(written.scan.get_exposure_times())
    assert exposures == pytest.approx([0.123, 0.123])
    for index in range(2):
        for one, other in zip(
            imported.imageset.get_mask(index),
            written.imageset.get_mask(index),
            strict=True,
        ):
            assert one.all_eq(other)
            assert 0 < one.count(True)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("rotation_small", ""),
        ("rotation_small", "scan.n_images=1\n"),
        ("rotation_small", "scan.n_images=1\noutput.format=nxs\n"),
        ("multipanel_small", ""),
        ("stills_small", "scan.exposure=2\n"),
        ("stills_small", "output.format=nxs\nscan.exposure=2\n"),
    ],
)
def test_experiments_give_back_every_count(name, more, tmp_path, monkeypatch):
    text = recipe(name) + more
    monkeypatch.chdir(tmp_path)
    result = run_simulation(text, "sub")
    monkeypatch.chdir("/")
    assert not list((tmp_path / "sub").glob("*partial*"))
    experiments = load(result.expt_path)
    simulation = Simulation(read_recipe(text)[0])
    is_still = name == "stills_small"
    assert len(experiments) == (6 if is_still else 1)
    assert len(set(experiments.identifiers())) == len(experiments)
    for image in range(simulation.n_images):
        experiment = experiments[image if is_still else 0]
        index = 0 if is_still else image
        assert experiment.is_still() == is_still
        counts = simulation.counts(image)
        masks = experiment.imageset.get_mask(index)
        read = counts_of(experiment.imageset, index)
        for one, other, mask in zip(read, counts, masks, strict=True):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(flumpy.to_numpy(mask), other >= 0)
    if is_still:
        assert experiments[0].goniometer is None
        assert list(experiments[0].scan.get_exposure_times()) == [2]


def test_minicbf_is_valid_for_cbflib(rotation):
    import pycbf

    path = rotation.expt_path.with_name("simulated_00003.cbf")
    handle = pycbf.cbf_handle_struct()
    handle.read_widefile(str(path).encode(), pycbf.MSG_DIGEST)
    handle.find_category(b"array_data")
    handle.find_column(b"data")
    data = np.frombuffer(handle.get_integerarray_as_string(), dtype=np.int32)
    (read,) = counts_of(load(rotation.expt_path)[0].imageset, 2)
    np.testing.assert_array_equal(data.reshape(read.shape), read)
    content = path.read_bytes()
    header, _, rest = content.partition(b"\x0c\x1a\x04\xd5")
    fields = dict(
        line.split(": ", 1)
        for line in header.decode().splitlines()
        if line.startswith(("X-Binary-Size:", "Content-MD5:"))
    )
    digest = hashlib.md5(rest[: int(fields["X-Binary-Size"])]).digest()
    assert fields["Content-MD5"] == base64.b64encode(digest).decode()


def test_many_panels_keep_their_order_and_place(tmp_path):
    params, _ = read_recipe("stills.n=1\ndetector.name=test_small\n")
    detector = Detector()
    rng = np.random.default_rng(3)
    for index in range(13):
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        panel = detector.add_panel()
        panel.set_name(f"p{index}")
        panel.set_image_size((20 + index, 31 - index))
        panel.set_pixel_size((0.1, 0.2))
        panel.set_thickness(0.5)
        panel.set_trusted_range((-400, 9000))
        panel.set_frame(tuple(axes[0]), tuple(axes[1]), tuple(rng.normal(size=3) * 99))
    counts = [
        rng.integers(-300, 300, panel.get_image_size()[::-1]).astype(np.int32)
        for panel in detector
    ]
    gaps = [np.zeros(c.shape, dtype=bool) for c in counts]
    path = tmp_path / "panels.nxs"
    beam = Beam((0, 0, 1), 1.0)
    with NexusWriter(path, beam, detector, None, make_scan(params), 2, gaps) as writer:
        writer.write(0, [0 * c for c in counts])
        writer.write(1, counts)
    with h5py.File(path) as file:
        shifts = file["entry/instrument/detector/transformations"]
        # dxtbx > 3.11 gives the frame of the first step to the whole detector
        chains = {shifts[f"module_{i:04d}"].attrs["depends_on"] for i in range(13)}
        assert chains == {shifts["detector"].name}
        assert shifts["detector"].attrs["depends_on"] == "."
        assert shifts["detector"][0] == 0
    image = dxtbx.load(str(path))
    for one, other in zip(image.get_detector(), detector, strict=True):
        assert one.get_image_size() == other.get_image_size()
        np.testing.assert_allclose(one.get_fast_axis(), other.get_fast_axis())
        np.testing.assert_allclose(one.get_slow_axis(), other.get_slow_axis())
        np.testing.assert_allclose(one.get_origin(), other.get_origin())
    for one, other in zip(image.get_raw_data(1), counts, strict=True):
        np.testing.assert_array_equal(flumpy.to_numpy(one), other)


def test_failed_nexus_file_is_removed(tmp_path):
    params, _ = read_recipe("stills.n=1\ndetector.name=test_small\n")
    simulation = Simulation(params)
    with pytest.raises(ZeroDivisionError):
        with NexusWriter(
            tmp_path / "a.nxs",
            simulation.instrument.beam,
            simulation.instrument.detector,
            None,
            simulation.scan,
            1,
            [simulation.faults[0].gap],
        ):
            raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_multi_axis_goniometer_is_kept(tmp_path):
    text = """
    goniometer { axes = 1 0 0  0 0.3 -1  1 0 0
      angles = 10 -54.7 20
      names = phi chi omega
      scan_axis = 2 }
    scan.n_images = 3
    """
    result = run_simulation(recipe("rotation_small") + text, tmp_path)
    imported = ExperimentListFactory.from_filenames([str(tmp_path / "simulated.nxs")])
    written = load(result.expt_path)
    for goniometer in (imported[0].goniometer, written[0].goniometer):
        assert isinstance(goniometer, MultiAxisGoniometer)
        assert list(goniometer.get_names()) == ["phi", "chi", "omega"]
        assert goniometer.get_scan_axis() == 2
    np.testing.assert_allclose(
        imported[0].goniometer.get_fixed_rotation(),
        written[0].goniometer.get_fixed_rotation(),
        atol=1e-9,
    )


@pytest.mark.parametrize(
    ("more", "tolerance"),
    [
        ("", 1e-6),
        ("goniometer.axis = 0.1 -1 0.2\ndetector.two_theta = 8\n", 1e-6),
        ("crystal.drift { angle = 1\n cell = 0.01 }\n", 0.05),
    ],
)
def test_spots_are_where_dials_predicts_them(more, tolerance, tmp_path):
    result = run_simulation(recipe("multipanel_small") + more, tmp_path)
    experiments = load(result.expt_path)
    table = flex.reflection_table.from_file(str(result.refl_path))
    flags = table.get_flags(table.flags.indexed) & table.get_flags(
        table.flags.predicted
    )
    assert flags.all_eq(True)
    assert dict(table.experiment_identifiers()) == {0: experiments[0].identifier}
    detector, beam = experiments[0].detector, experiments[0].beam
    predicted = flex.reflection_table.from_predictions_multi(
        experiments, dmin=detector.get_max_resolution(beam.get_s0()), padding=1
    )

    group = experiments[0].crystal.get_space_group()
    names = ("miller_index", "entering", "panel")

    def rows(table):
        z = table["xyzcal.px"].parts()[2]
        table = table.select((z > 0) & (z < 8))
        keys = list(zip(*(table[name] for name in names), strict=True))
        # DIALS predicts reflections that a screw axis forbids
        present = [not group.is_sys_absent(key[0]) for key in keys]
        table = table.select(flex.bool(present))
        return [k for k, ok in zip(keys, present, strict=True) if ok], table

    (our_keys, ours), (their_keys, theirs) = rows(table), rows(predicted)
    assert len(our_keys) > 80
    assert set(our_keys) == set(their_keys)
    order = [their_keys.index(key) for key in our_keys]
    theirs = theirs.select(flex.size_t(order))
    for name in ("xyzcal.px", "xyzcal.mm", "s1"):
        difference = np.array(ours[name]) - np.array(theirs[name])
        assert np.abs(difference).max() < tolerance


def test_bounding_boxes_hold_the_spots(rotation):
    text = recipe("rotation_small") + (
        "diffuse { halo.amplitude=0\n cloud.amplitude=0\n"
        "spherical { amplitude=0\n constant=1e-9 } }\n"
    )
    simulation = Simulation(read_recipe(text)[0])
    table = flex.reflection_table.from_file(str(rotation.refl_path))
    bbox = np.array(table["bbox"]).reshape(-1, 6)
    assert bbox[:, 4].min() == 0
    assert bbox[:, 5].max() == 12
    assert np.all(bbox[:, 5] > bbox[:, 4])
    inside, total = 0.0, 0.0
    for image in range(12):
        expected = simulation.expected_counts(image)[0]
        mask = np.zeros(expected.shape, dtype=bool)
        for x0, x1, y0, y1, z0, z1 in bbox:
            if z0 <= image < z1:
                mask[max(y0, 0) : y1, max(x0, 0) : x1] = True
        inside += expected[mask].sum()
        total += expected.sum()
        assert expected[~mask].max() < 0.01
    assert mask.mean() < 0.5
    assert inside > 0.9999 * total


def test_profile_model_is_that_of_the_spots(rotation):
    (experiment,) = load(rotation.expt_path)
    wavelength = experiment.beam.get_wavelength()
    assert experiment.profile.sigma_b(deg=False) == pytest.approx(2e-3 * wavelength)
    assert experiment.profile.sigma_m(deg=True) == pytest.approx(0.05)


def test_spot_finding_agrees_with_prediction(tmp_path):
    """Spots found by DIALS lie on its predictions; half a pixel would show."""
    from dials.command_line.find_spots import phil_scope as spot_scope

    text = "scan { n_images = 40\n width = 0.25 }\nbragg.amplitude = 40\n"
    result = run_simulation(recipe("rotation_small") + text, tmp_path)
    experiments = load(result.expt_path)
    params = spot_scope.fetch(parse("spotfinder.mp.nproc = 1")).extract()
    found = flex.reflection_table.from_observations(experiments, params)
    predicted = flex.reflection_table.from_predictions_multi(experiments)
    xyz = np.array(found["xyzobs.px.value"])
    model = np.array(predicted["xyzcal.px"])
    whole = (xyz[:, 2] > 2) & (xyz[:, 2] < 38)
    strong = np.array(found["intensity.sum.value"]) > 200
    difference = []
    for spot in xyz[whole & strong]:
        near = model[np.abs(model[:, :2] - spot[:2]).max(axis=1) < 3]
        near = near[np.abs(near[:, 2] - spot[2]) < 4]
        if len(near) == 1:
            difference.append(spot - near[0])
    difference = np.array(difference)
    assert len(difference) > 40
    assert np.abs(difference.mean(axis=0)).max() < 0.1
    assert np.abs(np.median(difference, axis=0)).max() < 0.02
    assert np.abs(difference[:, :2]).mean(axis=0).max() < 0.1


def test_same_seed_gives_the_same_bytes(tmp_path):
    text = recipe("rotation_small") + "scan.n_images = 3\n"
    one = run_simulation(text + "nproc = 1\n", tmp_path / "one").expt_path.parent
    two = run_simulation(text + "nproc = 2\n", tmp_path / "two").expt_path.parent
    names = [f"simulated_{i:05d}.cbf" for i in (1, 2, 3)]
    for name in [*names, "simulated.refl", "truth.json"]:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    other = run_simulation(text + "noise.seed = 2\n", tmp_path / "other")
    changed = other.expt_path.with_name(names[0]).read_bytes()
    assert changed != (one / names[0]).read_bytes()


def test_truth_file_rebuilds_the_simulation(rotation):
    document = json.loads(rotation.truth_path.read_text())
    params, _ = read_recipe(document["simulation"]["phil"])
    simulation = Simulation(params)
    truth = Truth.from_file(rotation.truth_path)
    hkl = np.random.default_rng(0).uniform(-5, 5, (50, 3))
    np.testing.assert_array_equal(truth.intensity(hkl), simulation.truth.intensity(hkl))
    assert document["simulation"]["scales"] == [1.0] * 12
    (read,) = counts_of(load(rotation.expt_path)[0].imageset, 4)
    np.testing.assert_array_equal(read, simulation.counts(4)[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense = 3\n", "unknown parameters: nonsense"),
        ("detector.name = kodak\n", "Not a possible choice for detector.name: kodak"),
        ("scan.width = -1\n", "scan.width"),
        ("detector.experiments = missing.expt\n", "missing.expt does not exist"),
        ("detector.experiments = {file}\n", "can't be read as an experiment list"),
        ("goniometer.axis = 0 0 0\n", "must not be 0 0 0"),
        ("goniometer.axes = 1 0 0\n", "goniometer.angles"),
        ("goniometer.fixed_rotation = 1 0 0 0 1 0 0 0 -1\n", "rotation matrix"),
        ("crystal.orientation = 2 0 0 0 1 0 0 0 1\n", "crystal.orientation"),
        ("beam.polarization_normal = 0 0 1\n", "perpendicular to the beam"),
        ("noise.dead_pixels = 99999\n", "noise.dead_pixels = 99999 is more"),
        ("output.format = cbf\ndetector.name = test_curved\n", "3 panels"),
        ("crystal.drift { angle = 1\n axis = 0 0 0 }\n", "crystal.drift.axis"),
    ],
)
def test_bad_input_is_one_sentence(text, message, tmp_path):
    file = tmp_path / "broken.expt"
    file.write_text("{")
    directory = tmp_path / "out"
    with pytest.raises(DiffuseError, match=message) as caught:
        text = text.replace("{file}", str(file))
        run_simulation(recipe("rotation_small") + text, directory)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert not directory.exists()


@pytest.mark.slow
def test_geometry_of_a_real_experiment(data_dir, tmp_path):
    """64 panels of a CSPAD: every panel keeps its place and its counts."""
    path = data_dir / "thermolysin_cspad" / "dials" / "refined.expt"
    result = run_simulation(
        f"detector.experiments = {path}\nstills.n = 1\ncrystal.unit_cell ="
        " 93 93 130 90 90 120\ncrystal.space_group = P6122\nbragg.d_min = 5\n",
        tmp_path,
    )
    real = ExperimentListFactory.from_json_file(str(path), check_format=False)[0]
    (written,) = load(result.expt_path)
    assert written.detector == real.detector
    assert written.beam == real.beam
    read = dxtbx.load(str(tmp_path / "simulated.nxs")).get_detector()
    for one, other in zip(read, real.detector, strict=True):
        np.testing.assert_allclose(one.get_origin(), other.get_origin(), atol=1e-6)
    params, _ = read_recipe(
        json.loads(result.truth_path.read_text())["simulation"]["phil"]
    )
    counts = Simulation(params).counts(0)
    for one, other in zip(counts_of(written.imageset, 0), counts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_spots_the_table_is_empty(tmp_path):
    text = "bragg.enable = False\nscan.n_images = 1\n"
    result = run_simulation(recipe("rotation_small") + text, tmp_path)
    table = flex.reflection_table.from_file(str(result.refl_path))
    (experiment,) = load(result.expt_path)
    assert len(table) == 0
    assert "miller_index" in table
    assert experiment.profile is None


def test_recipes_are_complete():
    for name in ("rotation_small", "stills_small", "multipanel_small", "protein"):
        params, _ = read_recipe(recipe(name))
        assert params.bragg.enable
    assert phil_scope().extract().output.directory == "simulated"
