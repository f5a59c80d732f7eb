"""Voxels come whole, in one order, whatever the files, the memory and the workers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cctbx import sgtbx

from diffuse_core import boundary
from diffuse_core.collection import collect
from diffuse_core.errors import ConfigError, DiffuseError, InputError
from diffuse_core.grid import OFFSET, Grid, indices_of, keys_of
from diffuse_core.half_sets import KINDS
from diffuse_core.merge import sums_of
from diffuse_core.merging import MergingPlan, merge_rows, prepared
from diffuse_core.observations import DTYPES, Observations, write_observations
from diffuse_core.reduction import PREFIX, Reduction
from diffuse_core.rows import DTYPES as ROW_DTYPES
from diffuse_core.rows import select_rows
from diffuse_core.symmetry import UniqueVoxels

HALL = " P 2ac 2ab"
TINY = 2e-4  # GiB: about 500 rows at once
DEADLY = """
import multiprocessing, os, signal
from diffuse_core.symmetry import UniqueVoxels

class Deadly(UniqueVoxels):
    def keys(self, key, reindex=None):
        if multiprocessing.parent_process():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().keys(key, reindex)
"""


def write_folder(folder: Path, experiments: dict, seed: int, n=400, **meta) -> str:
    """A folder of made-up observations.

    Args:
        folder: A new folder.
        experiments: Identifier -> (first, last) image; a block an image.
        seed: Of the numbers.
        n: Rows of a block, voxel indices within +-8.
        **meta: Overrides what the files say.
    """
    folder.mkdir()
    rng = np.random.default_rng(seed)
    names = []
    for number, (identifier, images) in enumerate(experiments.items()):
        for image in range(*images):
            index = np.unique(rng.integers(-8, 9, (n, 3)), axis=0)
            columns = {name: rng.random(len(index)) for name in DTYPES}
            columns["key"] = keys_of(index)
            columns["panel"] = np.arange(len(index)) % 3
            columns["counts"] = rng.poisson(3.0, len(index))
            columns["phi"] = columns["phi"] + image
            columns = {c: columns[c].astype(dtype) for c, dtype in DTYPES.items()}
            name = f"block_{len(names):06d}.h5"
            record = {
                "grid": Grid("hkl", (0.5, 0.5, 0.5)).to_dict(),
                "block": [len(names), number, image, image + 1],
                "identifier": identifier,
                "still": False,
                "unit_cell": [30.0, 30.0, 30.0, 90.0, 90.0, 90.0],
                "space_group": HALL,
                "provenance": {"program": "test"},
            }
            write_observations(folder / name, Observations(columns, record | meta))
            names.append(name)
    (folder / "run.json").write_text(json.dumps({"files": names}))
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three experiments in two folders, 3600 rows."""
    place = tmp_path_factory.mktemp("folders")
    return [
        write_folder(place / "first", {"b": (0, 4), "c": (0, 2)}, 1),
        write_folder(place / "second", {"a": (0, 3)}, 2),
    ]


def laue(name: str) -> UniqueVoxels:
    group = sgtbx.space_group_info(name).group()
    return UniqueVoxels(np.array(boundary.laue_operators(group)))


UNIQUE = laue("P212121")


def together(parts) -> dict:
    parts = list(parts)
    return {c: np.concatenate([getattr(p, c) for p in parts]) for c in ROW_DTYPES}


def merged(folders, memory, nproc, scratch) -> tuple[dict, int]:
    """Sums of floats: the same bits only if they are added in the same order."""
    with Reduction(folders, UNIQUE, memory=memory, scratch=scratch) as reduction:
        plan = MergingPlan(
            reduction.collection.grid, reduction.sources, halves=KINDS, seed=5
        )
        parts = [p.merged for p in reduction.map(prepared, merge_rows, plan, nproc)]
    columns = [{**sums_of(p), "sigma": p.sigma, "index": p.index} for p in parts]
    joined = {n: np.concatenate([c[n] for c in columns]) for n in columns[0]}
    return joined, len(parts)


@pytest.mark.parametrize(
    "name",
    ["P1", "P21", "P212121", "P41", "P43212", "P31", "P3121", "P3112", "P61", "P6122"]
    + ["P213", "P432", "R3:H", "R32:H", "R3:R", "C2"],
)
def test_classes_of_voxels_are_those_of_cctbx(name):
    group = sgtbx.space_group_info(name).group()
    index = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3), axis=-1).reshape(-1, 3)
    ours = keys_of(laue(name)(index))
    cctbx = keys_of(boundary.to_asymmetric_unit(group, index))
    pairs = len(np.unique(np.stack([ours, cctbx]), axis=1).T)
    assert len(np.unique(ours)) == len(np.unique(cctbx)) == pairs
    inside = {tuple(i) for i in index.tolist()}
    for operator in boundary.laue_operators(group):
        moved = index @ operator
        here = np.array([tuple(m) in inside for m in moved.tolist()])
        assert np.array_equal(keys_of(laue(name)(moved[here])), ours[here])


