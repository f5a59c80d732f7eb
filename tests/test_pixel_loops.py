"""Loops over pixels against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core.pixel_loops import multiply, quadratic

SHAPE = (7, 13)


def test_quadratic():
    rng = np.random.default_rng(1)
    s = rng.normal(size=(*SHAPE, 3)).astype(np.float32)
    a = rng.normal(size=(3, 3))
    a += a.T
    b, c = rng.normal(size=3), 0.7
    expected = np.einsum("yxi,ij,yxj->yx", s, a, s, dtype=float) + s @ b + c
    np.testing.assert_allclose(quadratic(s, a, b, c), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("turned", [False, True])
def test_multiply(dtype, turned):
    """Any type, any order in memory; pixels that are left out stay as they are."""
    rng = np.random.default_rng(2)
    factor = (10 * rng.uniform(0.1, 1.0, SHAPE[:: -1 if turned else 1])).astype(dtype)
    factor = factor.T if turned else factor
    keep = rng.uniform(size=SHAPE) < 0.5
    product = np.full(SHAPE, np.float32(3.0))
    assert multiply(product, factor, keep)
    assert product == pytest.approx(np.where(keep, 3.0 * factor, 3.0), rel=1e-7)


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf, 1e300, 1e-300])
def test_a_factor_that_is_no_response(wrong):
    """Only where the pixel is kept; 1e300 and 1e-300 aren't numbers of float32."""
    factor = np.ones(SHAPE)
    factor[3, 4] = wrong
    keep = np.ones(SHAPE, bool)
    assert not multiply(np.ones(SHAPE, np.float32), factor, keep)
    keep[3, 4] = False
    product = np.ones(SHAPE, np.float32)
    assert multiply(product, factor, keep)
    assert (product == 1.0).all()
