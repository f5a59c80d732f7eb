"""The quick scan for outliers against plain sums and logarithms over whole images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from diffuse_core import quick_tests, scan, spots, squares, windows

SHAPE = 83, 141
LIMITS = -math.log(1e-6), -math.log(1e-4)
SIDE = np.array([1, 4, 6, 4, 1]) / 16


def image(mean, seed):
    """Noise with a slope, spots, hot pixels, gaps, and pixels that don't count."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    expected = mean * (0.5 + x / SHAPE[1])
    for _ in range(25):
        b, a = rng.uniform(0, SHAPE[0]), rng.uniform(0, SHAPE[1])
        away = (y - b) ** 2 + (x - a) ** 2
        expected = expected + 10 ** rng.uniform(0, 3) * np.exp(-away / 2) / 6
    counts = rng.poisson(expected)
    counts[rng.integers(0, SHAPE[0], 9), rng.integers(0, SHAPE[1], 9)] += 60
    valid = rng.random(SHAPE) > 0.01
    valid[40:47], valid[:, 100:103] = False, False
    counts[~valid] = rng.integers(0, 10**6, (~valid).sum())
    return counts.astype(np.float32), valid


def entropy(n, mean):
    mean = np.maximum(mean, 1e-6)
    logs = np.where(n > 0, np.log(np.maximum(n, 1e-300) / mean), 0.0)
    return n * logs - n + mean


def box(values, reach):
    kernel = np.ones((2 * reach + 1, 2 * reach + 1))
    return ndimage.convolve(values, kernel, mode="constant")


def arms(y, x):
    """Slices of the four arms of the ring, as a pinwheel."""
    rows = [(-6, -2, -6, 3), (-6, 3, 3, 7), (3, 7, -2, 7), (-2, 7, -6, -2)]
    for a, b, c, d in rows:
        yield (
            slice(max(y + a, 0), max(y + b, 0)),
            slice(max(x + c, 0), max(x + d, 0)),
        )


def is_outlier(counts, smooth, y, x, limit):
    """The exact test of one pixel, from its definition."""
    parts = []
    for rows, columns in arms(y, x):
        use = smooth[rows, columns]
        j, i = np.mgrid[: SHAPE[0], : SHAPE[1]]
        away = (j - y) ** 2 + (i - x) ** 2
        halo = np.exp(-0.5 * away[rows, columns] / 2.6**2)
        if use.any():
            parts.append((counts[rows, columns][use].astype(float), halo[use]))
    parts.sort(key=lambda part: part[0].mean())
    if len(parts) >= 3:
        parts = parts[:-1]
    if len(parts) == 3:
        parts = parts[1:]
    n = np.concatenate([part[0] for part in parts])
    h = np.concatenate([part[1] for part in parts])
    k, mean = len(n), n.mean()
    if k < 12:
        return False
    slope = ((n - mean) * h).sum() / ((h - h.mean()) ** 2).sum()
    top = mean + max(slope, 0.0) * (1 - h.mean())
    here = float(counts[y, x])
    if mean <= here <= top:
        return False
    level = mean if here < mean else top
    common = (here + k * level) / (1 + k)
    g = float(entropy(here, common) + k * entropy(level, common))
    chance = mean + math.sqrt((mean + 2 * mean**2) / k)
    uneven = max(n.var() - chance, 0.0)
    return g > limit * max(1.0, 1.0 + uneven / max(level, 1e-9))