def test_friedel_marks_what_only_inversion_brings_home():
    index = np.array([[1, 2, 3], [-1, -2, -3], [-1, -2, 3], [1, 2, -3], [0, -2, -3]])
    keys, friedel = UNIQUE.keys(keys_of(index))
    expected = [[1, 2, 3]] * 4 + [[0, 2, 3]]
    assert indices_of(keys).tolist() == expected
    assert friedel.tolist() == [False, True, False, True, False]


def test_indices_that_leave_the_keys_are_refused():
    far = keys_of([[OFFSET - 1, OFFSET - 1, 0]])
    with pytest.raises(ConfigError, match="larger voxels"):
        laue("P61").keys(far)


def test_every_row_comes_once_in_whole_voxels(folders, tmp_path):
    with Reduction(folders, UNIQUE, memory=TINY, scratch=tmp_path) as reduction:
        parts = list(reduction.ranges())
        again = list(reduction.ranges())
        assert [p.name for p in tmp_path.iterdir()]
    assert not list(tmp_path.iterdir())
    assert len(parts) > 3
    assert sum(map(len, parts)) == reduction.rows == sum(map(len, again))
    seen = set()
    for rows in parts:
        keys = rows.key[rows.starts[:-1]]
        assert (np.diff(keys) > 0).all()
        assert np.array_equal(np.repeat(keys, np.diff(rows.starts)), rows.key)
        assert np.array_equal(keys[rows.voxel], rows.key)
        assert not seen & set(keys.tolist())
        assert all(k > max(seen, default=-1) for k in keys.tolist()[:1])
        seen |= set(keys.tolist())
    whole = together(Reduction(folders, UNIQUE).ranges())
    for name, values in together(parts).items():
        assert values.dtype == ROW_DTYPES[name]
        assert np.array_equal(values, whole[name])


def test_same_bits_for_any_order_memory_and_workers(folders, tmp_path):
    table, ranges = merged(folders, 1.0, 1, tmp_path)
    assert ranges == 1
    for order, memory, nproc in (
        (folders[::-1], 1.0, 1),
        (folders, TINY, 1),
        (folders[::-1], 3 * TINY, 2),
    ):
        other, ranges = merged(order, memory, nproc, tmp_path)
        for name, values in table.items():
            assert np.array_equal(values, other[name], equal_nan=True), name
    assert ranges > 1
    assert not list(tmp_path.iterdir())


def test_temporary_files_go_when_the_work_fails(folders, tmp_path):
    def fail(state, rows):
        raise DiffuseError("No.")

    with Reduction(folders, UNIQUE, memory=TINY, scratch=tmp_path) as reduction:
        with pytest.raises(DiffuseError):
            list(reduction.map(prepared, fail, None))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("work", ["sort", "sample"])
def test_files_that_take_workers_down_are_named(folders, tmp_path, monkeypatch, work):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "deadly.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    from deadly import Deadly

    (tmp_path / "scratch").mkdir()
    options = {"memory": 3 * TINY, "scratch": tmp_path / "scratch"}
    with (
        Reduction(folders, Deadly(), **options) as reduction,
        pytest.raises(DiffuseError) as caught,
    ):
        if work == "sort":
            next(reduction.ranges(2))
        else:
            reduction.sample(0.5, nproc=2)
    said = str(caught.value)
    assert "block_00000" in said and "died" in said and len(said) < 600, said
    assert not list((tmp_path / "scratch").iterdir())


def test_what_a_killed_process_left_is_removed(folders, tmp_path):
    """Folders of processes that live, or of other machines, stay."""
    host = socket.gethostname()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = [f"{PREFIX}{host}_{dead.pid}_x", f"{PREFIX}{host}_{os.getpid()}_x"]
    names.append(f"{PREFIX}elsewhere_{dead.pid}_x")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "run_000000").write_bytes(b"1234")
    with Reduction(folders, memory=TINY, scratch=tmp_path) as reduction:
        next(reduction.ranges())
    assert {p.name for p in tmp_path.iterdir()} == set(names[1:])


