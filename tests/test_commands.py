"""The commands as a user meets them: outputs, restart, processes, error sentences."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from dials.array_family import flex
from dials.util import Sorry
from dxtbx.model.experiment_list import ExperimentListFactory

from diffuse_core.command_line import diffuse, diffuse_integrate, diffuse_merge
from diffuse_core.io.files import read_map, read_merged, read_provenance
from diffuse_core.observations import DTYPES, read_observations
from diffuse_core.simulate import recipe, run_simulation

IN_PROCESS = "parallel.nproc=1"


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A simulated scan of 12 images on a small detector."""
    return run_simulation(recipe("rotation_small"), tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="module")
def reduced(scan, tmp_path_factory):
    """The folder in which dials.diffuse reduced the scan."""
    folder = tmp_path_factory.mktemp("reduced")
    before = os.getcwd()
    os.chdir(folder)
    try:
        diffuse.run([str(scan.expt_path), str(scan.refl_path), IN_PROCESS])
    finally:
        os.chdir(before)
    return folder


def error_of(run, *args):
    """The one sentence with which a command ends."""
    with pytest.raises((Sorry, SystemExit)) as caught:
        run([str(a) for a in args])
    text = str(caught.value)
    assert "Traceback" not in text
    assert len(text.splitlines()) == 1, text
    return text


def test_whole_chain_leaves_all_outputs(reduced):
    names = {p.name for p in reduced.iterdir()}
    assert names == {
        "diffuse_observations",
        "diffuse_merged.nxs",
        "diffuse_map.nxs",
        "diffuse_pictures",
        "diffuse_pixels.pickle",
        "diffuse_pixels.json",
        "dials.diffuse.json",
        "dials.diffuse.html",
        "dials.diffuse.phil",
        "dials.diffuse.log",
    }
    assert len(list((reduced / "diffuse_pictures").glob("*.png"))) == 3
    log = (reduced / "dials.diffuse.log").read_text()
    assert "Traceback" not in log
    assert "images/s" in log
    figures = json.loads((reduced / "dials.diffuse.json").read_text())
    assert figures["integration"]["images"] == 12
    merged = read_merged(reduced / "diffuse_merged.nxs")
    assert figures["merging"]["overall"]["voxels"] == len(merged)
    assert figures["integration"]["counts"] == merged.counts.sum()


def test_every_output_tells_where_it_comes_from(reduced, scan):
    records = [
        read_provenance(reduced / "diffuse_merged.nxs"),
        read_provenance(reduced / "diffuse_map.nxs"),
        json.loads((reduced / "dials.diffuse.json").read_text())["provenance"],
    ]
    for block in (reduced / "diffuse_observations").glob("block_*.h5"):
        records.append(read_observations(block).meta["provenance"])
    for record in records:
        assert record["program"].startswith("dials.diffuse ")
        assert "divisions" in record["phil"]
        kinds = {(m[0], m[1]) for m in record["models"]}
        assert ("mapping", "hkl_grid") in kinds
        paths = {i["path"]: i for i in record["inputs"]}
        assert paths[str(scan.expt_path)]["size"] == scan.expt_path.stat().st_size


def test_map_holds_the_merged_table_and_nan_elsewhere(reduced):
    merged = read_merged(reduced / "diffuse_merged.nxs")
    volume = read_map(reduced / "diffuse_map.nxs")
    at = tuple((merged.index - volume.lower).T)
    assert volume.intensity[at] == pytest.approx(merged.intensity, rel=1e-6)
    assert (volume.multiplicity[at] == merged.observations).all()
    measured = volume.multiplicity > 0
    assert np.isnan(volume.intensity[~measured]).all()
    assert np.isfinite(volume.intensity[measured]).all()
    assert (volume.sigma[measured] > 0).all()
    assert not measured.all()
    h, k, i = (np.argmin(np.abs(volume.axis(n))) for n in range(3))
    opposite = volume.intensity[::-1, ::-1, ::-1]
    assert volume.lower.tolist() == [-h, -k, -i]
    assert np.array_equal(opposite, volume.intensity, equal_nan=True)


