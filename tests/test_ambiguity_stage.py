"""Folders of observations in, operators for each experiment out."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from cctbx import sgtbx

from diffuse_core import ambiguity_stage
from diffuse_core.ambiguity_stage import Ambiguity, by_maps, question
from diffuse_core.boundary import laue_operators
from diffuse_core.collection import collect
from diffuse_core.reduction import Reduction
from diffuse_core.symmetry import UniqueVoxels
from diffuse_core.testing.made_up_settings import write_folder

P4 = sgtbx.space_group_info("P4").group()


def resolve(found, group) -> Ambiguity:
    asked = question(found, group)
    return Ambiguity() if asked is None else by_maps(asked, found)


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
