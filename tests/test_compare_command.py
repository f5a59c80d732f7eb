"""dials.diffuse_compare from files to figures, and the crystallography of matching."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from diffuse_core import compare, regrid, voxel_list
from diffuse_core.errors import ConfigError, InputError
from diffuse_core.grid import Grid, reciprocal_basis
from diffuse_core.merge import Merged

pytest.importorskip("cctbx")
pytest.importorskip("dials")

from dials.util import Sorry  # noqa: E402

from diffuse_core import boundary, matching, truth_voxels  # noqa: E402
from diffuse_core.command_line import diffuse_compare  # noqa: E402
from diffuse_core.io.files import write_map, write_merged  # noqa: E402
from diffuse_core.simulate.truth import Truth  # noqa: E402
from diffuse_core.volume import expand  # noqa: E402

TETRAGONAL = (24.0, 24.0, 30.0, 90.0, 90.0, 90.0)
HEXAGONAL = (24.0, 24.0, 30.0, 90.0, 90.0, 120.0)
P41, P61 = "P 4w", "P 61"


def truth_of(cell=TETRAGONAL, hall=P41):
    group = boundary.space_group_of_hall(hall)
    operators = {tuple(r.flat) for r in boundary.laue_operators(group)}
    values = {
        "format": "dials.diffuse truth 1",
        "unit_cell": cell,
        "space_group": hall,
        "b_matrix": reciprocal_basis(cell).tolist(),
        "laue": np.array(sorted(operators)).reshape(-1, 3, 3).tolist(),
        "centring": [[0.0, 0.0, 0.0]],
        "spherical": {
            "amplitude": 100.0,
            "b_factor": 8.0,
            "constant": 5.0,
            "ring_height": 0.5,
            "ring_position": 0.3,
            "ring_width": 0.05,
        },
        "halo": {"amplitude": 60.0, "b_factor": 10.0, "kappa": [0.3, 0.3, 0.2]},
        "cloud": {
            "amplitude": 40.0,
            "b_factor": 10.0,
            "vectors": [[0.2, 0.1, 0.15], [0.05, 0.25, -0.1]],
            "lengths": [7.0, 7.5],
            "weights": [0.6, -0.4],
        },
        "flux": 1.0,
    }
    return values, Truth.from_dict(values)


def all_index(cell, d_min=3.4, step=0.5):
    reach = int(max(cell[:3]) / d_min / step)
    axis = np.arange(-reach, reach + 1)
    index = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    return index[voxel_list.s_norm(cell, index * step) <= 1 / d_min]


def merged_of(truth, symmetry="laue", step=0.5, counts=400.0, seed=3):
    """A table with Poisson counts of the truth's voxel averages."""
    group = boundary.space_group_of_hall(truth.space_group)
    index = all_index(truth.unit_cell, step=step)
    unique, equivalent = np.unique(
        boundary.to_asymmetric_unit(group, index), axis=0, return_inverse=True
    )
    rng = np.random.default_rng(seed)
    steps = np.full(3, step)
    true = truth.voxel_average(unique * step, steps)
    if symmetry == "laue":
        index = unique
    else:
        true = true[equivalent.reshape(-1)]
    exposure = counts / true.mean() * rng.uniform(0.5, 1.5, len(index))
    background = 0.2 * exposure * true.mean()
    n = rng.poisson(exposure * true + background).astype(float)
    return Merged(
        grid=Grid("hkl", tuple(steps)),
        index=index,
        intensity=(n - background) / exposure,
        sigma=np.sqrt(np.maximum(n, 1)) / exposure,
        observations=np.ones(len(index), np.int64),
        pixels=np.ones(len(index)),
        counts=n,
        exposure=exposure,
        background=background,
        background_variance=np.zeros(len(index)),
        unit_cell=truth.unit_cell,
        space_group=truth.space_group,
        symmetry=symmetry,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a truth, a merged table, the map of it, and one in P1."""
    folder = tmp_path_factory.mktemp("files")
    values, truth = truth_of()
    (folder / "truth.json").write_text(json.dumps(values))
    merged = merged_of(truth)
    group = boundary.space_group_of_hall(P41)
    record = {"program": "test"}
    write_merged(folder / "merged.nxs", merged, record)
    volume = expand(merged, boundary.laue_operators(group))
    write_map(folder / "map.nxs", volume, record)
    write_merged(folder / "p1.nxs", merged_of(truth, "P1", seed=8), record)
    return folder


@pytest.fixture
def folder(files, tmp_path, monkeypatch):
    """A working folder with copies of the files; the log goes to pytest."""
    monkeypatch.setattr("dials.util.log.config", lambda **_: None)
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args, png=None):
    diffuse_compare.run([*map(str, args), f"output.png={png}"])
    with open("dials.diffuse_compare.json") as file:
        return json.load(file)


def fit_of(figures, name):
    return next(f for f in figures["fits"] if f["name"] == name)


def test_a_map_against_the_truth(folder):
    figures = run("truth.json", "merged.nxs", png="new/picture.png")
    assert set(figures) >= {"all", "between_lattice_points", "unit_cell", "notes"}
    everything = figures["all"]
    assert len(everything["shells"]) == 10
    fit = fit_of(everything, compare.SCALE_AND_OFFSET)
    assert abs(fit["scale"] - 1) < 4 * fit["scale_error"] < 0.05
    assert abs(fit["offset"]) < 4 * fit["offset_error"] < 10
    spread = 4 * np.sqrt(2 / everything["overall"]["voxels"])
    assert fit["reduced_chi_squared"] == pytest.approx(1.0, abs=spread)
    overall = everything["overall"]
    assert overall["cc"] == pytest.approx(overall["cc_allowed"], abs=0.01)
    expected = overall["cc_anisotropic_allowed"]
    assert overall["cc_anisotropic"] == pytest.approx(expected, abs=0.02)
    fewer = figures["between_lattice_points"]["overall"]["voxels"]
    assert 0.8 < fewer / overall["voxels"] < 0.95
    assert (folder / "new" / "picture.png").stat().st_size > 50_000


def test_the_truth_must_be_averaged_over_the_voxels(folder):
    """Sampled in the centres, halos look too high: chi-squared would show it."""
    truth = Truth.from_file("truth.json")
    merged = merged_of(truth, counts=30_000)
    centre = truth.intensity(merged.index * 0.5)
    average = truth.voxel_average(merged.index * 0.5, np.full(3, 0.5))
    assert np.std((centre - average) / merged.sigma) > 1
    write_merged("strong.nxs", merged, {"program": "test"})
    figures = run("truth.json", "strong.nxs", "exclude.bragg=False")
    assert "between_lattice_points" not in figures
    fit = fit_of(figures["all"], compare.AS_THEY_ARE)
    assert fit["reduced_chi_squared"] == pytest.approx(1.0, abs=0.1)


def test_the_map_is_the_table(folder):
    figures = run("merged.nxs", "map.nxs")
    overall = figures["all"]["overall"]
    assert overall["voxels"] == len(diffuse_compare.read_voxels("merged.nxs"))
    assert overall["cc"] == pytest.approx(1.0, abs=1e-6)
    assert figures["space_group"] is not None


def test_a_map_filled_by_symmetry_is_not_counted_twice(folder):
    whole = run("truth.json", "map.nxs")["all"]
    table = run("truth.json", "merged.nxs")["all"]
    assert whole["overall"]["voxels"] == table["overall"]["voxels"]
    for a, b in zip(whole["fits"], table["fits"], strict=True):
        assert a["scale"] == pytest.approx(b["scale"], rel=0.01)


def test_an_asymmetric_unit_against_p1(folder):
    """Independent data: the averages of P1 agree with the table, errors are right."""
    figures = run("merged.nxs", "p1.nxs")
    fit = fit_of(figures["all"], compare.SCALE_AND_OFFSET)
    assert abs(fit["scale"] - 1) < 4 * fit["scale_error"]
    assert fit["reduced_chi_squared"] == pytest.approx(1.0, abs=0.08)
    assert any("averaged over the Laue group" in note for note in figures["notes"])


def test_p1_alone_stays_p1(folder):
    figures = run("truth.json", "p1.nxs")
    assert figures["space_group"] is None
    folded = run("truth.json", "p1.nxs", "space_group=P41")
    n, m = (f["all"]["overall"]["voxels"] for f in (figures, folded))
    assert 7 < n / m <= 8
    for result in (figures, folded):
        chi = fit_of(result["all"], compare.AS_THEY_ARE)["reduced_chi_squared"]
        assert chi == pytest.approx(1.0, abs=0.1)


def test_reindexing_finds_the_right_setting(folder):
    """P41 leaves two ways to index; the same operator undoes itself."""
    truth = Truth.from_file("truth.json")
    other = merged_of(truth, "P1", seed=9)
    wrong = other.index[:, [1, 0, 2]] * [1, 1, -1]
    write_merged(
        "other.nxs", Merged(**{**vars(other), "index": wrong}), {"program": "test"}
    )
    as_it_is = run("other.nxs", "merged.nxs")["all"]["overall"]["cc_anisotropic"]
    right = run("other.nxs", "merged.nxs", "reindex=k,h,-l")["all"]["overall"]
    assert right["cc_anisotropic"] > as_it_is + 0.1
    expected = right["cc_anisotropic_allowed"]
    assert right["cc_anisotropic"] == pytest.approx(expected, abs=0.03)
    truth_first = run("truth.json", "other.nxs", "reindex=k,h,-l")["all"]
    chi = fit_of(truth_first, compare.AS_THEY_ARE)["reduced_chi_squared"]
    assert chi == pytest.approx(1.0, abs=0.05)


def test_limits_and_shells(folder):
    figures = run("truth.json", "merged.nxs", "d_min=3.6", "d_max=10", "n_shells=4")
    shells = figures["all"]["shells"]
    assert len(shells) == 4
    assert shells[0]["d_max"] == pytest.approx(10)
    assert shells[-1]["d_min"] == pytest.approx(3.6)


def test_finer_voxels_are_averaged(folder):
    truth = Truth.from_file("truth.json")
    for name, step in (("fine.nxs", 1 / 3), ("coarse.nxs", 1.0)):
        table = merged_of(truth, step=step, seed=round(3 / step))
        write_merged(name, table, {"program": "test"})
    figures = run("fine.nxs", "coarse.nxs")
    assert figures["steps"] == pytest.approx([1.0] * 3)
    fit = fit_of(figures["all"], compare.SCALE_AND_OFFSET)
    assert abs(fit["scale"] - 1) < 4 * fit["scale_error"] < 0.2
    assert fit["reduced_chi_squared"] == pytest.approx(1.0, abs=0.3)


def test_an_even_ratio_of_widths_is_noted():
    a = voxels(None, False)
    b = voxels(None, False, (0.25,) * 3)
    b = voxel_list.replace(b, index=2 * b.index)
    assert "smooths" in matching.match(a, b, min_coverage=0).notes[0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["merged.nxs", "nothing.nxs"], "nothing.nxs does not exist"),
        (["merged.nxs"], "1 were given"),
        (["merged.nxs", "map.nxs", "p1.nxs"], "3 were given"),
        (["truth.json", "truth.json"], "Both files are truths"),
        (["merged.nxs", "bad.json"], "bad.json is not a truth.json"),
        (["merged.nxs", "map.nxs", "reindex=foo"], "reindex=foo is not an operator"),
        (["merged.nxs", "map.nxs", "d_min=90", "d_max=80"], "No resolution is left"),
        (["merged.nxs", "map.nxs", "nonsense=3"], "There is no parameter nonsense"),
        (["merged.nxs", "map.nxs", "n_shells=x"], "n_shells"),
        (["merged.nxs", "lab.mrc"], "give the .expt file"),
        (["merged.nxs", "far.txt"], "no voxel in common"),
        (["far.txt", "far.txt"], "holds a unit cell"),
        (["far.txt", "truth.json", "exclude.bragg=True"], "leaves nothing"),
    ],
)
def test_errors_are_one_sentence(folder, args, message):
    (folder / "bad.json").write_text("{}")
    (folder / "far.txt").write_text("90 0 0 1\n91 1 1 2\n92 2 2 3\n")
    header = np.zeros(256, "<i4")
    header[[0, 1, 2, 3, 7, 8, 9, 16, 17, 18]] = [4, 4, 4, 2, 4, 4, 4, 1, 2, 3]
    header[10:16] = np.array([50, 50, 50, 90, 90, 90], "<f4").view("<i4")
    data = header.tobytes() + np.ones(64, "<f4").tobytes()
    (folder / "lab.mrc").write_bytes(data)
    with pytest.raises(Sorry, match=re.escape(message)) as caught:
        run(*args)
    assert "\n" not in str(caught.value)


def test_the_command_is_installed(folder, run_command):
    done = run_command("dials.diffuse_compare", "merged.nxs", "map.nxs", cwd=folder)
    assert "CC aniso" in done.stdout
    assert "CC allowed" in (folder / "dials.diffuse_compare.log").read_text()
    helped = run_command("dials.diffuse_compare", "-h", cwd=folder)
    assert "dials.diffuse_compare diffuse_merged.nxs truth.json" in helped.stdout


def test_hexagonal_voxels_have_three_shapes():
    _, truth = truth_of(HEXAGONAL, P61)
    steps = np.full(3, 1 / 3)
    assert len(truth_voxels.box_shapes(truth.laue, steps)) == 3
    _, square = truth_of()
    assert len(truth_voxels.box_shapes(square.laue, steps)) == 1


def test_the_average_of_a_folded_truth_is_that_of_its_equivalents():
    _, truth = truth_of(HEXAGONAL, P61)
    steps = np.full(3, 0.5)
    index = np.array([[1, 3, 2], [4, -1, 5], [2, 2, 0]])
    other = voxel_list.Voxels("m", "hkl", steps, index, np.ones(3), asymmetric=True)
    got = truth_voxels.TruthVoxels(truth, np.eye(3)).like(other, None).intensity
    every = [truth.voxel_average((index @ r) * 0.5, steps) for r in truth.laue]
    assert got == pytest.approx(np.mean(every, axis=0), rel=1e-6)
    assert np.abs(every[0] / got - 1).max() > 1e-4


def test_a_truth_over_cartesian_voxels():
    """Against hkl voxels where both grids coincide: an orthogonal cell."""
    _, truth = truth_of()
    steps = np.array([0.5 / 24, 0.5 / 24, 0.5 / 30])
    centres = np.array([[3, 1, 2], [0, 5, 7]]) * steps
    to_hkl = np.linalg.inv(reciprocal_basis(TETRAGONAL))
    got = truth_voxels.cartesian_average(truth, centres, steps, to_hkl)
    expected = truth.voxel_average(centres @ to_hkl.T, np.full(3, 0.5))
    assert got == pytest.approx(expected, rel=1e-3)


class Crystal:
    def __init__(self, a):
        self.a = a

    def get_A(self):
        return tuple(self.a.flat)


class Goniometer:
    def __init__(self, fixed):
        self.fixed = fixed

    def get_setting_rotation(self):
        return (1.0, 0, 0, 0, 1, 0, 0, 0, 1)

    def get_fixed_rotation(self):
        return tuple(self.fixed.flat)


class Experiment:
    def __init__(self, a, fixed):
        self.crystal = Crystal(a)
        self.goniometer = Goniometer(fixed)


@pytest.mark.parametrize("frame", ["lab", "q"])
def test_a_cartesian_map_against_hkl_and_truth(frame):
    """A turned crystal on a turned mount: only the right matrix gives agreement."""
    from scipy.spatial.transform import Rotation

    _, truth = truth_of()
    turn, fixed = Rotation.random(2, random_state=5).as_matrix()
    a = turn @ truth.b_matrix
    orientation = matching.Orientation.of_experiment(Experiment(a, fixed))
    setting = fixed @ a if frame == "lab" else a
    step = 0.008
    axis = np.arange(-30, 31)
    index = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    index = index[np.linalg.norm(index, axis=1) * step < 0.24]
    hkl = index * step @ np.linalg.inv(setting).T
    cartesian = voxel_list.Voxels(
        "c", frame, np.full(3, step), index, truth.intensity(hkl)
    )
    with pytest.raises(InputError, match="give the .expt file"):
        matching.match(cartesian, truth)
    found = matching.match(cartesian, truth, orientation=orientation)
    assert np.corrcoef(found.pair.a, found.pair.b)[0, 1] > 0.998
    table = all_index(truth.unit_cell, d_min=5, step=0.5)
    average = truth.voxel_average(table * 0.5, np.full(3, 0.5))
    other = voxel_list.Voxels(
        "m", "hkl", np.full(3, 0.5), table, average, unit_cell=TETRAGONAL
    )
    found = matching.match(cartesian, other, orientation=orientation)
    assert found.frame == "hkl"
    assert np.corrcoef(found.pair.a, found.pair.b)[0, 1] > 0.98


def voxels(hall=P41, asymmetric=True, steps=(0.5, 0.5, 0.5), cell=TETRAGONAL, **more):
    index = np.array([[1, 2, 3], [2, 3, 4], [5, 6, 7]])
    return voxel_list.Voxels(
        "v",
        more.pop("frame", "hkl"),
        np.array(steps),
        index,
        np.array([1.0, 2.0, 4.0]),
        unit_cell=cell,
        space_group=hall,
        asymmetric=asymmetric,
        **more,
    )


def test_what_cannot_be_matched():
    with pytest.raises(InputError, match="different Laue groups"):
        matching.match(voxels(P41), voxels("P 2 2"))
    with pytest.raises(InputError, match="no space group"):
        matching.match(voxels(None), voxels(None))
    with pytest.raises(ConfigError, match="mixes the axes h and k"):
        matching.match(voxels(steps=(0.5, 0.25, 0.5)), voxels())
    with pytest.raises(InputError, match="frame 's'"):
        matching.match(voxels(frame="s"), voxels())
    with pytest.raises(ConfigError, match="Cartesian axes"):
        matching.match(voxels(frame="q"), voxels(), reindex="k,h,-l")
    with pytest.raises(ConfigError, match="times as wide"):
        matching.match(voxels(None, False, (0.5,) * 3), voxels(None, False, (0.3,) * 3))


def test_cells_that_differ_are_noted():
    other = voxels(cell=(25.0, 25.0, 30.0, 90.0, 90.0, 90.0))
    assert "unit cells differ" in matching.match(voxels(), other).notes[0]
    assert matching.match(voxels(), voxels()).notes == ()
    against_p1 = matching.match(voxels(), voxels(asymmetric=False))
    assert "Both maps are averaged" in against_p1.notes[0]


def test_cartesian_maps_in_two_frames():
    a, b = voxels(frame="q", hall=None), voxels(frame="lab", hall=None)
    notes = matching.match(a, b).notes
    assert "taken for the same" in notes[0]
    turned = matching.Orientation(np.eye(3), np.diag([1.0, -1.0, -1.0]))
    with pytest.raises(InputError, match="different frames"):
        matching.match(a, b, orientation=turned)


def test_published_map_has_its_symmetry(data_dir, tmp_path, monkeypatch):
    """The lattice of nuclease against itself in the other setting of P41."""
    monkeypatch.chdir(tmp_path)
    path = data_dir / "snase" / "reference" / "snc.wmpn.lat.bz2"
    same = run(path, path, "space_group=P41", "d_min=2.5", "d_max=10")
    other = run(
        path, path, "space_group=P41", "reindex=k,h,-l", "d_min=2.5", "d_max=10"
    )
    assert same["all"]["overall"]["cc"] == pytest.approx(1.0)
    assert other["all"]["overall"]["cc_anisotropic"] < 0.6


def test_folding_is_what_regrid_does():
    group = boundary.space_group_of_hall(P41)
    v = voxels()
    folded = regrid.folded(v, lambda i: boundary.to_asymmetric_unit(group, i))
    assert len(folded) == 3
