"""Keys in single precision: the exact key, or the mark of an unsure pixel."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core.local_keys import (
    NOWHERE,
    key_frame,
    key_terms,
    local_keys,
    whole_key,
)


@pytest.mark.parametrize("divisions", [0.5, 3.0, 24.0, 400.0])
def test_keys_are_exact_or_unsure(divisions):
    """Against long double, with pixels as near to borders of voxels as they come."""
    rng = np.random.default_rng(7)
    a = np.zeros((3, 4))
    a[:, :3] = 79.0 * divisions * np.linalg.qr(rng.normal(size=(3, 3)))[0]
    a[:, 3] = rng.normal(size=3)
    middle = np.float32([0.3, -0.2, 0.1]).astype(float)
    local = (0.03 * rng.uniform(-1, 1, (20000, 3))).astype(np.float32)
    inverse = np.linalg.inv(a[:, :3])
    index = np.rint((local[::4] + middle) @ a[:, :3].T + a[:, 3]) + 0.5
    local[::4] = (index - a[:, 3]) @ inverse.T - middle
    radius = np.abs(local).max(axis=0).astype(float)
    keys = np.empty(len(local), np.int32)
    frame, _ = key_frame(a[None], middle, radius)
    terms, begin = key_terms(a, middle, radius, frame)
    local_keys(terms, begin, *np.ascontiguousarray(local.T), keys)

    s = local.astype(np.longdouble) + middle
    exact = np.floor(s @ a[:, :3].T.astype(np.longdouble) + a[:, 3] + 0.5)
    i, j, k = (exact.astype(np.int64) + (1 << 20)).T
    wanted = (i << 42) + (j << 21) + k
    sure = keys >= 0
    found = [whole_key(frame, key) for key in keys[sure]]
    assert np.array_equal(found, wanted[sure])
    assert np.array_equal(keys[~sure], NOWHERE - 1 - np.flatnonzero(~sure))
    away = np.ones(len(keys), bool)
    away[::4] = False
    if divisions < 100:
        assert sure[away].mean() > 0.98
        assert not sure[::4].any()
    else:
        assert not sure.any()
