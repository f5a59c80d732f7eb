"""Where rays meet panels: as dxtbx says, pixel for pixel."""

from __future__ import annotations

import numpy as np
import pytest

from dials.array_family import flex  # noqa: F401  (registers the flex types)
from dxtbx import flumpy
from dxtbx.model import (
    OffsetParallaxCorrectedPxMmStrategy,
    Panel,
    ParallaxCorrectedPxMmStrategy,
    SimplePxMmStrategy,
)

from diffuse_core.boundary import pixel_positions
from diffuse_core.compat import load_experiments
from diffuse_core.rays import cubic

MU, THICKNESS = 3.9, 0.45
SIZE = (310, 171)


def by_dxtbx(panel):
    """All pixel centres, one by one, through dxtbx."""
    n_fast, n_slow = panel.get_image_size()
    slow, fast = np.mgrid[0:n_slow, 0:n_fast] + 0.5
    centres = np.column_stack([fast.ravel(), slow.ravel()])
    entered = panel.pixel_to_millimeter(flumpy.vec_from_numpy(centres))
    return flumpy.to_numpy(panel.get_lab_coord(entered)).reshape(n_slow, n_fast, 3)


def panel_with(strategy, tilt=0.0):
    panel = Panel()
    c, s = np.cos(tilt), np.sin(tilt)
    panel.set_frame((1, 0, 0), (0, c, s), (-31.0, -9.0, 62.0))
    panel.set_pixel_size((0.3, 0.25))
    panel.set_image_size(SIZE)
    panel.set_mu(MU)
    panel.set_thickness(THICKNESS)
    panel.set_px_mm_strategy(strategy)
    return panel


def offsets(seed):
    rng = np.random.default_rng(seed)
    return flumpy.from_numpy(rng.normal(0.0, 0.4, SIZE[::-1]))


STRATEGIES = {
    "no parallax": SimplePxMmStrategy,
    "parallax": lambda: ParallaxCorrectedPxMmStrategy(MU, THICKNESS),
    "distortion": lambda: OffsetParallaxCorrectedPxMmStrategy(
        MU, THICKNESS, offsets(1), offsets(2)
    ),
}


@pytest.mark.parametrize("tilt", [0.0, 0.6])
@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_positions_are_those_of_dxtbx(strategy, tilt):
    """Rays at up to 50 degrees to a thick sensor: within 2e-5 pixels."""
    panel = panel_with(strategy(), tilt)
    difference = np.abs(pixel_positions(panel) - by_dxtbx(panel)).max()
    assert difference < 2e-5 * 0.25


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 1), (2, 17)])
def test_narrow_panels(shape):
    panel = panel_with(ParallaxCorrectedPxMmStrategy(MU, THICKNESS))
    panel.set_image_size(shape)
    assert pixel_positions(panel) == pytest.approx(by_dxtbx(panel), abs=5e-6)


@pytest.mark.parametrize(
    "name", ["l_cysteine/dials/refined.expt", "i23_p12m_thaumatin/dials/indexed.expt"]
)
def test_real_detectors(data_dir, name):
    (experiment, *_) = load_experiments(str(data_dir / name), check_format=False)
    for number in (0, len(experiment.detector) - 1):
        panel = experiment.detector[number]
        pixel = min(panel.get_pixel_size())
        difference = np.abs(pixel_positions(panel) - by_dxtbx(panel)).max()
        assert difference < 2e-6 * pixel


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("n", [1, 7, 100])
def test_cubics_are_exact(axis, n):
    """A polynomial of third order along one axis, others along the rest."""
    size = 9
    at = np.linspace(0.0, size - 1.0, n)

    def values(x):
        first = 1.0 - 0.3 * x + 0.2 * x**2 - 0.05 * x**3
        return np.stack([[first, x**2], [-x, 2.0 * first]], axis=-1)

    given = np.moveaxis(values(np.arange(size)), 1, axis)
    expected = np.moveaxis(values(at), 1, axis)
    assert cubic(given, n, axis) == pytest.approx(expected, abs=1e-12)
