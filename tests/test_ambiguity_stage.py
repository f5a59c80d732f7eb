"""Folders of observations in, operators for each experiment out."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri

from cctbx import sgtbx

from diffuse_core import ambiguity_stage
from diffuse_core.ambiguity_stage import Ambiguity, resolve
from diffuse_core.boundary import laue_operators
from diffuse_core.collection import collect
from diffuse_core.grid import Grid, keys_of
from diffuse_core.observations import DTYPES, Observations, write_observations
from diffuse_core.reduction import Reduction, hash_of
from diffuse_core.symmetry import UniqueVoxels

P4 = sgtbx.space_group_info("P4").group()
CELL = [40.0, 40.0, 50.0, 90.0, 90.0, 90.0]
SWAP = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]])


def write_folder(
    folder: Path, planted: list[bool], steps=(0.5, 0.5, 0.5), nameless: int = 0
) -> str:
    """An experiment "0", "1" ... for each entry; True: indexed as k,h,-l.

    The first `nameless` experiments have no identifier.
    """
    folder.mkdir()
    rng = np.random.default_rng(1)
    unique = UniqueVoxels(np.array(laue_operators(P4)))
    index = np.stack(np.meshgrid(*[np.arange(-9, 10)] * 3), -1).reshape(-1, 3)
    s = np.linalg.norm(index / CELL[:3], axis=1)
    index, s = index[s > 0.05], s[s > 0.05]
    deviate = ndtri(np.clip(hash_of(unique.keys(keys_of(index))[0], 1), 1e-6, 1 - 1e-6))
    names = []
    for number, other in enumerate(planted):
        for block in range(2):
            use = rng.random(len(s)) < 0.5
            columns = {
                name: np.zeros(use.sum(), dtype) for name, dtype in DTYPES.items()
            }
            named = index[use] @ SWAP if other else index[use]
            columns["key"] = keys_of(named)
            columns["exposure"][:] = 2.0 + number
            mean = 2.0 * np.exp(0.3 * deviate[use])
            columns["counts"] = rng.poisson(mean).astype(DTYPES["counts"])
            columns["pixels"][:] = 3
            columns["phi"][:] = block
            columns["s"] = s[use].astype(np.float32)
            order = np.argsort(columns["key"])
            columns = {c: values[order] for c, values in columns.items()}
            name = f"block_{len(names):06d}.h5"
            record = {
                "grid": Grid("hkl", steps).to_dict(),
                "block": [len(names), number, block, block + 1],
                "identifier": str(number) if number >= nameless else "",
                "still": False,
                "unit_cell": CELL,
                "space_group": P4.type().hall_symbol(),
                "provenance": {"program": "test"},
            }
            write_observations(folder / name, Observations(columns, record))
            names.append(name)
    (folder / "run.json").write_text(json.dumps({"files": names}))
    return str(folder)


@pytest.mark.parametrize("places", [None, 40_000])
def test_operators_bring_experiments_to_one_setting(tmp_path, monkeypatch, places):
    """Also from a part of the voxels, where there are too many observations."""
    if places:
        monkeypatch.setattr(ambiguity_stage, "PLACES", places)
    found = collect([write_folder(tmp_path / "o", [False, True, True, False])])
    result = resolve(found, P4)
    moved = set(result.reindex)
    assert moved in ({"1", "2"}, {"0", "3"})
    assert set(result.reindex.values()) == {"k,h,-l"}
    assert result.figures["operators"] == ["h,k,l", "k,h,-l"]
    rows = sum(file.rows for file in found.files)
    for record in result.figures["experiments"]:
        assert record["decided"]
        assert (record["operator"] != "h,k,l") == (record["identifier"] in moved)
        part = 1.0 if places is None else places / 2 / rows
        assert record["voxels"] == pytest.approx(part * rows / 4 * 0.75, rel=0.15)
    json.dumps(result.figures, allow_nan=False)
    unique = UniqueVoxels(np.array(laue_operators(P4)))
    spread = []
    for reindex in ({}, result.reindex):
        with Reduction(found, unique, reindex) as reduction:
            (rows,) = reduction.ranges()
        means = np.add.reduceat(rows.counts, rows.starts[:-1]) / np.diff(rows.starts)
        spread.append(np.var(means))
    assert spread[1] > 1.3 * spread[0]


def test_nothing_is_read_without_need(tmp_path, monkeypatch):
    monkeypatch.setattr(ambiguity_stage, "read_observations", None)
    one = collect([write_folder(tmp_path / "one", [False])])
    assert resolve(one, P4).reindex == {} and resolve(one, P4).figures == {}
    two = collect([write_folder(tmp_path / "two", [False, True])])
    group = sgtbx.space_group_info("P422").group()
    assert resolve(two, group).figures == Ambiguity().figures


def test_voxels_of_unequal_widths_are_said_to_be_untestable(tmp_path, caplog):
    folder = write_folder(tmp_path / "o", [False, True], steps=(0.5, 0.25, 0.5))
    with caplog.at_level(logging.WARNING, logger="dials.diffuse"):
        assert resolve(collect([folder]), P4).reindex == {}
    assert "the indexing operator k,h,-l, which can't be tested" in caplog.text


def test_experiments_without_identifiers_are_left_alone(tmp_path, caplog):
    folder = write_folder(tmp_path / "o", [False, True, False, True], nameless=2)
    with caplog.at_level(logging.WARNING, logger="dials.diffuse"):
        result = resolve(collect([folder]), P4)
    assert "2 experiments have no identifier" in caplog.text
    assert len(result.reindex) == 1 and set(result.reindex) < {"2", "3"}
    assert len(result.figures["experiments"]) == 2


def test_what_cannot_be_decided_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ambiguity_stage, "PLACES", 200)
    found = collect([write_folder(tmp_path / "o", [False, True])])
    with caplog.at_level(logging.WARNING, logger="dials.diffuse"):
        result = resolve(found, P4)
    assert result.reindex == {}
    assert "2 of 2 experiments can't be decided" in caplog.text
