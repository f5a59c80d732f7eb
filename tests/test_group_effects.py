"""The planted bad sweep and the planted bad block are found in merged data."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from diffuse_core.estimator import voxel_sums
from diffuse_core.grid import Grid, keys_of
from diffuse_core.group_effects import group_effects, row_weights
from diffuse_core.merge import finish
from diffuse_core.rows import Rows, Source
from diffuse_core.scale_model import Scales

GRID = Grid("hkl", (0.5, 0.5, 0.5))
CELL = (20.0, 20.0, 20.0, 90.0, 90.0, 90.0)
SOURCES = [Source(f"id-{i}", "folder", i, False, (0.0, 40.0)) for i in range(3)]
BLOCKS = 8


def observations(rng, wrong):
    """Rows of 3 sweeps of 8 blocks, 12 a voxel, with errors `wrong(source, block)`."""
    axis = np.arange(0, 13)
    index = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    key = keys_of(index)
    m, seen = len(key), 12
    truth = np.repeat(20.0 + 5.0 * np.clip(rng.normal(size=m), -2, 2), seen)
    source = np.tile(np.repeat(np.arange(3), 4), m)
    block = source * BLOCKS + rng.integers(0, BLOCKS, m * seen)
    size = wrong(source, block)
    truth = np.maximum(truth + size * rng.normal(size=m * seen), 0.1)
    exposure = rng.uniform(0.5, 2.0, m * seen)
    columns = {
        "key": np.repeat(key, seen),
        "source": source.astype(np.int32),
        "block": block.astype(np.int32),
        "exposure": exposure,
        "background": exposure,
        "counts": rng.poisson(exposure * (truth + 1.0)).astype(float),
        "pixels": np.ones(m * seen),
        "x": rng.random(m * seen).astype(np.float32),
    }
    names = [f.name for f in fields(Rows) if f.name != "starts"]
    zeros = np.zeros(m * seen)
    columns = {name: columns.get(name, zeros) for name in names}
    return Rows(starts=np.arange(m + 1) * seen, **columns)


def merged_of(rows):
    raw = ("counts", "exposure", "background", "background_variance", "pixels")
    sums = voxel_sums(rows.starts, tuple(getattr(rows, name) for name in raw))
    return finish(rows.key[rows.starts[:-1]], sums, GRID, unit_cell=CELL)


def effects(rows):
    weights = row_weights(rows, None, None)
    return group_effects(rows, SOURCES, merged_of(rows), weights, 0)


def far_below(effect):
    delta = effect.effect.delta
    return delta.value < -5 * (delta.high - delta.value)


def test_a_bad_sweep():
    rng = np.random.default_rng(20240716)
    found = effects(observations(rng, lambda s, b: 15.0 * (s == 1)))
    sweeps = found["experiment"]
    assert [e.source for e in sweeps] == [0, 1, 2] and far_below(sweeps[1])
    assert all(e.effect.delta.low > 0 for e in (sweeps[0], sweeps[2]))
    assert all(e.block is None for e in sweeps)


def test_a_bad_block():
    rng = np.random.default_rng(20240717)
    bad = 2 * BLOCKS + 5
    found = effects(observations(rng, lambda s, b: 40.0 * (b == bad)))
    assert len(found["block"]) == 3 * BLOCKS
    worst = min(found["block"], key=lambda e: e.effect.delta.value)
    assert (worst.source, worst.block) == (2, bad) and far_below(worst)
    others = [e.effect.delta.value for e in found["block"] if e is not worst]
    assert min(others) > 0.2 * worst.effect.delta.value


def test_one_sweep_of_one_block_has_no_effects():
    rng = np.random.default_rng(20240718)
    rows = observations(rng, lambda s, b: 0.0 * s)
    one = Rows(**{**vars(rows), "source": 0 * rows.source, "block": 0 * rows.block})
    assert effects(one) == {}
    stills = Rows(**{**vars(rows), "block": rows.source})
    assert set(effects(stills)) == {"experiment"}


@pytest.mark.parametrize("scaled", [False, True])
def test_weights_are_those_of_merging(scaled):
    rng = np.random.default_rng(20240719)
    rows = observations(rng, lambda s, b: 0.0 * s)
    n = len(rows)
    if scaled:
        rows = replace(rows, background=rng.normal(0.0, 2.0, n))
    scales = expected = given = None
    if scaled:
        crystal, path = rng.uniform(0.5, 2.0, (2, n))
        scales = Scales(crystal, path, rng.uniform(0.0, 3.0, n))
        expected = rng.uniform(10.0, 30.0, n)
        given = (crystal, path, scales.offset, expected)
    raw = ("counts", "exposure", "background", "background_variance", "pixels")
    sums = voxel_sums(rows.starts, tuple(getattr(rows, r) for r in raw), given)
    w, wy = row_weights(rows, scales, expected)
    for name, values in (("weight", w), ("weighted", wy)):
        total = np.add.reduceat(values, rows.starts[:-1])
        np.testing.assert_allclose(total, sums[name], rtol=1e-12)