def single_outliers(counts, valid, limit):
    """As `spots.single_outliers`, looking at all pixels in every pass."""
    found, smooth = np.zeros(SHAPE, bool), valid.copy()
    for _ in range(4):
        pixels = box(smooth.astype(float), 6)
        mean = box(np.where(smooth, counts, 0.0).astype(float), 6)
        mean = mean / np.maximum(pixels, 1)
        ask = valid & ~found & (pixels >= 12) & ((counts - mean) ** 2 >= 9 * mean)
        ask &= 2 * entropy(counts.astype(float), mean) >= limit
        before = found.sum()
        for y, x in np.argwhere(ask):
            if is_outlier(counts, smooth, y, x, limit):
                found[y, x] = True
                smooth[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = False
        if found.sum() == before:
            break
    return found, smooth


@pytest.mark.parametrize("mean", [0.05, 0.5, 3.0, 40.0])
def test_single_outliers_are_those_of_a_plain_search(mean):
    counts, valid = image(mean, 31)
    found, smooth = spots.single_outliers(counts, valid, LIMITS[0])
    expected = single_outliers(counts, valid, LIMITS[0])
    assert expected[0].sum() > 20
    np.testing.assert_array_equal(found, expected[0])
    np.testing.assert_array_equal(smooth, expected[1])


@pytest.mark.parametrize("mean", [0.02, 0.5, 3.0, 40.0])
@pytest.mark.parametrize("part", [False, True])
def test_no_place_that_sticks_out_is_passed_over(mean, part):
    """All places whose G against the mean of the ring is above the limit, no other, in
    the whole image or in what cells mark."""
    counts, use = image(mean, 32)
    smooth = use & (np.random.default_rng(33).random(SHAPE) > 0.02)
    cells = windows.all_cells(SHAPE)
    if part:
        cells &= np.random.default_rng(34).random(cells.shape) < 0.3
    parts = windows.windows_of(cells, SHAPE)
    memory = squares.squares()
    limits = 0.0, LIMITS[1]
    _, places = scan.scan(memory, counts, use, smooth, False, parts, limits)

    used = np.where(use, counts, 0.0).astype(float)
    kernel = np.outer(SIDE, SIDE)
    weight = ndimage.convolve(use.astype(float), kernel, mode="constant")
    n = ndimage.convolve(used, kernel, mode="constant") / np.maximum(weight, 1e-9)
    m = weight / (kernel**2).sum()
    quiet, alone = np.where(smooth, counts, 0.0).astype(float), smooth.astype(float)
    k = box(alone, 6) - box(alone, 2)
    level = (box(quiet, 6) - box(quiet, 2)) / np.maximum(k, 1)
    mean_around = box(quiet, 6) / np.maximum(box(alone, 6), 1)
    common = (m * n + k * level) / np.maximum(m + k, 1e-9)
    g = m * entropy(n, common) + k * entropy(level, common)
    needed = LIMITS[1] - np.log(np.clip(level, 1e-6, 1.0))
    here = use & (weight > 0.499) & (k > 11.5)
    here &= (n - mean_around) ** 2 * m >= 1.5 * LIMITS[1] * mean_around
    asked = np.kron(cells, np.ones((8, 8), bool))[: SHAPE[0], : SHAPE[1]]
    sure = np.flatnonzero(here & asked & (g > needed))
    maybe = np.flatnonzero(here & asked & (g > needed * (1 - 2e-4)))
    keys = places[:, scan.KEY].astype(int)
    assert len(np.unique(keys)) == len(keys)
    assert len(sure) > 20
    assert np.isin(sure, keys).all()
    assert np.isin(keys, maybe).all()
    row = np.argsort(keys)
    np.testing.assert_allclose(places[row, scan.MEAN], n.flat[keys[row]], rtol=1e-5)
    np.testing.assert_allclose(places[row, scan.PIXELS], m.flat[keys[row]], rtol=1e-5)


def test_quick_bound_is_never_below_the_entropy():
    n, mean = np.meshgrid(np.linspace(0, 60, 601), np.geomspace(1e-3, 60, 300))
    d = n - mean
    bound = d**2 * (3 * mean + d) / (2 * mean * (3 * mean + 2 * d))
    assert (bound >= entropy(n, mean) * (1 - 1e-9) - 1e-12).all()
    near = abs(d) < 0.3 * mean
    np.testing.assert_allclose(bound[near], entropy(n, mean)[near], rtol=0.02)
    assert quick_tests.least(9.0, 2.0) == 9.0


def test_windows_hold_what_is_marked_once():
    shape = 203, 700
    cells = windows.all_cells(shape)
    cells[:] = False
    windows.mark(cells, -3, 20, 30, 50)
    windows.mark(cells, 190, 230, 640, 720)
    windows.mark(cells, 90, 95, 0, 700)
    seen = np.zeros(shape, int)
    for y0, y1, x0, x1 in windows.windows_of(cells, shape):
        assert y1 - y0 <= squares.HEIGHT
        assert x1 - x0 <= squares.WIDTH
        seen[y0:y1, x0:x1] += 1
    marked = np.kron(cells, np.ones((8, 8), int))[: shape[0], : shape[1]]
    np.testing.assert_array_equal(seen, marked)
    assert seen[0:20, 30:50].all()
    assert seen[190:, 640:].all()


def test_memory_that_was_used_gives_the_same():
    limits = *LIMITS, 0.1
    memory = spots.memory_of(SHAPE)
    for mean, seed in ((3.0, 35), (0.5, 36), (40.0, 37)):
        counts, valid = image(mean, seed)
        fresh = spots.find_spots(counts, valid, *limits)
        assert fresh.sum() > 100
        again = spots.find_in(memory, counts, valid, *limits)
        np.testing.assert_array_equal(again, fresh)
