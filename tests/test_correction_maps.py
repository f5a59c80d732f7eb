"""Flat fields and gain maps: every kind of file, and nothing counted twice."""

from __future__ import annotations

import logging
import pickle
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from dials.array_family import flex  # noqa: F401
from dxtbx import flumpy
from dxtbx.format.image import ImageDouble

from diffuse_core.compat import load_experiments
from diffuse_core.errors import ConfigError, InputError
from diffuse_core.io.panel_arrays import read_panel_arrays
from diffuse_core.models import RunInputs
from diffuse_core.panels import Models, Readout, prepare_panel
from diffuse_core.plugins.correction.flat_field import FlatField
from diffuse_core.plugins.correction.gain import Gain
from diffuse_core.testing import make_geometry, make_run

SHAPE = (36, 48)


@pytest.fixture
def maps():
    return np.random.default_rng(3).uniform(0.5, 2.0, (2, *SHAPE))


def write(folder, kind, maps):
    path = folder / f"map.{kind.partition(':')[0]}"
    if kind == "npy":
        np.save(path, maps)
    elif kind == "npz":
        np.savez(path, *maps)
    elif kind.startswith("h5"):
        with h5py.File(path, "w") as file:
            file["entry/flat"] = maps
            if ":" in kind:
                file["entry/other"] = maps * 2
                return f"{path}:/entry/flat"
    else:
        panels = tuple(flumpy.from_numpy(panel) for panel in maps)
        path.write_bytes(pickle.dumps(panels))
    return str(path)


@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "h5:", "pickle"])
def test_every_kind_of_file_holds_the_same(tmp_path, maps, kind):
    path = write(tmp_path, kind, maps)
    detector = make_run().experiments[0].detector
    found = read_panel_arrays(path, detector, "correction.flat_field.file")
    np.testing.assert_array_equal(found, maps)


def test_one_panel_may_be_a_flat_array_or_an_image(tmp_path, maps, data_dir):
    detector = make_run().experiments[0].detector
    np.save(tmp_path / "one.npy", maps[0])
    (one,) = read_panel_arrays(str(tmp_path / "one.npy"), [detector[0]], "")
    np.testing.assert_array_equal(one, maps[0])
    folder = data_dir / "lcls_rayonix_kapton"
    still = load_experiments(str(folder / "dials/refined.expt"), check_format=True)[0]
    (image,) = read_panel_arrays(still.imageset.get_path(0), still.detector, "")
    raw = still.imageset.get_raw_data(0)[0].as_numpy_array()
    np.testing.assert_array_equal(image, raw)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: p / "absent.npy", "can't be read"),
        (lambda p: write(p, "npy", np.ones((3, *SHAPE))), "holds 3 panels of shape"),
        (lambda p: write(p, "npy", np.ones((2, 48, 36))), r"detector has 2 panels"),
        (lambda p: write(p, "h5:", np.ones((2, *SHAPE)))[:-12], "2 data sets of two"),
    ],
)
def test_unusable_files_are_refused(tmp_path, make, expected):
    detector = make_run().experiments[0].detector
    with pytest.raises(InputError, match=expected) as caught:
        read_panel_arrays(str(make(tmp_path)), detector, "correction.gain.file")
    assert "correction.gain.file" in str(caught.value)


def test_a_pickle_that_runs_programs_is_refused(tmp_path):
    path = tmp_path / "evil.pickle"
    path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(InputError, match="it holds os.system"):
        read_panel_arrays(str(path), [], "correction.gain.file")


@pytest.mark.parametrize("invert", [False, True])
def test_flat_field_is_the_response(tmp_path, maps, invert):
    path = write(tmp_path, "npy", 1 / maps if invert else maps)
    model = FlatField.from_params(SimpleNamespace(file=path, invert=invert), make_run())
    for panel in range(2):
        np.testing.assert_allclose(
            model.panel_response(make_geometry(panel)), maps[panel]
        )


@pytest.mark.parametrize("invert", [False, True])
def test_dead_pixels_of_a_flat_field_count_as_one_and_are_said(
    tmp_path, maps, invert, caplog
):
    maps[1, 3, 4:7] = [0.0, np.nan, -1.0]
    path = write(tmp_path, "npy", maps)
    model = FlatField.from_params(SimpleNamespace(file=path, invert=invert), make_run())
    assert "3 pixels" in caplog.text
    assert (model.panel_response(make_geometry(1))[3, 4:7] == 1.0).all()


def test_without_files_both_do_nothing_and_say_so(caplog):
    flat = FlatField.from_params(SimpleNamespace(file=None, invert=False), make_run())
    gain = Gain.from_params(SimpleNamespace(file=None), make_run())
    assert flat.panel_response(make_geometry(0)) == 1.0
    assert gain.panel_response(make_geometry(0)) == 1.0
    assert "flat_field does nothing" in caplog.text
    assert "gain does nothing" in caplog.text


def test_gain_is_relative_to_that_of_the_panel(tmp_path, maps):
    """Counts of a uniform beam, divided by panel gain and response, are uniform."""
    run = make_run()
    for number, panel in enumerate(run.experiments[0].detector):
        panel.set_gain(2.0 + number)
    run = RunInputs(run.experiments[:1], None, (0,))
    path = write(tmp_path, "npy", maps)
    model = Gain.from_params(SimpleNamespace(file=path), run)
    photons, pedestal = 7.0, 3.0
    for number in range(2):
        geometry = make_geometry(number)
        readout = Readout(pedestal, 2.0 + number)
        panel = prepare_panel(geometry, readout, Models([], [model], [], None))
        raw = pedestal + photons * maps[number]
        counts = (raw - readout.pedestal) / readout.gain
        np.testing.assert_allclose(counts / panel.response, photons, rtol=1e-6)


def test_gain_map_of_the_image_set_is_used_and_a_uniform_one_changes_nothing(
    data_dir, caplog
):
    path = data_dir / "lcls_rayonix_kapton" / "dials" / "refined.expt"
    experiments = load_experiments(str(path), check_format=False)
    run = RunInputs(experiments, None, (0,))
    values = np.random.default_rng(1).uniform(0.4, 0.6, (1920, 1920))
    detector, lookup = experiments[0].detector, experiments[0].imageset.external_lookup
    detector[0].set_gain(0.5)
    for gains, expected in ((values, values / 0.5), (np.full((1920, 1920), 0.5), 1.0)):
        lookup.gain.data = ImageDouble(flumpy.from_numpy(gains))
        with caplog.at_level(logging.WARNING, "dials.diffuse"):
            model = Gain.from_params(SimpleNamespace(file=None), run)
        response = model.panel_response(make_geometry(0))
        np.testing.assert_allclose(response, np.broadcast_to(expected, response.shape))
    assert not caplog.records


def test_gains_must_be_above_zero(tmp_path, maps):
    maps[0, 0, 0] = 0.0
    with pytest.raises(ConfigError, match="must all be above 0"):
        Gain.from_params(SimpleNamespace(file=write(tmp_path, "npy", maps)), make_run())
