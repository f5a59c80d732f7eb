"""Faults planted in simulated images are found and named; without them all is quiet."""

from __future__ import annotations

import numpy as np
import pytest

from diffuse_core.checks import beam_centre, beam_stop, counts, level
from diffuse_core.simulate.phil import read_recipe
from diffuse_core.simulate.simulation import Simulation

RECIPE = """
detector { name = pilatus_300k
  distance = 110
  beam_centre = 250.3 305.8 }
scan { n_images = 8
  width = 12 }
crystal.unit_cell = 38 46 54 90 90 90
bragg.d_min = 2
diffuse.cloud.length = 3 12
background.air.amplitude = 6e6
beam.polarization_fraction = 0.95
"""
CENTRE = (250.3, 305.8)


@pytest.fixture(scope="module")
def images():
    """(8, 619, 487) counts of a rotating crystal, and the mask of the modules."""
    params, _ = read_recipe(RECIPE)
    simulation = Simulation(params)
    stack = np.array([simulation.counts(i)[0] for i in range(8)])
    return stack, stack.min(axis=0) >= 0


@pytest.fixture(scope="module")
def mean(images):
    """Mean image with spots clipped at twice the median of the series' pixels."""
    stack, mask = images
    ceiling = 3.0 * np.median(stack, axis=0) + 5.0
    return np.minimum(stack, ceiling).mean(axis=0), mask


def radius(shape, centre):
    slow, fast = np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5
    return np.hypot(fast - centre[0], slow - centre[1])


@pytest.mark.parametrize("error", [(0.0, 0.0), (5.0, 0.0), (-3.0, 4.0), (0.4, -7.3)])
def test_beam_centre(mean, error):
    image, mask = mean
    expected = (CENTRE[0] - error[0], CENTRE[1] - error[1])
    found, correlation = beam_centre.offset(image, mask, expected)
    assert np.allclose(found, error, atol=0.5)
    assert correlation > 0.9


def test_beam_centre_is_not_guessed_near_the_edge(mean):
    image, mask = mean
    assert np.isnan(beam_centre.offset(image, mask, (10.0, 300.0))[1])


def test_photons_are_photons(images):
    stack, mask = images
    values = counts.describe(stack[0], mask)
    assert values.variance_to_mean == pytest.approx(1.0, abs=0.1)
    assert counts.say(values, 1.0) == []


@pytest.mark.parametrize("gain", [0.4, 4.7, 25.0])
def test_missing_gain(images, gain):
    stack, mask = images
    values = counts.describe(np.rint(stack[0] * gain), mask)
    assert values.variance_to_mean == pytest.approx(gain, rel=0.2)
    (told,) = [s for s in counts.say(values, 1.0) if "gain is not in" in s]
    assert "detector.panel.gain" in told
    assert not any("gain is not in" in s for s in counts.say(values, gain))


def test_values_that_are_no_counts(images):
    stack, mask = images
    corrected = counts.describe(stack[0] / 0.97, mask)
    assert "no whole numbers" in counts.say(corrected, 1.0)[0]
    dark = counts.describe(stack[0] - int(np.median(stack[0])), mask)
    assert any("negative" in s for s in counts.say(dark, 1.0))
    doubled = counts.describe(stack[0] * 3, mask)
    assert "multiples of 3" in counts.say(doubled, 3.0)[0]


def test_beam_stop_and_arm(mean):
    image, mask = mean
    r = radius(image.shape, CENTRE)
    slow, fast = np.mgrid[0 : image.shape[0], 0 : image.shape[1]] + 0.5
    stop = r < 22
    arm = (np.abs(slow - CENTRE[1]) < 4) & (fast > CENTRE[0]) & (fast < 400)
    planted = stop | arm
    found = beam_stop.shadow(np.where(planted, 0.03 * image, image), mask, r, 8)
    seen = planted & mask
    assert (found & seen).sum() > 0.97 * seen.sum()
    assert (found & ~planted).sum() < 0.8 * seen.sum()
    assert found[~mask & ~planted].mean() < 0.1


def test_no_beam_stop_where_there_is_none(mean):
    image, mask = mean
    assert not beam_stop.shadow(image, mask, radius(image.shape, CENTRE), 8).any()


def test_few_counts_are_no_shadow():
    rng = np.random.default_rng(2)
    image = rng.poisson(0.05, (200, 200)).astype(float)
    r = radius(image.shape, (100, 100))
    assert not beam_stop.shadow(image, np.ones(image.shape, bool), r, 1).any()


def test_refill_and_decay():
    x = np.arange(96)
    steady = 1000 * np.exp(-0.013 * x)
    steady[58:] *= 2.5
    noise = np.random.default_rng(3).normal(0, 2, 96)
    found = level.describe(steady + noise, np.full(96, 2.0))
    assert [i for i, _ in found.jumps] == [57]
    assert found.jumps[0][1] == pytest.approx(2.5 * np.exp(-0.013), rel=0.02)
    told = level.say(found, [f"image {i + 1}" for i in range(96)])
    assert "image 59" in told[0]
    assert "factor of" in told[1]


def test_shutter():
    values = np.full(20, 100.0)
    values[[4, 5]] = 1.0
    found = level.describe(values, np.full(20, 1.0))
    assert found.dark == [4, 5]
    assert found.jumps == []


def test_steady_level_is_quiet():
    rng = np.random.default_rng(4)
    smooth = 1000 * (1 + 0.08 * np.sin(np.linspace(0, 6, 200)))
    found = level.describe(smooth + rng.normal(0, 5, 200), np.full(200, 5.0))
    assert level.say(found, [str(i) for i in range(200)]) == []
