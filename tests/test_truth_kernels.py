"""The functions that the truth of simulations is made of, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core.simulate.truth_kernels import cosine, exponential


def test_exponential_is_that_of_numpy():
    x = np.concatenate([np.linspace(-700.0, 700.0, 4001), np.linspace(-2.0, 2.0, 4001)])
    found = np.array([exponential(value) for value in x])
    assert (np.abs(found / np.exp(x) - 1.0) <= 1e-13 * (np.abs(x) + 1.0)).all()
    assert exponential(0.0) == pytest.approx(1.0, abs=1e-13)
    assert 0.0 < exponential(-1e6) < 1e-300


def test_cosine_is_that_of_numpy():
    x = np.concatenate([np.linspace(-3.0, 3.0, 6001), [-1e4 - 0.3, 1e4 + 0.7]])
    found = np.array([cosine(value) for value in x])
    np.testing.assert_allclose(found, np.cos(2 * np.pi * x), rtol=0, atol=2e-11)
    assert np.abs(found[:-2] - np.cos(2 * np.pi * x[:-2])).max() < 1e-13
