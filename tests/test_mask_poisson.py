"""The relative-entropy mask: chance, halos, spots, hot pixels, CCDs."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import poisson as poisson_law

from diffuse_core import poisson, spots
from diffuse_core.plugins.masking import poisson_outlier
from diffuse_core.plugins.masking.poisson_outlier import PoissonOutlier
from diffuse_core.testing import check_plugin, make_geometry, make_image

SIZE = 360
LIMIT = -math.log(1e-6)
SHIPPED = -math.log(1e-6), -math.log(1e-4)
Y, X = np.mgrid[0:SIZE, 0:SIZE]


def outliers(counts, valid=None, limits=(LIMIT, LIMIT), leak=0.1):
    valid = np.ones(counts.shape, bool) if valid is None else valid
    return spots.find_spots(counts.astype(np.float32), valid, *limits, leak)


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


@pytest.mark.parametrize("mean", [0.05, 0.2, 1.0, 5.0, 20.0, 100.0])
def test_what_chance_costs_with_the_shipped_limits(mean):
    """Below 0.03 % of the pixels, and no bias above 0.02 %, on eight clean images."""
    rng = np.random.default_rng(21)
    lost = kept = pixels = 0.0
    for _ in range(8):
        counts = rng.poisson(mean, (SIZE, SIZE))
        found = outliers(counts, limits=SHIPPED)
        lost += found.mean() / 8
        # what is left, against the very counts: their own noise is none of the mask's
        kept += counts[~found].sum() - counts.sum() * (~found).mean()
        pixels += counts.sum()
    assert lost < 3e-4
    assert abs(kept / pixels) < 2e-4


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


@pytest.mark.parametrize(("mean", "share"), [(1.0, 0.9), (5.0, 0.95), (20.0, 0.95)])
def test_faint_spots_are_found(mean, share):
    """Spots of 10 sigma, if one knew where to look and how wide they are."""
    apart, width = 30, 1.0
    x, y = (v % apart - apart // 2 for v in (X, Y))
    spot = np.exp(-(x**2 + y**2) / 2 / width**2) / (2 * np.pi * width**2)
    photons = 10.0 * math.sqrt(mean * 4 * math.pi * width**2)
    rng = np.random.default_rng(22)
    found = outliers(rng.poisson(mean + photons * spot), limits=SHIPPED)
    centres = (np.maximum(abs(x), abs(y)) <= 1) & found
    shape = SIZE // apart, apart, SIZE // apart, apart
    assert centres.reshape(shape).any(axis=(1, 3)).mean() > share


def test_pairs_of_spots_do_not_hide_each_other():
    """Two spots of 200 photons 6 pixels apart: each lies in the other's ring."""
    rng = np.random.default_rng(23)
    spot = np.zeros((SIZE, SIZE))
    for dy, dx in ((0, 0), (3, 5)):
        away = ((Y - dy) % 40 - 20) ** 2 + ((X - dx) % 40 - 20) ** 2
        spot += 200 * np.exp(-away / 2) / (2 * np.pi)
    found = outliers(rng.poisson(2.5 + spot), limits=SHIPPED)
    assert found[spot > 2.5].mean() > 0.95
    assert (found & (spot < 0.025)).mean() < 0.003


@pytest.mark.parametrize("photons", [300, 3000])
def test_a_spot_takes_with_it_what_it_reaches_and_no_more(photons):
    """Left out is where a spot of known shape adds more than a tenth of the level."""
    level, width = 2.0, 1.1
    rng = np.random.default_rng(24)
    apart = 36
    x, y = (v % apart - apart / 2 - 0.2 for v in (X, Y))
    spot = np.exp(-(x**2 + y**2) / 2 / width**2) / (2 * np.pi * width**2) * photons
    found = outliers(rng.poisson(level + spot), limits=SHIPPED)
    reached = spot > 0.1 * level
    assert found[spot > 0.3 * level].mean() > 0.95
    assert found.mean() == pytest.approx(reached.mean(), rel=0.15)
    wide = outliers(rng.poisson(level + spot), limits=SHIPPED, leak=0.01)
    assert wide.mean() == pytest.approx((spot > 0.01 * level).mean(), rel=0.2)


def test_hot_and_dead_pixels_and_zingers_are_left_out():
    counts = np.random.default_rng(6).poisson(20.0, (SIZE, SIZE))
    hot = ([40, 41, 200, 300], [50, 51, 120, 359])
    counts[hot] = 90
    dead = ([100, 250], [100, 17])
    counts[dead] = 0
    found = outliers(counts)
    assert found[hot].all()
    assert found[dead].all()
    assert found.sum() < 60


def test_dispersion_is_the_gain_and_slopes_do_not_count():
    rng = np.random.default_rng(8)
    slope = 50 * (1 + 0.5 * X / SIZE)
    valid = np.ones((SIZE, SIZE), bool)
    for gain in (1.0, 7.0):
        counts = (gain * rng.poisson(slope)).astype(np.float32)
        ratio = np.median(poisson.dispersions(counts, valid, 32))
        assert ratio == pytest.approx(gain, rel=0.05)
    assert not len(poisson.dispersions(np.zeros((64, 64), np.float32), valid, 32))


