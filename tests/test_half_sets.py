"""Halves are even, independent, and the same whatever else is there."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from diffuse_core.half_sets import KINDS, half_of
from diffuse_core.rows import Rows, Source

SOURCES = [
    Source(f"id-{i}", "folder", i, False, (0.0, 50.0)) for i in (3, 1, 4, 0, 5, 2)
]


def rows_from(columns: dict[str, np.ndarray]) -> Rows:
    """Rows sorted by key, zeros where no column is given."""
    n = len(columns["key"])
    order = np.argsort(columns["key"], kind="stable")
    key = columns["key"][order]
    starts = np.append(np.flatnonzero(np.diff(key, prepend=key[0] - 1)), n)
    names = [f.name for f in fields(Rows) if f.name != "starts"]
    given = {name: values[order] for name, values in columns.items()}
    return Rows(starts=starts, **{name: given.get(name, np.zeros(n)) for name in names})


def made_up(n: int = 60_000, seed: int = 1) -> Rows:
    """Rows of voxels seen about six times each, by six experiments."""
    rng = np.random.default_rng(seed)
    source = rng.integers(0, len(SOURCES), n).astype(np.int32)
    return rows_from(
        {
            "key": rng.integers(0, n // 6, n),
            "source": source,
            "block": (source * 50 + rng.integers(0, 50, n)).astype(np.int32),
            "panel": rng.integers(0, 4, n).astype(np.int16),
            "friedel": rng.random(n) < 0.5,
            **{
                name: rng.uniform(0, 1000, n).astype(np.float32)
                for name in ("x", "y", "phi")
            },
        }
    )


def selected(rows: Rows, keep: np.ndarray) -> Rows:
    names = [f.name for f in fields(Rows) if f.name != "starts"]
    return rows_from({name: getattr(rows, name)[keep] for name in names})


@pytest.mark.parametrize("kind", KINDS)
def test_halves_are_even(kind):
    rows = made_up()
    half = half_of(rows, kind, 0, SOURCES)
    assert half.dtype == np.int8 and half.shape == (len(rows),)
    assert set(np.unique(half)) == {0, 1}
    assert half.mean() == pytest.approx(0.5, abs=0.01)


def test_random_halves_are_independent_of_everything():
    """No correlation with any column, nor between the rows of a voxel, nor seeds."""
    rows = made_up()
    half = half_of(rows, "random", 0, SOURCES) - 0.5
    limit = 4.0 / np.sqrt(len(rows))
    for name in ("key", "source", "block", "panel", "friedel", "x", "y", "phi"):
        assert abs(np.corrcoef(half, getattr(rows, name))[0, 1]) < limit
    pairs = np.flatnonzero(np.diff(rows.key) == 0)
    assert abs(np.mean(4 * half[pairs] * half[pairs + 1])) < 4 / np.sqrt(len(pairs))
    other = half_of(rows, "random", 1, SOURCES) - 0.5
    assert abs(np.corrcoef(half, other)[0, 1]) < limit


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_experiments_changes_nothing(kind):
    rows = made_up()
    order = np.array([4, 0, 5, 3, 1, 2])
    shuffled = replace(rows, source=np.argsort(order).astype(np.int32)[rows.source])
    sources = [SOURCES[i] for i in order]
    np.testing.assert_array_equal(
        half_of(shuffled, kind, 7, sources), half_of(rows, kind, 7, SOURCES)
    )


@pytest.mark.parametrize("kind", ["random", "block", "friedel"])
def test_other_data_changes_nothing(kind):
    rows = made_up()
    keep = np.isin(rows.source, [1, 4])
    part = selected(rows, keep)
    fewer = replace(part, source=(part.source == 4).astype(np.int32))
    np.testing.assert_array_equal(
        half_of(fewer, kind, 7, [SOURCES[1], SOURCES[4]]),
        half_of(rows, kind, 7, SOURCES)[keep],
    )


def test_blocks_alternate_within_each_experiment():
    rows = made_up()
    half = half_of(rows, "block", 0, SOURCES)
    for source in range(len(SOURCES)):
        mine = rows.source == source
        parity = (half[mine] + rows.block[mine]) % 2
        assert len(np.unique(parity)) == 1


def test_experiments_are_whole_and_in_equal_numbers():
    rows = made_up()
    for seed in range(5):
        half = half_of(rows, "experiment", seed, SOURCES)
        of_source = [set(half[rows.source == i]) for i in range(len(SOURCES))]
        assert all(len(h) == 1 for h in of_source)
        assert sum(h.pop() for h in of_source) == 3


def test_experiments_without_identifier_fall_back_to_their_number():
    rows = made_up()
    nameless = [replace(s, identifier="") for s in SOURCES]
    half = half_of(rows, "random", 0, nameless)
    assert 0.49 < half.mean() < 0.51
    moved = [replace(s, folder="elsewhere") for s in nameless]
    np.testing.assert_array_equal(half, half_of(rows, "random", 0, moved))


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'halves' is none of random, block"):
        half_of(made_up(60), "halves", 0, SOURCES)
