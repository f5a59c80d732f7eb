"""The resolution at which a signal ends, against curves whose end is known."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core import agreement
from diffuse_core.agreement import Estimate
from diffuse_core.signal_limit import falling, signal_limit


@pytest.fixture
def rng():
    return np.random.default_rng(20240711)


def shells(rng, n=25, voxels=600, end=0.45, width=0.08):
    """CC1/2 of shells whose ratio of signal to noise falls through 3/7 at `end`."""
    s = np.linspace(0.1, 0.8, n)
    ratio = 3.0 / 7.0 * np.exp(-(s - end) / width)
    found = []
    for r in ratio:
        signal = rng.normal(0.0, np.sqrt(r), voxels)
        found.append(agreement.correlation(*(signal + rng.normal(size=(2, voxels)))))
    return s, found


def test_a_curve_that_never_rises():
    values = np.array([5.0, 3.0, 4.0, 4.0, 1.0, 2.0])
    weights = np.array([1.0, 1.0, 1.0, 2.0, 1.0, 3.0])
    expected = [5.0, 3.75, 3.75, 3.75, 1.75, 1.75]
    assert falling(values, weights) == pytest.approx(expected)
    assert falling(np.array([3.0, 2.0, 1.0]), np.ones(3)) == pytest.approx([3, 2, 1])


def test_the_end_of_a_signal_is_found_and_its_bounds_cover(rng, monkeypatch):
    monkeypatch.setattr("diffuse_core.signal_limit.DRAWS", 200)
    found = [signal_limit(*shells(rng), seed=i) for i in range(200)]
    assert all(limit.reaches == "crossing" for limit in found)
    values = np.array([limit.s.value for limit in found])
    assert values.mean() == pytest.approx(0.45, abs=0.004)
    hits = np.mean([limit.s.low <= 0.45 <= limit.s.high for limit in found])
    assert 0.60 < hits < 0.76
    widths = np.mean([limit.s.high - limit.s.low for limit in found]) / 2
    assert widths == pytest.approx(values.std(), rel=0.3)


def test_a_signal_to_the_edge_and_none_at_all(rng):
    s, strong = shells(rng, end=2.0)
    limit = signal_limit(s, strong)
    assert limit.reaches == "edge" and np.isnan(limit.s.value)
    s, none = shells(rng, end=-2.0)
    limit = signal_limit(s, none)
    assert limit.reaches == "nowhere" and np.isnan(limit.s.value)


def test_shells_without_a_figure_are_left_out(rng):
    s, found = shells(rng)
    holes = list(found)
    holes[3] = agreement.NOTHING
    limit = signal_limit(s, holes)
    assert len(limit.at) == len(s) - 1
    assert limit.s.value == pytest.approx(signal_limit(s, found).s.value, abs=0.02)
    assert signal_limit(s[:2], [Estimate(0.9, 0.8, 0.95)] * 2) is None


def test_the_same_again(rng):
    s, found = shells(rng)
    assert signal_limit(s, found).s == signal_limit(s, found).s
