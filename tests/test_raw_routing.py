"""Which way images go, and which files arguments name."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import dxtbx
from dxtbx.model import Experiment
from iotbx.phil import parse

from diffuse_core import boundary
from diffuse_core.compat import load_experiments
from diffuse_core.errors import ConfigError, InputError
from diffuse_core.raw_images import phil, programs, sources, stills
from diffuse_core.raw_images.headers import exposure_of, series_of, still_scan
from diffuse_core.raw_images.routing import Series, choose
from diffuse_core.raw_images.screening import problem_with, unreadable
from diffuse_core.raw_images.steps import Step, Steps, reason_in
from diffuse_core.simulate import run_simulation


def series(width, starts=(), name="a_#.cbf"):
    return Series(name, 10, width, dict(starts))


def test_width_means_rotation():
    route = choose([series(0.1, {1: 0.0, 2: 0.1, 10: 0.9})])
    assert route.mode == "rotation"
    assert "0.1 degrees" in route.reason


def test_no_goniometer_means_stills():
    assert choose([series(None)]).mode == "stills"


def test_stills_at_one_angle_are_stills():
    assert choose([series(0.0, {1: 30.0, 2: 30.0, 9: 30.0})]).mode == "stills"


def test_stills_at_even_angles_are_a_scan_with_each_in_the_middle():
    starts = {1: 0.0, 2: 1.0, 3: 2.0, 95: 94.0, 96: 95.0}
    route = choose([series(0.0, starts)])
    assert route.mode == "still_scan"
    assert route.oscillation == (-0.5, 1.0)


@pytest.mark.parametrize(
    "starts",
    [
        {1: 0.0, 2: 1.0, 3: 5.0, 96: 95.0},
        {1: 0.0, 2: 1.0},
        {1: 10.0, 2: 9.0, 3: 8.0},
    ],
)
def test_other_angles_are_no_scan(starts):
    assert choose([series(0.0, starts)]).mode == "stills"


def test_user_overrides():
    scan = series(0.1, {1: 0.0})
    assert choose([scan], "stills").mode == "stills"
    with pytest.raises(ConfigError, match=r"geometry\.scan\.oscillation"):
        choose([series(0.0, {1: 0.0})], "rotation")
    with pytest.raises(ConfigError, match="equally spaced"):
        choose([scan], "still_scan")


def test_kinds_do_not_mix():
    with pytest.raises(InputError, match=r"b_#\.cbf: stills"):
        choose([series(0.1), series(None, name="b_#.cbf")])
    with pytest.raises(InputError, match="negative"):
        choose([series(-0.1)])


def test_templates_folders_patterns(tmp_path):
    for name in ("x_1_0010.cbf", "x_1_0009.cbf", "x_2_0001.cbf", "notes.txt"):
        (tmp_path / name).write_text("x")
    found = sources.image_files([str(tmp_path / "x_1_####.cbf")])
    assert [path[-8:] for path in found] == ["0009.cbf", "0010.cbf"]
    assert len(sources.image_files([str(tmp_path)])) == 3
    assert len(sources.image_files([str(tmp_path / "x_*.cbf"), str(tmp_path)])) == 3
    assert not sources.exists(str(tmp_path / "y_####.cbf"))
    with pytest.raises(InputError, match=r"No file fits .*y_####\.cbf"):
        sources.image_files([str(tmp_path / "y_####.cbf")])
    with pytest.raises(InputError, match=r"b\.expt can't be used together"):
        sources.image_files([str(tmp_path), "b.expt"])


def test_hdf5_folder_gives_the_master(tmp_path):
    for name in ("a_master.h5", "a_data_000001.h5", "a_meta.h5"):
        (tmp_path / name).write_text("x")
    assert sources.image_files([str(tmp_path)]) == [str(tmp_path / "a_master.h5")]


@pytest.mark.parametrize(
    ("path", "template", "number"),
    [
        ("/d/a_00012.cbf", "/d/a_#.cbf", 12),
        ("/d/a_00012.cbf.bz2", "/d/a_#.cbf.bz2", 12),
        ("/d/run2_7.img.gz", "/d/run2_#.img.gz", 7),
        ("/d/a_1_master.h5", "/d/a_1_master.h5", None),
    ],
)
def test_series_share_a_template(path, template, number):
    assert sources.template_of(path) == (template, number)


def test_the_reason_is_the_last_error():
    log = "working\nTraceback (most recent call last):\n  File\nSorry: No lattice\n\n"
    assert reason_in(log, 1) == "No lattice"
    log = "Indexing\ndials.util.Sorry: Too few spots\nPlease report this"
    assert reason_in(log, 1) == "Too few spots"
    log = "Matching\n 84 matched\n\n      Too few reflections:\n        got 19\n"
    assert reason_in(log, 1) == "Too few reflections"
    assert reason_in("", -9) == "it was ended by signal 9"


NEXUS = """
detector { name = test_small
  distance = 60 }
