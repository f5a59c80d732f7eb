"""Eight or four neighbours at once give what NumPy gives for them one by one."""

from __future__ import annotations

import numpy as np
from numba import njit

from diffuse_core.vectors import add_run, changes_of_eight, copy_eight, write_eight


@njit
def _all(keys, at, other, table, ends, source, copy, sums, values):
    write_eight(ends, np.uint64(3), table, np.uint64(16), np.uint32(1000))
    copy_eight(copy, np.uint64(5), source, np.uint64(2))
    add_run(
        sums, np.uint64(4), values, np.uint64(6), np.uint64(2), 3.0, 5.0, np.float64(7)
    )
    return changes_of_eight(keys, at, other)


def test_neighbours():
    """With places that are on no boundary of a vector."""
    rng = np.random.default_rng(5)
    keys = rng.integers(-2, 1, 40).astype(np.int32)
    table = rng.integers(0, 9, 64).astype(np.uint32)
    ends, copy = np.zeros(16, np.uint32), np.zeros(16, np.float32)
    source = rng.normal(size=16).astype(np.float32)
    sums, values = np.ones((3, 4)), rng.normal(size=(6, 2))
    args = table, ends, source, copy, sums, values
    bits = _all(keys, np.uint64(3), np.uint64(18), *args)

    differ = keys[3:11] != keys[18:26]
    assert 0 < differ.sum() < 8
    assert bits == sum(1 << k for k in np.flatnonzero(differ))
    assert np.array_equal(ends[3:11], table[16:24] + 1000)
    assert not ends[:3].any() and not ends[11:].any()
    assert np.array_equal(copy[5:13], source[2:10])
    assert not copy[:5].any() and not copy[13:].any()
    change = values[3] - values[1]
    assert np.array_equal(sums[1], [1 + 3 * change[0], 1 + change[1], 6, 8])
    assert (sums[[0, 2]] == 1).all()
