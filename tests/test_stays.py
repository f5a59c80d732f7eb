"""The error that images share, from block to block, against its definition."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from diffuse_core.grid import Grid, keys_of
from diffuse_core.integrate import Integrator
from diffuse_core.models import BackgroundModel, LatticeRegion, Mapper, MaskModel
from diffuse_core.panels import Exposure, Models, Readout, prepare_panel
from diffuse_core.testing import make_geometry, make_image

N_IMAGES = 24
GEOMETRY = make_geometry()
SHAPE = GEOMETRY.shape
OF_PANEL, OF_BLOCK = 0.3, 0.2
"""Variances, (counts/s)^2."""


class Hkl(Mapper):
    """One voxel per index."""

    def __init__(self, oversample=(1, 1, 1)):
        self.grid = Grid("hkl", (1.0, 1.0, 1.0))
        self.oversample = oversample

    @classmethod
    def from_params(cls, params, run):
        return cls()

    def affine(self, image):
        return image.affine()


class HklKeys(Hkl):
    """The same by the path for mappings that aren't affine; nothing where h < 0."""

    def affine(self, image):
        return None

    def voxels(self, image, geometry):
        index = voxels_of(image).reshape(-1, 3)
        keys = np.where(index[:, 0] < 0, -1, keys_of(index))
        return keys.reshape(geometry.shape)


class Shared(BackgroundModel):
    def __init__(self):
        self.blocks = []

    @classmethod
    def from_params(cls, params, run):
        return cls()

    def panel_background(self, geometry, response):
        return 1.0, OF_PANEL

    def block_background(self, images, geometry, response):
        self.blocks.append([image.index for image in images])
        return 0.5, OF_BLOCK


class Points(MaskModel):
    """Leaves out what is near whole indices, and a row of pixels."""

    @classmethod
    def from_params(cls, params, run):
        return cls()

    def panel_mask(self, geometry):
        keep = np.ones(SHAPE, bool)
        keep[5] = False
        return keep

    def lattice_regions(self, image):
        return [
            LatticeRegion(
                affine=image.affine(),
                b=np.eye(3),
                axis=np.array([1.0, 0.0, 0.0]),
                half_width=0.0,
                radial=(0.0, 0.0),
                tangential=(0.0, 0.0),
                floor=0.3,
                rotations=np.zeros((0, 3, 3), np.int64),
                translations=np.zeros((0, 3), np.int64),
            )
        ]


def voxels_of(image):
    hkl = GEOMETRY.s.astype(float) @ image.to_hkl.T
    return np.floor(hkl + 0.5).astype(np.int64)


def part_of(index, where, n):
    """A part of the rotation of an image, as `plan.ImageSource` makes it."""
    return make_image(index + (where + 0.5) / n - 0.5, counts=False)


def image_at(index):
    exposure = 0.2 + 0.05 * (index % 3)
    usable = (np.ones(SHAPE, bool), np.ones(SHAPE, bool))
    return replace(make_image(index), exposure=exposure, usable=usable)


def exposure_at(index, n):
    image = image_at(index)
    parts = tuple(part_of(index, i, n) for i in range(n))
    return Exposure(image, parts if n > 1 else (image,))


def integrate(models, start, stop, first=0):
    """Rows of the block start <= image < stop, after the images from `first` on."""
    prepared = [prepare_panel(GEOMETRY, Readout(0.0, 1.0), models)]
    n = models.mapper.oversample[2]
    columns, _ = Integrator(models, lambda setup: prepared).integrate_block(
        0,
        (exposure_at(i, n) for i in range(start, stop)),
        [make_image(i, counts=False) for i in range(start, stop)],
        (exposure_at(i, n) for i in range(start - 1, first - 1, -1)),
    )
    return columns


def variances(tables):
    """Voxel key -> sum of the background variances of its rows."""
    found = {}
    for columns in tables:
        rows = zip(columns["key"], columns["background_variance"], strict=True)
        for key, variance in rows:
            found[int(key)] = found.get(int(key), 0.0) + variance
    return found


def by_definition(first, negative_h=True):
    """Variances of v T^2, T the seconds of consecutive kept images in a voxel."""
    stays = {}
    for index in range(first, N_IMAGES):
        image = image_at(index)
        voxel = voxels_of(image)
        hkl = GEOMETRY.s.astype(float) @ image.to_hkl.T
        keep = Points().panel_mask(None)
        keep &= np.linalg.norm(hkl - np.rint(hkl), axis=-1) >= 0.3
        if not negative_h:
            keep &= voxel[..., 0] >= 0
        keys = keys_of(voxel.reshape(-1, 3)).reshape(SHAPE)
        for y, x in np.argwhere(keep):
            runs = stays.setdefault((y, x), [])
            if not runs or runs[-1][0] != keys[y, x]:
                runs.append([keys[y, x], 0.0])
            runs[-1][1] += image.exposure
    found = {}
    for runs in stays.values():
        for key, seconds in runs:
            found[key] = found.get(key, 0.0) + (OF_PANEL + OF_BLOCK) * seconds**2
    return found


@pytest.mark.parametrize("mapper", [Hkl, HklKeys])
@pytest.mark.parametrize("first", [0, 3])
def test_rows_of_all_blocks_add_up_to_the_definition(mapper, first):
    models = Models([Points()], [], [Shared()], mapper())
    edges = [first, 8, 9, 20, N_IMAGES]
    tables = [integrate(models, a, b, first) for a, b in pairwise(edges)]
    expected = by_definition(first, mapper is Hkl)
    found = variances(tables)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-5)
    alone = [integrate(models, a, b, a) for a, b in pairwise(edges)]
    assert sum(variances(alone).values()) < 0.6 * sum(expected.values())
    for carried, apart in zip(tables, alone, strict=True):
        for name in ("key", "counts", "background", "exposure"):
            np.testing.assert_array_equal(carried[name], apart[name])


@pytest.mark.parametrize("oversample", [(1, 1, 3), (2, 3, 1), (2, 2, 2)])
def test_blocks_of_sub_pixels_add_up_to_one_block(oversample):
    models = Models([Points()], [], [Shared()], Hkl(oversample))
    whole = variances([integrate(models, 0, N_IMAGES)])
    edges = [0, 5, 16, N_IMAGES]
    parts = variances([integrate(models, a, b) for a, b in pairwise(edges)])
    assert parts == pytest.approx(whole, rel=1e-9)


def test_a_block_has_one_estimate_for_its_images():
    model = Shared()
    models = Models([], [], [model], Hkl())
    columns = integrate(models, 4, 9)
    assert model.blocks == [[4, 5, 6, 7, 8]]
    seconds = sum(image_at(i).exposure for i in range(4, 9))
    total = 1.5 * seconds * GEOMETRY.s_norm.size
    assert columns["background"].sum() == pytest.approx(total, rel=1e-6)


def test_images_before_are_not_asked_for_without_a_variance():
    def earlier():
        raise AssertionError("earlier images were asked for")
        yield

    models = Models([], [], [], Hkl())
    prepared = [prepare_panel(GEOMETRY, Readout(0.0, 1.0), models)]
    integrator = Integrator(models, lambda setup: prepared)
    columns, _ = integrator.integrate_block(0, [exposure_at(3, 1)], None, earlier())
    assert not columns["background_variance"].any()