def test_spots_and_halos_do_not_look_like_a_gain():
    """A photon counter with 4 % of its pixels in strong spots, on halos."""
    rng = np.random.default_rng(25)
    x, y = (v % 20 - 9.7 for v in (X, Y))
    away = x**2 + y**2
    expected = 5 + 5 * np.exp(-away / 18) + 400 * np.exp(-away / 2)
    counts = rng.poisson(expected).astype(np.float32)
    valid = np.ones(counts.shape, bool)
    np.testing.assert_array_equal(poisson.as_photons(counts, valid), counts)


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
    model = PoissonOutlier([[(10.0, 2.0)]])
    for unknown in (1, 9):
        raw = (10 + 2 * unknown * photons).astype(np.int32)
        keep = model.image_mask(image_of(raw), geometry)
        assert not keep[100, 100]
        assert keep.mean() > 0.9995


def test_threads_do_not_disturb_one_another():
    """Each of 24 images has its hot pixel at a place of its own."""
    rng = np.random.default_rng(11)
    images = []
    for i in range(24):
        counts = rng.poisson(2.0, (96, 96)).astype(np.int32)
        counts[20 + 2 * i, 30 + i] = 1000
        images.append(image_of(counts))
    geometry, model = geometry_of((96, 96)), PoissonOutlier([[(0.0, 1.0)]])
    alone = [model.image_mask(image, geometry) for image in images]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(
                pool.map(lambda image: model.image_mask(image, geometry), images * 20)
            )
    finally:
        sys.setswitchinterval(before)
    for i, (one, other) in enumerate(zip(alone * 20, together, strict=True)):
        assert not one[20 + 2 * (i % 24), 30 + i % 24]
        np.testing.assert_array_equal(one, other)


def test_spots_of_finely_sliced_images_are_found_together():
    """Five images of 0.1 degree with 0.3 counts a pixel; each spot rocks through them.

    Of the pixels that spots make more than twice as bright, and of what spots add,
    nearly all is found in the images together, less than half in each on its own.
    """
    rng = np.random.default_rng(31)
    level, width, photons, n = 0.3, 1.1, 60, 5
    apart = 36
    x, y = (v % apart - apart / 2 - 0.2 for v in (X, Y))
    spot = np.exp(-(x**2 + y**2) / 2 / width**2) / (2 * np.pi * width**2) * photons
    rocking = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
    images = [
        replace(
            make_image(i),
            width=0.1,
            counts=(rng.poisson(level + share * spot).astype(np.int32),),
            usable=(np.ones(spot.shape, bool),),
        )
        for i, share in enumerate(rocking)
    ]
    geometry = geometry_of(spot.shape)
    model = PoissonOutlier([[(0.0, 1.0)]], width=0.5)
    together = model.image_masks(images, geometry)
    alone = [model.image_mask(image, geometry) for image in images]
    bright = spot > n * level
    left = [
        sum((keep * spot * s).sum() for keep, s in zip(masks, rocking, strict=True))
        for masks in (together, alone)
    ]
    missed = [np.mean([keep[bright].mean() for keep in m]) for m in (together, alone)]
    assert missed[0] < 0.02 and missed[1] > 0.5
    assert left[0] < 0.05 * spot.sum() and left[1] > 0.3 * spot.sum()
    clean = spot < 0.05 * n * level
    assert np.mean([keep[clean].mean() for keep in together]) > 0.99


def test_a_pixel_that_one_image_may_not_use_is_left_out_of_all():
    rng = np.random.default_rng(32)
    images = [image_of(rng.poisson(2.0, (96, 96)).astype(np.int32)) for _ in range(3)]
    overload = np.ones((96, 96), bool)
    overload[40, 50] = False
    images[1] = replace(images[1], usable=(overload,))
    model = PoissonOutlier([[(0.0, 1.0)]], width=0.5)
    for keep in model.image_masks(images, geometry_of((96, 96))):
        assert not keep[40, 50]
        assert keep.mean() > 0.995
    empty = replace(images[0], counts=(), usable=())
    masks = model.image_masks([empty, images[0]], geometry_of((96, 96)))
    assert masks[0] is None and masks[1] is not None


def test_unusable_pixels_tell_nothing():
    rng = np.random.default_rng(10)
    counts = rng.poisson(2.0, (SIZE, SIZE)).astype(np.int32)
    usable = np.ones(counts.shape, bool)
    counts[50:60, 50:60], usable[50:60, 50:60] = 4000, False
    counts[80, 80] = -5
    model = PoissonOutlier([[(0.0, 1.0)]], spot_false_alarm=1e-6)
    keep = model.image_mask(image_of(counts, usable), geometry_of(counts.shape))
    assert keep[usable].mean() > 0.9999
    dark = image_of(np.zeros((64, 64), np.int32))
    assert model.image_mask(dark, geometry_of((64, 64))) is None
    assert model.image_mask(make_image(0, counts=False), make_geometry(0)) is None


def test_contract():
    check_plugin(poisson_outlier)
