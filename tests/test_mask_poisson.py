"""The relative-entropy mask: chance, halos, spots, hot pixels, CCDs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import poisson as poisson_law

from diffuse_core import poisson
from diffuse_core.plugins.masking import poisson_outlier
from diffuse_core.plugins.masking.poisson_outlier import PoissonOutlier
from diffuse_core.testing import check_plugin, make_geometry, make_image

SIZE = 360
LIMIT = -math.log(1e-6)
Y, X = np.mgrid[0:SIZE, 0:SIZE]


def outliers(counts, valid=None, limit=LIMIT, grow=1):
    valid = np.ones(counts.shape, bool) if valid is None else valid
    squares = np.zeros(counts.shape, bool)
    return poisson.find_outliers(counts.astype(np.float32), valid, squares, limit, grow)


@pytest.mark.parametrize(("n", "mean"), [(0, 3.0), (4, 3.0), (12, 3.0), (2, 0.05)])
def test_entropy_is_that_of_the_distributions(n, mean):
    """D of Poisson(n) from Poisson(mean), summed term by term."""
    k = np.arange(100)
    p = poisson_law.pmf(k, n) if n else (k == 0).astype(float)
    log_q = poisson_law.logpmf(k, mean)
    found = np.sum(np.where(p > 0, p * (np.log(np.maximum(p, 1e-300)) - log_q), 0.0))
    assert poisson.entropy(float(n), mean) == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize("mean", [0.05, 0.5, 4.0, 60.0])
def test_bound_is_never_below_the_probability(mean):
    """P(n or more) <= exp(-D), n above the mean; P(n or fewer), n below."""
    for n in range(int(mean + 12 * math.sqrt(mean)) + 4):
        d = poisson.entropy(float(n), mean)
        law = poisson_law(mean)
        chance = law.sf(n - 1) if n > mean else law.cdf(n)
        assert chance <= math.exp(-d) * (1 + 1e-9)


def test_two_samples_disagree_less_than_a_sample_and_a_law():
    far = poisson.disagreement(9.0, 1.0, 2.0, 1e9)
    assert far == pytest.approx(poisson.entropy(9.0, 2.0), rel=1e-6)
    assert 0 < poisson.disagreement(9.0, 1.0, 2.0, 20.0) < far
    assert poisson.disagreement(0.0, 9.0, 2.0, 20.0) < 0
    assert poisson.disagreement(3.0, 1.0, 0.0, 50.0) > 0


@pytest.mark.parametrize("mean", [0.05, 0.2, 1.0, 5.0, 20.0, 100.0])
def test_clean_images_lose_nothing(mean):
    counts = np.random.default_rng(1).poisson(mean, (SIZE, SIZE))
    found = outliers(counts)
    assert found.mean() < 1e-4
    assert abs(counts[~found].mean() / counts.mean() - 1) < 1e-4


@pytest.mark.parametrize("width", [2.6, 4.0, 6.0])
@pytest.mark.parametrize("mean", [0.05, 1.0, 10.0, 100.0])
def test_slopes_and_halos_lose_next_to_nothing(width, mean):
    """Halos five times as high as what lies between them, on a wave, with noise."""
    apart = 6 * width
    x, y = (v % apart - apart / 2 for v in (X, Y))
    halo = np.exp(-(x**2 + y**2) / 2 / width**2)
    expected = mean * (0.5 + 2 * halo) * (1 + 0.4 * np.sin(X / 30) * np.cos(Y / 50))
    found = outliers(np.random.default_rng(2).poisson(expected))
    assert found.mean() < 2e-3
    assert abs((found * expected).sum() / expected.sum()) < 3e-3


def test_edges_and_gaps_lose_nothing():
    """Modules with gaps, a step of the level at a gap, a panel below the ring."""
    expected = np.where(X < 180, 3.0, 30.0)
    valid = np.abs(X - 180) > 4
    valid &= Y % 60 > 5
    counts = np.random.default_rng(3).poisson(expected)
    counts[~valid] = -1
    assert outliers(counts, valid)[valid].mean() < 5e-4
    small = np.random.default_rng(4).poisson(5.0, (5, 7))
    assert not outliers(small).any()


@pytest.mark.parametrize("mean", [0.05, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("width", [0.6, 1.0, 1.4])
def test_spots_are_left_out(mean, width):
    """Of spots with 300 (1 + mean)^(1/2) photons, 95 % and all that is seen."""
    apart = 30
    x, y = (v % apart - apart / 2 - 0.3 for v in (X, Y))
    spot = np.exp(-(x**2 + y**2) / 2 / width**2) / (2 * np.pi * width**2)
    spot *= 300 * math.sqrt(1 + mean)
    found = outliers(np.random.default_rng(5).poisson(mean + spot))
    core = spot > 8 * math.sqrt(1 + mean)
    assert found[core].all()
    assert spot[found].sum() > 0.95 * spot.sum()
    assert found.mean() < 0.13


def test_hot_and_dead_pixels_and_zingers_are_left_out():
    counts = np.random.default_rng(6).poisson(20.0, (SIZE, SIZE))
    hot = ([40, 41, 200, 300], [50, 51, 120, 359])
    counts[hot] = 90
    dead = ([100, 250], [100, 17])
    counts[dead] = 0
    found = outliers(counts, grow=0)
    assert found[hot].all()
    assert found[dead].all()
    assert found.sum() < 60


def test_what_grows_around_an_outlier():
    counts = np.random.default_rng(7).poisson(1.0, (60, 60))
    counts[30, 30] = 40
    found = [outliers(counts, grow=g)[20:41, 20:41] for g in (0, 2)]
    assert found[0][10, 10]
    assert found[1].sum() >= 25
    assert (found[0] <= found[1]).all()


def test_dispersion_is_the_gain_and_slopes_do_not_count():
    rng = np.random.default_rng(8)
    slope = 50 * (1 + 0.5 * X / SIZE)
    valid = np.ones((SIZE, SIZE), bool)
    for gain in (1.0, 7.0):
        counts = (gain * rng.poisson(slope)).astype(np.float32)
        assert poisson.dispersion(counts, valid, 32) == pytest.approx(gain, rel=0.05)
    assert np.isnan(poisson.dispersion(np.zeros((64, 64), np.float32), valid, 32))


def image_of(counts, usable=None):
    usable = np.ones(counts.shape, bool) if usable is None else usable
    return replace(make_image(0), counts=(counts,), usable=(usable,))


def geometry_of(shape):
    geometry = make_geometry(0)
    zero = np.zeros(shape, np.float32)
    s = np.zeros((*shape, 3), np.float32)
    return replace(geometry, shape=shape, s=s, cos_incidence=zero, distance=zero)


def test_integrating_detectors_have_their_own_photon():
    """Gain and pedestal of the panel, then the gain that nobody knows."""
    rng = np.random.default_rng(9)
    photons = rng.poisson(30.0, (SIZE, SIZE))
    photons[100, 100] = 200
    geometry = geometry_of((SIZE, SIZE))
    model = PoissonOutlier([[(10.0, 2.0)]], near=0.0)
    for unknown in (1, 9):
        raw = (10 + 2 * unknown * photons).astype(np.int32)
        keep = model.image_mask(image_of(raw), geometry)
        assert not keep[100, 100]
        assert keep.mean() > 0.9995


def test_unusable_pixels_tell_nothing():
    rng = np.random.default_rng(10)
    counts = rng.poisson(2.0, (SIZE, SIZE)).astype(np.int32)
    usable = np.ones(counts.shape, bool)
    counts[50:60, 50:60], usable[50:60, 50:60] = 4000, False
    counts[80, 80] = -5
    model = PoissonOutlier([[(0.0, 1.0)]], near=0.0)
    keep = model.image_mask(image_of(counts, usable), geometry_of(counts.shape))
    assert keep[usable].mean() > 0.9999
    dark = image_of(np.zeros((64, 64), np.int32))
    assert model.image_mask(dark, geometry_of((64, 64))) is None
    assert model.image_mask(make_image(0, counts=False), make_geometry(0)) is None


def test_contract():
    check_plugin(poisson_outlier)


def test_near_lattice_points_only_single_pixels_are_left_out():
    """A spot on a lattice point and one between: the halo of the first stays."""
    rng = np.random.default_rng(11)
    expected = np.full((SIZE, SIZE), 2.0)
    for centre in ((100, 100), (250, 250)):
        away = (Y - centre[0]) ** 2 + (X - centre[1]) ** 2
        expected += 60 * np.exp(-away / 2)
    counts = rng.poisson(expected).astype(np.int32)
    s = np.stack([(X - 100) / 60, (Y - 100) / 60, 0 * X], axis=-1).astype(np.float32)
    geometry = replace(geometry_of(counts.shape), s=s)
    image = replace(image_of(counts), to_hkl=np.eye(3), s_shift=np.zeros(3))
    near = poisson.near_points(s, np.eye(3, 4)[None], 0.27)
    away = np.linalg.norm(s.astype(float) - np.rint(s), axis=2)
    np.testing.assert_array_equal(near, away < 0.27)
    model = PoissonOutlier([[(0.0, 1.0)]], near=0.27)
    keep = model.image_mask(image, geometry)
    assert near[100, 100]
    assert not near[250, 250]
    on, between = (~keep[c - 8 : c + 9, c - 8 : c + 9] for c in (100, 250))
    assert 3 <= on.sum() < 15
    assert between.sum() > 2 * on.sum()
