"""A sweep that does not belong to the others is found in folders of observations."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from diffuse_core import config, effects_stage, merge_stage
from diffuse_core.grid import Grid, keys_of
from diffuse_core.io.files import read_merged
from diffuse_core.observations import DTYPES, Observations, write_observations
from diffuse_core.registry import Registry
from diffuse_core.scale_model import Curve, ScaleModel

GRID = Grid("hkl", (0.5, 0.5, 0.5))
CELL = [30.0, 32.0, 35.0, 90.0, 90.0, 90.0]
BLOCKS = 5


def truth_of(index, phase):
    """Intensity of voxels, the same for all that mmm makes equivalent."""
    a, b, c = np.abs(index).T
    return 40.0 + 15.0 * np.cos(1.7 * a + phase) * np.cos(0.9 * b) * np.cos(1.3 * c)


def write_sweep(folder, name, seed, phase=0.0):
    folder.mkdir()
    rng = np.random.default_rng(seed)
    names = []
    for number in range(BLOCKS):
        index = np.unique(rng.integers(-10, 11, (4000, 3)), axis=0)
        n = len(index)
        exposure = rng.uniform(0.5, 1.5, n)
        columns = {column: np.zeros(n, dtype) for column, dtype in DTYPES.items()}
        columns["key"] = keys_of(index)
        columns["exposure"] = exposure
        columns["counts"] = rng.poisson(exposure * truth_of(index, phase)).astype(float)
        columns["pixels"] = np.ones(n, np.float32)
        columns["x"] = rng.random(n).astype(np.float32)
        columns["s"] = np.full(n, 0.1, np.float32)
        meta = {
            "grid": GRID.to_dict(),
            "block": [number, 0, number, number + 1],
            "identifier": name,
            "still": False,
            "unit_cell": CELL,
            "space_group": " P 2ac 2ab",
            "provenance": {"program": "test"},
        }
        names.append(f"block_{number:06d}.h5")
        write_observations(folder / names[-1], Observations(columns, meta))
    (folder / "run.json").write_text(json.dumps({"files": names}))
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("sweeps")
    return [
        write_sweep(place / "first", "a", 1),
        write_sweep(place / "stranger", "b", 2, phase=1.6),
        write_sweep(place / "third", "c", 3),
    ]


def effects(folders, place, text=""):
    scope = config.master_scope(Registry.discover({}), ("merging",), ())
    merging = config.extract(scope, f"merging {{ {text} }}").merging
    merge_stage.merge(folders, merging, place / "merged.nxs")
    merged = read_merged(place / "merged.nxs")
    return effects_stage.effects_of_groups(folders, merging, merged)


def test_the_stranger_is_named(folders, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "dials.diffuse"):
        found = effects(folders, tmp_path)
    json.dumps(found, allow_nan=False)
    by_name = {r["identifier"]: r["delta_cc_half"] for r in found["experiment"]}
    assert by_name["b"] < -0.02 and min(by_name["a"], by_name["c"]) > 0.02
    assert "better without 1 of 3 experiments" in caplog.text
    assert "experiment 0 of" in caplog.text and "stranger" in caplog.text
    assert len(found["block"]) == 3 * BLOCKS
    means = {
        name: np.mean(
            [r["delta_cc_half"] for r in found["block"] if r["identifier"] == name]
        )
        for name in "abc"
    }
    assert means["b"] < 0.5 * min(means["a"], means["c"])
    for record in found["experiment"]:
        low, high = record["delta_cc_half_bounds"]
        assert low < record["delta_cc_half"] < high
        assert 0 < record["voxels"] < record["observations"]


@pytest.mark.parametrize("outliers", ["poisson", "none"])
def test_scales_and_outliers_are_those_of_merging(folders, tmp_path, outliers):
    flat = Curve(np.array([0.0, 1.0]), np.array([40.0, 40.0]))
    none = Curve(np.array([0.0, 1.0]), np.zeros(2))
    sources = merge_stage.collect(folders).sources
    path = tmp_path / "scales.json"
    ScaleModel(tuple(sources), (), none, flat).write(path)
    found = effects(folders, tmp_path, f"scales = {path}\n outliers = {outliers}")
    by_name = {r["identifier"]: r["delta_cc_half"] for r in found["experiment"]}
    assert by_name["b"] < -0.02 and min(by_name["a"], by_name["c"]) > 0.02


def test_larger_data_are_sampled(folders, tmp_path, monkeypatch):
    everything = effects(folders, tmp_path)
    monkeypatch.setattr(effects_stage, "SAMPLE", 25_000)
    part = effects(folders, tmp_path)
    for whole, some in zip(everything["experiment"], part["experiment"], strict=True):
        assert some["observations"] < 0.8 * whole["observations"]
        assert np.sign(some["delta_cc_half"]) == np.sign(whole["delta_cc_half"])