def test_map_opens_in_nexpy_as_plottable_data(reduced):
    nexusformat = pytest.importorskip("nexusformat.nexus")
    for name in ("diffuse_map.nxs", "diffuse_merged.nxs"):
        entry = nexusformat.nxload(str(reduced / name)).entry
        assert entry.nxclass == "NXentry"
    data = nexusformat.nxload(str(reduced / "diffuse_map.nxs")).entry
    plottable = data.plottable_data
    assert plottable is not None and plottable.nxclass == "NXdata"
    assert plottable.nxsignal.nxname == "intensity"
    assert [a.nxname for a in plottable.nxaxes] == ["h", "k", "l"]
    assert plottable.nxsignal.shape == tuple(len(a) for a in plottable.nxaxes)


def test_working_phil_repeats_the_run(reduced, scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    phil = reduced / "dials.diffuse.phil"
    diffuse.run([str(scan.expt_path), str(scan.refl_path), str(phil)])
    assert (tmp_path / "dials.diffuse.phil").read_text() == phil.read_text()
    first, again = (
        read_merged(folder / "diffuse_merged.nxs") for folder in (reduced, tmp_path)
    )
    assert np.array_equal(first.intensity, again.intensity)


def test_steps_give_what_the_whole_chain_gives(reduced, scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    diffuse_integrate.run([str(scan.expt_path), IN_PROCESS, "output.observations=a"])
    diffuse_merge.run(["a", "output.pictures=None"])
    first, again = (
        read_merged(folder / "diffuse_merged.nxs") for folder in (reduced, tmp_path)
    )
    assert np.array_equal(first.counts, again.counts)
    assert np.array_equal(first.intensity, again.intensity)


def same_observations(one: Path, two: Path) -> None:
    names = sorted(p.name for p in one.glob("block_*.h5"))
    assert names == sorted(p.name for p in two.glob("block_*.h5"))
    for name in names:
        a, b = (read_observations(folder / name).columns for folder in (one, two))
        for column in DTYPES:
            assert np.array_equal(a[column], b[column])


def test_two_processes_give_the_same_bits(reduced, scan, tmp_path, run_command):
    run_command(
        "dials.diffuse", scan.expt_path, scan.refl_path, "nproc=2", cwd=tmp_path
    )
    same_observations(
        reduced / "diffuse_observations", tmp_path / "diffuse_observations"
    )
    one, two = (read_map(f / "diffuse_map.nxs") for f in (reduced, tmp_path))
    for name in ("intensity", "sigma", "multiplicity"):
        assert np.array_equal(getattr(one, name), getattr(two, name), equal_nan=True)


def test_restart_integrates_only_what_is_missing(scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "diffuse_observations"
    arguments = [str(scan.expt_path), IN_PROCESS]
    diffuse_integrate.run(arguments)
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    kept = folder / "block_000003.h5"
    (folder / "block_000001.h5").unlink()
    (folder / "block_000002.h5").write_bytes(kept.read_bytes()[:1000])
    (folder / ".block_000009.h5.1.tmp").write_bytes(b"half")
    time = kept.stat().st_mtime_ns
    diffuse_integrate.run(arguments)
    figures = json.loads((tmp_path / "dials.diffuse_integrate.json").read_text())
    assert figures["integration"]["reused"] == 10
    assert kept.stat().st_mtime_ns == time
    same_observations(folder, whole)
    assert not list(folder.glob(".*"))
    diffuse_integrate.run([*arguments, "mapping.hkl_grid.divisions=2,2,2"])
    figures = json.loads((tmp_path / "dials.diffuse_integrate.json").read_text())
    assert figures["integration"]["reused"] == 0
    diffuse_integrate.run([*arguments, "block.width=4"])
    assert len(list(folder.glob("block_*.h5"))) == 3


def test_several_files_scans_and_stills_together(scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stills = run_simulation(recipe("stills_small"), tmp_path / "stills")
    diffuse.run(
        [
            *(str(p) for p in (scan.expt_path, stills.expt_path)),
            *(str(p) for p in (scan.refl_path, stills.refl_path)),
            IN_PROCESS,
            "output.pictures=None",
        ]
    )
    figures = json.loads((tmp_path / "dials.diffuse.json").read_text())
    assert figures["integration"]["images"] == 12 + 6
    assert figures["integration"]["experiments"] == 1 + 6
    log = (tmp_path / "dials.diffuse.log").read_text()
    assert "7 experiments (1 scan, 6 stills)" in log


def test_crystals_on_one_image_share_its_pixels(scan, tmp_path, monkeypatch):
    """Both crystals' Bragg spots are masked for both; 'first' uses only one."""
    monkeypatch.chdir(tmp_path)
    experiments = ExperimentListFactory.from_json_file(str(scan.expt_path), False)
    second = ExperimentListFactory.from_json_file(str(scan.expt_path), False)[0]
    second.identifier = "second"
    crystal = second.crystal
    crystal.rotate_around_origin((0.0, 1.0, 0.0), 40.0, deg=True)
    second.imageset = experiments[0].imageset
    experiments.append(second)
    experiments.as_file("two.expt")
    diffuse_integrate.run(["two.expt", IN_PROCESS, "output.observations=both"])
    diffuse_integrate.run([str(scan.expt_path), IN_PROCESS, "output.observations=one"])
    diffuse_integrate.run(
        ["two.expt", IN_PROCESS, "output.observations=first", "input.crystals=first"]
    )

    def counts(folder, block):
        table = read_observations(tmp_path / folder / f"block_{block:06d}.h5")
        return table.columns["counts"].sum(), table.columns["pixels"].sum()

    assert len(list((tmp_path / "both").glob("*.h5"))) == 24
    assert len(list((tmp_path / "first").glob("*.h5"))) == 12
    assert counts("both", 0) == counts("both", 12)
    assert counts("both", 0)[1] < counts("one", 0)[1]
    log = (tmp_path / "dials.diffuse_integrate.log").read_text()
    assert "Traceback" not in log


COMMANDS = {
    "dials.diffuse": diffuse,
    "dials.diffuse_integrate": diffuse_integrate,
    "dials.diffuse_merge": diffuse_merge,
}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_parameters(name, run_command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "Examples" in run_command(name, "-h", cwd=tmp_path).stdout
    with pytest.raises(SystemExit) as caught:
        COMMANDS[name].run(["-c"])
    assert not caught.value.code
    assert "output" in capsys.readouterr().out


# ---------------------------------------------------------------- wrong input


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_missing_file(here):
    assert "missing.expt does not exist" in error_of(diffuse.run, "missing.expt")


def test_images_that_are_gone(here, scan):
    text = scan.expt_path.read_text().replace("simulated_", "elsewhere_")
    Path("gone.expt").write_text(text)
    message = error_of(diffuse.run, "gone.expt")
    assert "gone.expt" in message and "elsewhere_" in message
    assert "can't be found" in message


def test_experiments_without_crystal(here, scan):
    document = json.loads(scan.expt_path.read_text())
    del document["experiment"][0]["crystal"]
    Path("imported.expt").write_text(json.dumps(document))
    assert "has no crystal" in error_of(diffuse.run, "imported.expt")


def test_reflections_of_another_experiment(here, scan):
    other = run_simulation(recipe("stills_small"), here / "other")
    message = error_of(diffuse.run, scan.expt_path, other.refl_path)
    assert "simulated.refl do not belong" in message


def test_reflections_of_another_orientation_without_identifiers(here, scan):
    table = flex.reflection_table.from_file(str(scan.refl_path))
    del table.experiment_identifiers()[0]
    hkl = np.array(table["miller_index"].as_vec3_double()).astype(np.int32)
    table["miller_index"] = flex.miller_index(
        *(flex.int(np.ascontiguousarray(hkl[:, i])) for i in (1, 2, 0))
    )
    table.as_file("turned.refl")
    message = error_of(diffuse.run, scan.expt_path, "turned.refl")
    assert "turned.refl do not belong" in message


def test_unknown_parameter(here, scan):
    message = error_of(diffuse.run, scan.expt_path, "mask.brag.floor=1")
    assert "mask.brag" in message


@pytest.mark.parametrize(
    "argument,expected",
    [
        ("mask.models=brag", ["no mask model 'brag'", "'bragg'", "resolution"]),
        ("correction.models=polarisation", ["'polarization'", "sensor"]),
        ("mapping.model=hkl", ["no mapping model 'hkl'", "hkl_grid", "q_grid"]),
    ],
)
def test_unknown_model(here, scan, argument, expected):
    message = error_of(diffuse.run, scan.expt_path, argument)
    for part in expected:
        assert part in message


def test_value_of_the_wrong_type(here, scan):
    message = error_of(diffuse.run, scan.expt_path, "block.width=wide")
    assert "block.width" in message


def test_unequal_divisions_under_a_four_fold_axis(here):
    tetragonal = recipe("rotation_small").replace(
        "unit_cell = 20 25 30 90 90 90\n  space_group = P212121",
        "unit_cell = 20 20 30 90 90 90\n  space_group = P41212",
    )
    files = run_simulation(tetragonal + "\nscan.n_images = 2\n", here / "sim")
    divisions = "mapping.hkl_grid.divisions=2,3,3"
    message = error_of(diffuse.run, files.expt_path, divisions)
    assert "divisions of h and k differ" in message
    assert not (here / "diffuse_observations").exists()
    diffuse.run([str(files.expt_path), divisions, "merging.symmetry=P1", IN_PROCESS])
    assert read_merged("diffuse_merged.nxs").symmetry == "P1"


def test_observations_that_are_not_there(here):
    assert "does not exist" in error_of(diffuse_merge.run, "nowhere")
    Path("empty").mkdir()
    assert "no complete set" in error_of(diffuse_merge.run, "empty")


def test_file_of_unknown_kind(here):
    Path("notes.txt").write_text("hello")
    assert "notes.txt" in error_of(diffuse.run, "notes.txt")


def test_broken_files(here, scan):
    Path("broken.expt").write_text("{")
    assert "broken.expt" in error_of(diffuse.run, "broken.expt")
    Path("broken.refl").write_bytes(b"nothing")
    assert "broken.refl" in error_of(diffuse.run, scan.expt_path, "broken.refl")
    Path("odd.refl").write_bytes(pickle.dumps([1, 2]))
    assert "odd.refl" in error_of(diffuse.run, scan.expt_path, "odd.refl")


def test_image_range_outside_the_scan(here, scan):
    message = error_of(diffuse.run, scan.expt_path, "input.image_range=100,200")
    assert "leaves no image" in message and "1-12" in message


def test_everything_masked(here, scan):
    message = error_of(
        diffuse.run,
        scan.expt_path,
        "mask.models=resolution",
        "mask.resolution.d_min=500",
        IN_PROCESS,
    )
    assert "No voxel was measured" in message


def test_truncated_image_is_named(here, scan):
    shutil.copytree(scan.expt_path.parent, here / "copy")
    image = sorted((here / "copy").glob("*.cbf"))[5]
    image.write_bytes(image.read_bytes()[:3000])
    expt = here / "copy" / scan.expt_path.name
    expt.write_text(
        expt.read_text().replace(str(scan.expt_path.parent), str(here / "copy"))
    )
    message = error_of(diffuse.run, expt, IN_PROCESS)
    assert image.name in message


def test_hdf5_file_that_is_no_observations_file(here):
    Path("folder").mkdir()
    with h5py.File("folder/block_000000.h5", "w") as h5:
        h5["x"] = 1
    Path("folder/run.json").write_text('{"files": ["block_000000.h5"]}')
    assert "holds no observations" in error_of(diffuse_merge.run, "folder")
