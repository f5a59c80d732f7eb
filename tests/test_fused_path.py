"""The fast path against the general one: same counts to the bit, same sums to 1e-10."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diffuse_core import fused_path, general_path
from diffuse_core.block_rows import BlockRows
from diffuse_core.chunk import Chunk
from diffuse_core.grid import Grid, indices_of, keys_of
from diffuse_core.models import (
    BackgroundModel,
    CorrectionModel,
    LatticeRegion,
    Mapper,
    MaskModel,
)
from diffuse_core.observations import DTYPES
from diffuse_core.panels import Exposure, Models, Readout, prepare_panel
from diffuse_core.row_order import combined
from diffuse_core.stays import Stay
from diffuse_core.testing import make_geometry, make_image
from diffuse_core.usable import Trusted, Usable

GEOMETRY = make_geometry()
SHAPE = GEOMETRY.shape
N_IMAGES = 7
LIMITS = (0.0, 6.0)


class Divided(Mapper):
    def __init__(self, n=3.0):
        self.n = n
        self.grid = Grid("hkl", (1 / n,) * 3)

    @classmethod
    def from_params(cls, params, run):
        return cls()

    def affine(self, image):
        return self.n * image.affine()


class Points(MaskModel):
    """Regions of given size, and an area of each image if asked for."""

    def __init__(self, *, radius=0.002, absent=False, offsets=None, area=False):
        self.radius, self.absent, self.area = radius, absent, area
        self.offsets = np.zeros((1, 3)) if offsets is None else np.array(offsets)

    @classmethod
    def from_params(cls, params, run):
        return cls()

    def panel_mask(self, geometry):
        keep = np.ones(SHAPE, bool)
        keep[:, 20:22] = False
        keep[3] = False
        return keep

    def image_mask(self, image, geometry):
        if not self.area or image.index % 2:
            return None
        keep = np.ones(SHAPE, bool)
        keep[image.index : image.index + 4] = False
        return keep

    def lattice_regions(self, image):
        b = np.linalg.inv(image.to_hkl)
        one = LatticeRegion(
            affine=image.affine(),
            b=b,
            axis=np.linalg.inv(make_image(0).to_hkl) @ np.array([0.0, 0.0, 1.0]),
            half_width=0.004,
            radial=(self.radius, 0.001),
            tangential=(1.5 * self.radius, 0.004),
            floor=0.1,
            rotations=np.eye(3, dtype=int)[None]
            if self.absent
            else np.zeros((0, 3, 3)),
            translations=np.array([[6, 6, 0]]) if self.absent else np.zeros((0, 3)),
            offsets=self.offsets,
        )
        return [one, replace(one, affine=image.affine() + 0.3, floor=0.2)]


class Ramp(CorrectionModel):
    @classmethod
    def from_params(cls, params, run):
        return cls()

    def panel_response(self, geometry):
        return 1e-7 * (0.2 + 0.01 * np.arange(SHAPE[1])[None, :] * np.ones(SHAPE))

    def image_response(self, image, geometry):
        return 1.0 + 0.1 * image.index


class Glow(BackgroundModel):
    def __init__(self, variance):
        self.variance = variance

    @classmethod
    def from_params(cls, params, run):
        return cls(0.0)

    def panel_background(self, geometry, response):
        return 2.0 + np.arange(SHAPE[0])[:, None] * np.ones(SHAPE), self.variance


def chunk_of(models, dtype=np.int32, *, moving=False, plain=False):
    rng = np.random.default_rng(5)
    trusted = Trusted((rng.random(SHAPE) > 0.1,), (LIMITS,))
    exposures = []
    for i in range(N_IMAGES):
        raw = rng.choice([-2, -1, 0, 0, 1, 2, 5, 6, 7, 10**6], SHAPE).astype(dtype)
        if dtype is np.float64:
            raw += rng.choice([0.0, 0.25], SHAPE)
            raw[rng.random(SHAPE) < 0.02] = np.nan
        extra = [trusted.keep[0] & (rng.random(SHAPE) > 0.1)] if moving else None
        usable = Usable(trusted, (raw,), extra)
        if plain:
            usable = tuple(usable)
        image = replace(make_image(i), counts=(raw,), usable=usable)
        exposures.append(Exposure(image, (image,)))
    return Chunk.of(exposures, models)


def both(models, readout=(0.0, 1.0), **how):
    """Combined rows and stays of the fast path and of the general one."""
    panel = prepare_panel(GEOMETRY, Readout(*readout), models)
    chunk = chunk_of(models, **how)
    found = []
    for path in (fused_path, general_path):
        stay = Stay()
        if panel.variance.any():
            stay = Stay(np.full(SHAPE, -1, np.int64), np.zeros(SHAPE))
        parts = list(path.integrate_chunk(models, panel, chunk, stay))
        key = np.concatenate([k for k, _ in parts])
        sums = np.concatenate([v for _, v in parts])
        found.append((*combined(key, np.zeros(len(key), np.int16), sums), stay))
    return found


def assert_same(fast, general):
    assert np.array_equal(fast[0], general[0])
    assert np.array_equal(fast[2][:, :2], general[2][:, :2])
    assert fast[2] == pytest.approx(general[2], rel=1e-10, abs=1e-300)
    assert len(fast[0]) > 100


REGIONS = {
    "small": {},
    "absences": {"absent": True},
    "images have areas": {"area": True},
    "beyond half an index": {"radius": 0.008},
    "satellites": {"offsets": [[0, 0, 0], [0.2, 0, 0.1]]},
}


@pytest.mark.parametrize("regions", REGIONS.values(), ids=REGIONS.keys())
def test_masks(regions):
    models = Models([Points(**regions)], [Ramp()], [], Divided())
    fast, general = both(models)
    assert_same(fast, general)
    without, _ = both(Models([], [Ramp()], [], Divided()))
    kept = fast[2][:, 1].sum() / without[2][:, 1].sum()
    assert 0.02 < kept < 0.95


@pytest.mark.parametrize("how", [{"moving": True}, {"plain": True}, {"dtype": float}])
def test_usable_pixels(how):
    if how.get("dtype") is float:
        how = {"dtype": np.float64}
    fast, general = both(Models([Points()], [Ramp()], [], Divided()), **how)
    if "dtype" not in how:
        assert_same(fast, general)
        return
    assert np.array_equal(fast[0], general[0])
    assert np.array_equal(fast[2][:, 1], general[2][:, 1])
    assert fast[2] == pytest.approx(general[2], rel=1e-10)


def test_pedestal_and_gain():
    models = Models([Points()], [Ramp()], [], Divided())
    fast, general = both(models, readout=(1.5, 4.0))
    assert np.array_equal(fast[0], general[0])
    assert fast[2] == pytest.approx(general[2], rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("variance", [0.0, 0.3])
def test_backgrounds_and_their_shared_variance(variance):
    models = Models([Points(area=True)], [Ramp()], [Glow(variance)], Divided())
    fast, general = both(models)
    assert_same(fast, general)
    assert np.array_equal(fast[3].key, general[3].key)
    assert fast[3].time == pytest.approx(general[3].time)
    assert (fast[2][:, 4] > 0).all() == (variance > 0)


@pytest.mark.parametrize("n", [1.0, 8.0, 60.0])
def test_any_fineness_of_the_grid(n):
    """At 60 divisions every pixel of every image has a voxel of its own."""
    fast, general = both(Models([Points()], [], [], Divided(n)))
    assert_same(fast, general)
    if n == 60.0:
        assert fast[2][:, 1].mean() < 1.1


def test_voxels_are_those_of_exact_arithmetic():
    """In long double; only within 1e-6 voxels of a border may they differ."""
    models = Models([], [], [], Divided(24.0))
    panel = prepare_panel(GEOMETRY, Readout(0.0, 1.0), models)
    chunk = chunk_of(models, plain=True)
    parts = list(fused_path.integrate_chunk(models, panel, chunk, Stay()))
    fast = np.concatenate([np.repeat(k, v[:, 1].astype(int)) for k, v in parts])
    exact, unsure = [], 0
    for image in chunk.images:
        s = GEOMETRY.s[image.usable[0]].astype(np.longdouble)
        grid = 24 * (s @ image.to_hkl.T.astype(np.longdouble)) + 0.5
        exact.append(keys_of(np.floor(grid).astype(np.int64)))
        unsure += (np.abs(grid - np.rint(grid)).min(axis=1) < 1e-6).sum()
    exact = np.concatenate(exact)
    assert len(fast) == len(exact)
    wrong = len(fast) - np.isin(fast, exact).sum()
    assert wrong <= unsure
    assert np.abs(indices_of(exact)).max() > 100


def test_what_the_fast_path_leaves_to_the_general_one():
    class Array(Ramp):
        def image_response(self, image, geometry):
            return np.ones(SHAPE)

    class PerImage(Glow):
        def image_background(self, image, geometry, response):
            return 1.0, 0.0

    fine = Divided()
    fine.oversample = (2, 1, 1)
    for models in (
        Models([], [Array()], [], Divided()),
        Models([], [], [PerImage(0.0)], Divided()),
        Models([], [], [], fine),
        Models([], [], [], Divided(1e6)),
    ):
        panel = prepare_panel(GEOMETRY, Readout(0.0, 1.0), models)
        chunk = chunk_of(models)
        assert fused_path.integrate_chunk(models, panel, chunk, Stay()) is None


def rows_of(rng, n, keys=500):
    return rng.integers(0, keys, n) << 21, rng.integers(0, 9, (n, 9)).astype(float)


@pytest.mark.parametrize("limit", [10**6, 700, 3000])
def test_rows_of_a_block_are_the_same_in_memory_and_in_files(
    tmp_path, monkeypatch, limit
):
    """Few keys and many, three panels; sums of small whole numbers are exact."""
    monkeypatch.setattr("diffuse_core.block_rows.STRIDE", 16)
    rng = np.random.default_rng(2)
    store = BlockRows(tmp_path, limit)
    expected: dict[tuple[int, int], np.ndarray] = {}
    for i in range(40):
        key, sums = rows_of(rng, 250, keys=200 if i < 20 else 10**5)
        sums[:, 1] += 1
        store.add(key, i % 3, sums)
        for k, row in zip(key.tolist(), sums, strict=True):
            expected[k, i % 3] = expected.get((k, i % 3), 0.0) + row
    parts = list(store.parts())
    assert all(len(p["key"]) <= limit for p in parts)
    assert (len(parts) > 1) == (limit < 10**6)
    columns = {name: np.concatenate([p[name] for p in parts]) for name in DTYPES}
    wanted = sorted(expected)
    pairs = list(zip(columns["key"].tolist(), columns["panel"].tolist(), strict=True))
    assert pairs == wanted
    rows = np.array([expected[pair] for pair in wanted])
    assert np.array_equal(columns["counts"], rows[:, 0])
    assert np.array_equal(columns["pixels"], rows[:, 1])
    assert columns["phi"] == pytest.approx(rows[:, 5] / rows[:, 1])
    assert not list(tmp_path.iterdir())


def test_no_rows_give_empty_columns(tmp_path):
    (part,) = BlockRows(tmp_path).parts()
    assert {len(values) for values in part.values()} == {0}
    assert {name: v.dtype for name, v in part.items()} == {
        name: np.dtype(t) for name, t in DTYPES.items()
    }


@pytest.mark.parametrize("bits", [1, 12, 40, 62])
def test_order_is_stable_and_right(bits):
    rng = np.random.default_rng(bits)
    key = rng.integers(0, 2**bits, 5000)
    key[::7] = key[0]
    panel = rng.integers(0, 3, 5000).astype(np.int16)
    sums = np.ones((5000, 2))
    found, panels, total = combined(key, panel, sums)
    pairs, counts = np.unique(np.column_stack([key, panel]), axis=0, return_counts=True)
    assert np.array_equal(np.column_stack([found, panels]), pairs)
    assert np.array_equal(total[:, 0], counts)