def test_a_full_disk_is_told_before_the_work(folders, tmp_path, monkeypatch):
    usage = SimpleNamespace(total=1, used=1, free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(DiffuseError, match="make room"):
        next(Reduction(folders, memory=TINY, scratch=tmp_path).ranges())


@pytest.mark.parametrize("memory", [1.0, TINY])
def test_progress_ends_with_all_rows_twice(folders, tmp_path, memory):
    calls = []

    def note(done, total):
        calls.append((done, total))

    with Reduction(folders, memory=memory, scratch=tmp_path) as reduction:
        list(reduction.map(prepared, lambda _, rows: len(rows), None, 1, note))
    assert calls[-1] == (2 * reduction.rows, 2 * reduction.rows)
    assert calls == sorted(calls)


def test_sources_are_in_an_order_of_their_own(folders):
    for order in (folders, folders[::-1]):
        sources = Reduction(order).sources
        assert [s.identifier for s in sources] == ["a", "b", "c"]
        assert [s.number for s in sources] == [0, 0, 1]
        assert [Path(s.folder).name for s in sources] == ["second", "first", "first"]
        assert not any(s.still for s in sources)
        low, high = sources[1].phi
        assert 0 <= low < 0.1 and 3.9 < high <= 4


def test_sample_takes_whole_voxels_by_their_keys(folders):
    reduction = Reduction(folders, UNIQUE)
    (whole,) = reduction.ranges()
    part = reduction.sample(0.25, seed=3)
    assert 0.2 < len(part) / len(whole) < 0.3
    expected = select_rows(whole, np.isin(whole.key, part.key))
    for name in [*ROW_DTYPES, "starts"]:
        assert np.array_equal(getattr(part, name), getattr(expected, name))
    batched = Reduction(folders, UNIQUE, memory=TINY).sample(0.25, seed=3)
    assert all(
        np.array_equal(getattr(part, n), getattr(batched, n)) for n in ROW_DTYPES
    )
    alone = Reduction(folders[1:], UNIQUE).sample(0.25, seed=3)
    assert set(alone.key) <= set(part.key)
    assert set(reduction.sample(0.25, seed=4).key) != set(part.key)


def test_reindexing_turns_the_indices_of_one_experiment(folders):
    (plain,) = Reduction(folders).ranges()
    (turned,) = Reduction(folders, reindex={"b": "k,h,-l"}).ranges()
    b = plain.source == 1
    expected = indices_of(plain.key[b])[:, [1, 0, 2]] * [1, 1, -1]
    assert sorted(keys_of(expected)) == turned.key[turned.source == 1].tolist()
    assert np.array_equal(plain.key[~b], turned.key[turned.source != 1])


def test_reindexing_comes_before_symmetry(folders):
    """In P21, h k l -> l, -k, h turns the two-fold axis into itself."""
    unique = laue("P21")
    (plain,) = Reduction(folders[1:]).ranges()
    (turned,) = Reduction(folders[1:], unique, reindex={"a": "l,-k,h"}).ranges()
    expected = unique(indices_of(plain.key)[:, [2, 1, 0]] * [1, -1, 1])
    assert sorted(keys_of(expected)) == turned.key.tolist()


def test_operators_that_do_not_map_voxels_to_voxels(tmp_path):
    grid = Grid("hkl", (0.5, 0.5, 0.25)).to_dict()
    folder = write_folder(tmp_path / "flat", {"a": (0, 1)}, 3, grid=grid)
    Reduction([folder], reindex={"a": "k,h,-l"})
    for text, message in [
        ("l,-k,h", "turns axis l into h, but"),
        ("h/2,k,2*l", "fractional indices"),
        ("foo", "'foo' is not an operator on indices"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Reduction([folder], reindex={"a": text})


def test_folders_that_do_not_fit(folders, tmp_path):
    write_folder(tmp_path / "twice", {"a": (2, 4)}, 3)
    other = Grid("hkl", (0.5, 0.5, 1.0)).to_dict()
    write_folder(tmp_path / "grid", {"d": (0, 1)}, 3, grid=other)
    write_folder(tmp_path / "group", {"d": (0, 1)}, 3, space_group=" P 1")
    for name, message in [
        ("twice", "both hold image 3 of the experiment a"),
        ("grid", "on another grid than"),
        ("group", "another space group than"),
    ]:
        with pytest.raises(InputError, match=message):
            collect([*folders, str(tmp_path / name)])
    with pytest.raises(InputError, match="given twice"):
        collect([folders[0], *folders])


def test_parts_of_one_scan_in_two_folders_are_two_sources(tmp_path):
    write_folder(tmp_path / "one", {"a": (0, 2)}, 3)
    write_folder(tmp_path / "two", {"a": (2, 4)}, 3)
    found = collect([str(tmp_path / "two"), str(tmp_path / "one")])
    assert [Path(s.folder).name for s in found.sources] == ["one", "two"]


def test_files_without_angles_are_understood(tmp_path):
    """Files of an earlier version hold neither "still" nor "phi"."""
    folder = write_folder(tmp_path / "old", {"a": (0, 2)}, 3, still=None)
    assert collect([folder]).sources[0].phi[1] > 1.5