scan { n_images = 3
  width = 0.2 }
bragg.enable = False
output.format = nxs
"""


@pytest.mark.parametrize(
    ("text", "mode"), [("", "rotation"), ("stills.n = 3\n", "stills")]
)
def test_nexus_masters(tmp_path, text, mode):
    run_simulation(NEXUS + text, tmp_path)
    master = str(tmp_path / "simulated.nxs")
    (found,) = series_of([master])
    assert found.images == 3
    assert choose([found]).mode == mode
    assert problem_with(master) is None


def test_damaged_image_of_a_nexus_file_is_left_out(tmp_path):
    """The others keep their pixels, in all that DIALS makes of the file."""
    run_simulation(NEXUS + "stills.n = 4\n", tmp_path)
    master = tmp_path / "simulated.nxs"
    before = dxtbx.load(str(master))
    good = [np.array(before.get_raw_data(n)) for n in (0, 1, 3)]
    del before
    with h5py.File(master, "r+") as file:
        file["entry/data/data"].id.write_direct_chunk((2, 0, 0), b"garbage" * 30)
    found = unreadable([str(master)], 1, tmp_path / "images.json")
    assert found == {(str(master), 2): "damaged image"}
    assert unreadable([str(master)], 1, tmp_path / "images.json") == found
    assert problem_with(str(master)) is None
    steps = Steps(tmp_path / "dials", {})
    text = "input.convert_sequences_to_stills = True\n"
    outputs = {"output.experiments": "imported.expt"}
    (imported,) = steps.run(Step("import", "import", [master], outputs, text))
    assert len(stills.images_of(imported)) == 4
    readable = stills.without(steps, imported, list(found))
    assert [number for _, number in stills.images_of(readable)] == [0, 1, 3]
    experiments = load_experiments(str(readable), check_format=True)
    for experiment, values in zip(experiments, good, strict=True):
        (panel,) = experiment.imageset.get_raw_data(0)
        np.testing.assert_array_equal(np.array(panel).ravel(), values.ravel())
    assert stills.name_of((str(master), 2)) == "simulated.nxs image 3"


def test_exposure_times_of_stills_are_those_of_the_headers(tmp_path):
    recipe = NEXUS.replace("output.format = nxs", "scan.exposure = 0.25")
    run_simulation(recipe + "stills.n = 1\n", tmp_path)
    (path,) = tmp_path.glob("*.cbf")
    scan = still_scan(exposure_of(str(path), 0))
    assert list(scan.get_exposure_times()) == [0.25]
    still = Experiment(scan=scan)
    assert boundary.is_still(still)
    assert boundary.exposure_time(still, 0) == 0.25
    assert still_scan(None) is None


def test_programs_are_loaded_only_when_named(tmp_path):
    assert phil.named_programs(["a.cbf", "parallel.nproc=2"]) == []
    assert phil.named_programs(["dials.index.indexing.method=fft1d"]) == ["index"]
    recipe = tmp_path / "recipe.phil"
    recipe.write_text("dials { refine { outlier.algorithm = mcd } }\n")
    assert phil.named_programs([str(recipe)]) == ["refine"]
    assert phil.named_programs(["-c"]) == []
    assert set(phil.named_programs(["-c", "-e", "2"])) <= set(programs.MODULES)
    assert "find_spots" in phil.named_programs(["-c", "-e2"])


def test_parameters_of_the_user_come_back_with_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "geometry.expt").write_text("{}")
    arguments = ["dials.import.input.reference_geometry=geometry.expt"]
    master = phil.program_scopes(arguments)
    working = master.fetch(parse("dials.import.input.reference_geometry=geometry.expt"))
    found = phil.user_parameters(working)
    assert list(found) == ["import"]
    assert f'reference_geometry = "{tmp_path / "geometry.expt"}"' in found["import"]
    assert phil.user_parameters(master) == {}
