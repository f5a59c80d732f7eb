"""The shadow of a real tape: the correction makes both sides of the still level."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dials.array_family import flex  # noqa: F401

SCRIPT = Path(__file__).parents[1] / "examples" / "real_data" / "kapton_profile.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("kapton_profile", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def still(example, data_dir):
    return example.Still(str(data_dir / "lcls_rayonix_kapton/dials/refined.expt"))


def test_the_shadowed_side_becomes_level_with_the_other(example, still):
    """Parameters come from the upper half of the detector, the test from the lower."""
    before = np.array(still.ratios(None, -1))
    nominal = np.array(still.ratios(example.NOMINAL, -1))
    after = np.array(still.ratios(example.FITTED, -1))
    assert (before < 0.905).all()
    assert (nominal > before + 0.03).all() and (nominal < 1).all()
    np.testing.assert_allclose(after, 1.0, atol=0.03)


def test_steps_at_the_edge_of_the_tape_go(example, still):
    """Across the edge of the shadow, azimuth -100 against -80 deg, and 100, 80."""
    for low, high in example.RINGS[1:4]:
        for tape, lowest, highest in ((None, 0.80, 0.92), (example.FITTED, 0.95, 1.05)):
            azimuth, profile = still.profile(tape, low, high)
            inside = profile[(abs(azimuth) > 95) & (abs(azimuth) < 115)].mean()
            outside = profile[(abs(azimuth) > 65) & (abs(azimuth) < 85)].mean()
            assert lowest < inside / outside < highest


def test_the_fit_is_that_of_the_documentation(example, still):
    found = example.fit(still)
    ours = still.corrected(found) / still.corrected(example.FITTED)
    np.testing.assert_allclose(np.median(ours), 1.0, atol=0.01)
    assert np.abs(np.log(ours[still.two_theta < 42])).mean() < 0.01
