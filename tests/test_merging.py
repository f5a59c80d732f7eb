"""Merging of folders and of merged tables, with scales and outliers, in a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffuse_core import boundary, config, merge_stage, volume
from diffuse_core.errors import ConfigError, InputError
from diffuse_core.grid import Grid, indices_of, keys_of
from diffuse_core.half_sets import KINDS
from diffuse_core.io.files import read_merged, read_outliers, read_provenance
from diffuse_core.merge import sums_of
from diffuse_core.observations import (
    DTYPES,
    Observations,
    read_observations,
    write_observations,
)
from diffuse_core.registry import Registry
from diffuse_core.scale_model import Curve, ScaleModel

HALL = " P 2ac 2ab"
P21 = " P 2yb"
CELL = (30.0, 32.0, 35.0, 90.0, 90.0, 90.0)


def truth_of(index):
    """Intensity of voxels, the same for those that mmm makes equivalent."""
    a, b, c = np.abs(np.asarray(index)).T
    return 20.0 + 10.0 * np.cos(1.7 * a) * np.cos(0.9 * b) * np.cos(1.3 * c)


def write_folder(folder: Path, identifier: str, blocks: int, seed: int, **more) -> str:
    """A scan of `blocks` images of a crystal; `scale` multiplies its intensities.

    A part `wrong` of the observations has counts that are far too high or too low.
    """
    folder.mkdir()
    rng = np.random.default_rng(seed)
    names = []
    for number in range(blocks):
        index = np.unique(rng.integers(-5, 6, (500, 3)), axis=0)
        n = len(index)
        columns = {name: rng.random(n) for name in DTYPES}
        columns["key"] = keys_of(index)
        columns["exposure"] = rng.uniform(0.5, 1.5, n)
        columns["background"] = rng.uniform(0.0, 2.0, n)
        columns["background_variance"] = np.zeros(n)
        rate = columns["exposure"] * truth_of(index) * more.get("scale", 1.0)
        counts = rng.poisson(rate + columns["background"])
        wrong = rng.random(n) < more.get("wrong", 0.0)
        high = rng.random(n) < 0.5
        counts = np.where(wrong, np.where(high, 3 * counts + 30, 0), counts)
        columns["counts"] = counts
        columns["pixels"] = np.full(n, 3)
        columns["panel"] = np.zeros(n)
        columns["phi"] = number + columns["phi"]
        columns = {c: columns[c].astype(dtype) for c, dtype in DTYPES.items()}
        meta = {
            "grid": more.get("grid", Grid("hkl", (0.5, 0.5, 0.5))).to_dict(),
            "block": [number, 0, number, number + 1],
            "identifier": identifier,
            "still": False,
            "unit_cell": list(CELL),
            "space_group": HALL,
            "provenance": {"program": "test"},
        }
        names.append(f"block_{number:06d}.h5")
        write_observations(folder / names[-1], Observations(columns, meta))
    (folder / "run.json").write_text(json.dumps({"files": names}))
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("merging")
    return [
        write_folder(place / "one", "first", 6, 1),
        write_folder(place / "two", "second", 4, 2),
    ]


@pytest.fixture(scope="module")
def scales(folders, tmp_path_factory):
    """A file with scales of 1 for both experiments."""
    path = tmp_path_factory.mktemp("scales") / "diffuse_scales.json"
    return identity_scales(path, folders)


def identity_scales(path: Path, folders, **more) -> str:
    found = merge_stage.collect(folders)
    flat = Curve(np.array([0.0, 1.0]), np.array([20.0, 20.0]))
    none = Curve(np.array([0.0, 1.0]), np.zeros(2))
    ScaleModel(tuple(found.sources), (), none, flat, **more).write(path)
    return str(path)


def merging(text: str = ""):
    """The extracted scope `merging`."""
    scope = config.master_scope(Registry.discover({}), ("merging",), ())
    return config.extract(scope, f"merging {{ {text} }}").merging


def run(inputs, path: Path, text: str = "", **options):
    done = merge_stage.merge(inputs, merging(text), path, **options)
    return read_merged(path), done


def same(one, two, rel=1e-12):
    assert np.array_equal(one.index, two.index)
    a, b = sums_of(one), sums_of(two)
    assert set(a) == set(b)
    for name in a:
        size = np.abs(b[name]).max() if len(b[name]) else 0
        assert a[name] == pytest.approx(b[name], rel=rel, abs=rel * size), name
    assert one.intensity == pytest.approx(two.intensity, rel=1e-10)
    assert one.sigma == pytest.approx(two.sigma, rel=1e-10)


def test_a_table_is_what_its_observations_say(folders, tmp_path):
    merged, done = run(folders, tmp_path / "m.nxs")
    pull = (merged.intensity - truth_of(merged.index)) / merged.sigma
    assert abs(pull.mean()) < 0.2 and 0.9 < pull.std() < 1.1
    assert merged.half_kinds == KINDS
    assert merged.estimator == "ratio" and merged.symmetry == "laue"
    assert (np.diff(keys_of(merged.index)) > 0).all()
    found, expected = merged.scatter()
    assert found.sum() / expected.sum() == pytest.approx(1.0, abs=0.1)
    assert [s["identifier"] for s in done.provenance["sources"]] == ["first", "second"]
    assert read_provenance(tmp_path / "m.nxs") == done.provenance
    assert [p.name for p in tmp_path.iterdir()] == ["m.nxs"]


def test_scales_make_weights_and_leave_intensities_where_they_are(
    folders, scales, tmp_path
):
    plain, _ = run(folders, tmp_path / "plain.nxs")
    text = f"scales = {scales}\noutliers = none"
    weighted, done = run(folders, tmp_path / "weighted.nxs", text)
    assert weighted.estimator == "weighted"
    assert np.array_equal(weighted.counts, plain.counts)
    pull = (weighted.intensity - truth_of(weighted.index)) / weighted.sigma
    assert 0.93 < pull.std() < 1.07
    assert np.mean(weighted.sigma**2) < np.mean(plain.sigma**2)
    assert done.provenance["scales"]["path"] == scales
    assert done.outliers is None


@pytest.mark.parametrize("text", ["", "scales"])
def test_two_tables_of_disjoint_data_are_one(folders, scales, tmp_path, text):
    if text:
        text = f"scales = {scales}\noutliers = none\n"
    whole, _ = run(folders, tmp_path / "whole.nxs", text)
    parts = []
    for folder in folders:
        parts.append(str(tmp_path / f"{Path(folder).name}.nxs"))
        run([folder], Path(parts[-1]), text)
    for order in (parts, parts[::-1]):
        both, done = run(order, tmp_path / "both.nxs")
        same(both, whole)
        for name in ("symmetry", "estimator", "unit_cell", "space_group"):
            assert getattr(both, name) == getattr(whole, name)
        names = [s["identifier"] for s in done.provenance["sources"]]
        assert names == ["first", "second"]
    few, _ = run(parts, tmp_path / "few.nxs", "memory = 0.01")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffuse_core.combine.WORKING_BYTES", 2**20)
        patch.setattr("diffuse_core.combine.STRIDE", 16)
        patch.setattr("diffuse_core.sorted_runs.STRIDE", 16)
        in_ranges, _ = run(parts, tmp_path / "ranges.nxs", "memory = 0.2")
    same(few, whole)
    same(in_ranges, whole)


def test_many_ranges_and_workers_give_the_same_table(folders, scales, tmp_path):
    text = f"scales = {scales}\nmemory = "
    one, _ = run(folders, tmp_path / "one.nxs", f"{text}1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffuse_core.reduction.WORKING_BYTES", 2**21)
        many, _ = run(folders[::-1], tmp_path / "many.nxs", f"{text}4", nproc=2)
    a, b = sums_of(one), sums_of(many)
    for name in a:
        assert np.array_equal(a[name], b[name]), name
    assert np.array_equal(one.intensity, many.intensity)


def test_outliers_are_left_out_and_listed(tmp_path):
    folder = write_folder(tmp_path / "wrong", "third", 12, 3, wrong=0.01)
    scales = identity_scales(tmp_path / "s.json", [folder])
    clean, done = run([folder], tmp_path / "m.nxs", f"scales = {scales}")
    listed = read_outliers(tmp_path / "m.nxs")
    n = len(listed["high"])
    assert done.outliers["high"] + done.outliers["low"] == n
    assert done.outliers["high"] == listed["high"].sum()
    assert 30 < n < 120
    dirty, _ = run([folder], tmp_path / "d.nxs", f"scales = {scales}\noutliers = none")
    assert dirty.observations.sum() == clean.observations.sum() + n
    truth = truth_of(clean.index)
    assert np.std(clean.intensity - truth) < 0.8 * np.std(dirty.intensity - truth)
    rate = truth_of(indices_of(listed["key"]))
    assert (listed["counts"][listed["high"]] > rate[listed["high"]]).mean() > 0.95
    again, _ = run([str(tmp_path / "m.nxs")], tmp_path / "copy.nxs")
    same(again, clean)
    assert np.array_equal(read_outliers(tmp_path / "copy.nxs")["key"], listed["key"])


def test_symmetries(folders, tmp_path):
    """P212121: 8 operators of mmm, 4 of 222, 1."""
    counts = []
    for name in ("laue", "anomalous", "P1"):
        merged, done = run(folders, tmp_path / f"{name}.nxs", f"symmetry = {name}")
        assert merged.symmetry == name
        counts.append(merged.counts.sum())
        keys = set(map(tuple, merged.index.tolist()))
        mates = {tuple(-i for i in key) for key in keys}
        if name == "laue":
            assert all(min(key) >= 0 for key in keys)
            assert done.symmetry.operators[0].shape == (3, 3)
            assert len(done.symmetry.operators) == 8
        elif name == "anomalous":
            assert len(done.symmetry.operators) == 4
            assert {(1, 2, 3), (1, 2, -3)} <= keys and (-1, -2, 3) not in keys
        else:
            assert done.symmetry.operators is None
            assert len(keys & mates) > 500
    assert counts[0] == counts[1] == counts[2]
    group, _ = run(folders, tmp_path / "group.nxs", "space_group = P21")
    assert len(group) == (11**3 + 11**2 + 11 + 1) / 4
    assert group.space_group == boundary.space_group_of_hall(P21).type().hall_symbol()


def test_reindexing_of_the_scales_is_applied(tmp_path):
    """The second crystal was indexed with h and k exchanged."""
    swap = [str(tmp_path / "right"), str(tmp_path / "swapped")]
    write_folder(Path(swap[0]), "right", 6, 5)
    write_folder(Path(swap[1]), "swapped", 6, 6)
    for path in Path(swap[1]).glob("block_*.h5"):
        table = read_observations(path)
        index = indices_of(table.columns["key"])[:, [1, 0, 2]] * [1, 1, -1]
        order = np.argsort(keys_of(index))
        table.columns["key"] = keys_of(index)
        columns = {name: values[order] for name, values in table.columns.items()}
        write_observations(path, Observations(columns, table.meta))
    reindex = {"swapped": "k,h,-l"}
    scales = identity_scales(tmp_path / "s.json", swap, reindex=reindex)
    wrong, _ = run(swap, tmp_path / "wrong.nxs")
    right, _ = run(swap, tmp_path / "right.nxs", f"scales = {scales}\noutliers = none")
    for merged, low, high in ((wrong, 1.5, 9.0), (right, 0.93, 1.07)):
        pull = (merged.intensity - truth_of(merged.index)) / merged.sigma
        assert low < pull.std() < high


def test_what_cannot_be_combined(folders, scales, tmp_path):
    names = {}
    for name, inputs, text in [
        ("one", folders[:1], ""),
        ("again", folders[:1], ""),
        ("p1", folders[1:], "symmetry = P1"),
        ("scaled", folders[1:], f"scales = {scales}"),
    ]:
        names[name] = str(tmp_path / f"{name}.nxs")
        run(inputs, Path(names[name]), text)
    other = Grid("hkl", (0.5, 0.5, 0.25))
    fine = write_folder(tmp_path / "fine", "third", 1, 4, grid=other)
    names["fine"] = str(tmp_path / "fine.nxs")
    run([fine], Path(names["fine"]))
    names["folder"] = folders[1]
    for other, message in [
        ("again", "both hold images of the experiment first"),
        ("p1", "differ in their symmetry"),
        ("scaled", "differ in their kind of scaling"),
        ("fine", "differ in their grid"),
        ("folder", "is a file, and other inputs are folders"),
    ]:
        with pytest.raises(InputError, match=message):
            run([names["one"], names[other]], tmp_path / "no.nxs")
    assert not (tmp_path / "no.nxs").exists()


def test_tables_of_different_fits_are_refused(folders, scales, tmp_path):
    second = identity_scales(tmp_path / "s.json", folders, gauge=("other",))
    parts = []
    for folder, file in zip(folders, (scales, second), strict=True):
        parts.append(str(tmp_path / f"{Path(folder).name}.nxs"))
        run([folder], Path(parts[-1]), f"scales = {file}")
    with pytest.raises(InputError, match="scaled by different fits"):
        run(parts, tmp_path / "no.nxs")


def test_scales_that_do_not_know_an_experiment(folders, tmp_path):
    scales = identity_scales(tmp_path / "s.json", folders[:1])
    with pytest.raises(InputError, match="has no scale"):
        run(folders, tmp_path / "m.nxs", f"scales = {scales}")
    assert [p.name for p in tmp_path.iterdir()] == ["s.json"]


def test_huge_maps_are_refused_and_say_what_would_do(folders, tmp_path, monkeypatch):
    merged, done = run(folders, tmp_path / "m.nxs")
    whole = volume.expand(merged, done.symmetry.operators)
    monkeypatch.setattr(volume, "LARGEST", whole.intensity.size - 1)
    with pytest.raises(ConfigError) as caught:
        volume.expand(merged, done.symmetry.operators)
    text = str(caught.value)
    assert "too large to hold: set merging.map_d_min=" in text
    d_min = float(text.split("map_d_min=")[1].split(" ")[0])
    cut = volume.expand(merged, done.symmetry.operators, d_min)
    s = merged.grid.s_norm(merged.index, merged.unit_cell)
    inside = merged.index[s <= 1 / d_min] - cut.lower
    assert np.isfinite(cut.intensity[tuple(inside.T)]).all()
    assert 0 < np.isfinite(cut.intensity).sum() < np.isfinite(whole.intensity).sum()


def test_open_reduction_is_what_merging_reads(folders):
    reduction, symmetry = merge_stage.open_reduction(folders, merging())
    (rows,) = reduction.ranges()
    assert symmetry.name == "laue"
    assert (indices_of(rows.key) >= 0).all()
    assert len(rows) == reduction.rows
