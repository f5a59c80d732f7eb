"""CC1/2 without a group: exact, and it finds the sweep that is bad."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from diffuse_core.leave_out import LeaveOut
from diffuse_core.rows import Rows
from diffuse_core.statistics import correlation

SHELLS = 4


@pytest.fixture
def rng():
    return np.random.default_rng(20240712)


def rows_from(columns: dict[str, np.ndarray]) -> Rows:
    """Rows sorted by key, zeros where no column is given."""
    n = len(columns["key"])
    order = np.argsort(columns["key"], kind="stable")
    key = columns["key"][order]
    starts = np.append(np.flatnonzero(np.diff(key, prepend=key[0] - 1)), n)
    names = [f.name for f in fields(Rows) if f.name != "starts"]
    given = {name: values[order] for name, values in columns.items()}
    return Rows(starts=starts, **{name: given.get(name, np.zeros(n)) for name in names})


class Data:
    """Observations of voxels by sweeps of which one may be bad."""

    def __init__(self, rng, voxels=3000, sweeps=5, per_sweep=2, bad=None):
        n = voxels * sweeps * per_sweep
        key = np.repeat(np.arange(voxels) * 7 + 3, sweeps * per_sweep)
        source = np.tile(np.arange(sweeps), voxels * per_sweep)
        keep = rng.random(n) < 0.8
        self.rows = rows_from({"key": key[keep], "source": source[keep]})
        m = len(self.rows.starts) - 1
        self.isotropic = np.linspace(9.0, 4.0, m)
        signal = self.isotropic + rng.normal(0.0, 1.0, m)
        self.value = signal[self.rows.voxel] + rng.normal(0.0, 1.5, len(self.rows))
        if bad is not None:
            wrong = self.rows.source == bad
            self.value[wrong] += rng.normal(0.0, 6.0, wrong.sum())
        self.weight = rng.uniform(0.5, 2.0, len(self.rows))
        self.half = rng.integers(0, 2, len(self.rows))
        self.shell = np.repeat(np.arange(SHELLS), m // SHELLS + 1)[:m]
        self.shell[::17] = -1

    def part(self, first, stop) -> Rows:
        start, end = self.rows.starts[first], self.rows.starts[stop]
        columns = {
            f.name: getattr(self.rows, f.name)[start:end]
            for f in fields(Rows)
            if f.name != "starts"
        }
        return Rows(starts=self.rows.starts[first : stop + 1] - start, **columns)

    def left_out(self, chunks=1):
        sweeps = self.rows.source.max() + 1
        out = LeaveOut(sweeps, SHELLS)
        edges = np.linspace(0, len(self.shell), chunks + 1).astype(int)
        for first, stop in zip(edges[:-1], edges[1:], strict=True):
            here = slice(self.rows.starts[first], self.rows.starts[stop])
            out.add(
                self.part(first, stop),
                self.half[here],
                self.rows.source[here],
                self.weight[here],
                (self.weight * self.value)[here],
                self.shell[first:stop],
                self.isotropic[first:stop],
            )
        return out

    def from_scratch(self, without=None):
        """The mean over shells of the correlation of halves, each merged anew."""
        keep = np.ones(len(self.rows), bool)
        if without is not None:
            keep = self.rows.source != without
        m = len(self.shell)
        halves = []
        for half in (0, 1):
            mine = keep & (self.half == half)
            voxel = self.rows.voxel[mine]
            weight = np.bincount(voxel, self.weight[mine], m)
            with np.errstate(invalid="ignore"):
                mean = np.bincount(voxel, (self.weight * self.value)[mine], m) / weight
            halves.append(mean - self.isotropic)
        found = np.zeros(2)
        for shell in range(SHELLS):
            use = (self.shell == shell) & np.isfinite(halves).all(axis=0)
            cc = correlation(*(h[use] for h in halves))
            found += use.sum() * np.array([cc, 1.0])
        return found[0] / found[1]


@pytest.mark.parametrize("chunks", [1, 7])
def test_it_is_exact(rng, chunks):
    data = Data(rng, voxels=800)
    out = data.left_out(chunks)
    assert out.cc_half() == pytest.approx(data.from_scratch(), abs=1e-12)
    effects = out.effects()
    assert [e.group for e in effects] == list(range(5))
    for effect in effects:
        expected = data.from_scratch() - data.from_scratch(effect.group)
        assert effect.delta.value == pytest.approx(expected, abs=1e-12)
    use = np.repeat(data.shell >= 0, np.diff(data.rows.starts))
    assert [e.rows for e in effects] == np.bincount(data.rows.source[use]).tolist()
    seen = set(zip(data.rows.voxel[use], data.rows.source[use], strict=True))
    assert sum(e.voxels for e in effects) == len(seen)


def test_good_sweeps_help_and_a_bad_one_is_found(rng):
    good = [e.delta for e in Data(rng).left_out().effects()]
    assert all(delta.low > 0 for delta in good)
    effects = Data(rng, bad=3).left_out().effects()
    worst = min(effects, key=lambda e: e.delta.value)
    assert worst.group == 3
    error = worst.delta.high - worst.delta.value
    assert worst.delta.value < -10 * error
    assert all(e.delta.low > 0 for e in effects if e.group != 3)


def test_the_error_is_that_of_repetition(rng):
    deltas, errors = [], []
    for _ in range(60):
        delta = Data(rng, voxels=600).left_out().effects()[0].delta
        deltas.append(delta.value)
        errors.append(delta.high - delta.value)
    assert np.mean(errors) == pytest.approx(np.std(deltas), rel=0.3)


def test_a_group_that_is_the_only_one_of_a_voxel_takes_it_along(rng):
    """Voxels that lose a half drop out, those of one group alone altogether."""
    data = Data(rng, sweeps=2, per_sweep=1)
    effects = data.left_out().effects()
    assert all(np.isnan(e.delta.value) for e in effects)


def test_groups_without_rows_are_not_listed(rng):
    data = Data(rng, voxels=200)
    out = LeaveOut(9, SHELLS)
    out.add(
        data.rows,
        data.half,
        data.rows.source + 2,
        data.weight,
        data.weight * data.value,
        data.shell,
        data.isotropic,
    )
    assert [e.group for e in out.effects()] == [2, 3, 4, 5, 6]
