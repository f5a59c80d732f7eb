"""The kernel's sums against a plain NumPy computation of the same definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diffuse_core.errors import PluginError
from diffuse_core.geometry import BeamGeometry, PanelGeometry
from diffuse_core.grid import Grid, indices_of, keys_of
from diffuse_core.integrate import Integrator
from diffuse_core.models import (
    BackgroundModel,
    CorrectionModel,
    Image,
    LatticeRegion,
    Mapper,
    MaskModel,
)
from diffuse_core.panels import Exposure, Models, Readout, prepare_panel
from diffuse_core.region_kernels import keep_pixels
from diffuse_core.regions import pack_regions

BEAM = BeamGeometry(1.0, (0.0, 0.0, -1.0), (0.0, 1.0, 0.0), 0.99)
SHAPE = (70, 90)
CELL = np.diag([1 / 40.0, 1 / 50.0, 1 / 60.0])


def panel(index=0):
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]] + 0.5
    xyz = np.stack([(x - 20) * 0.4, (y - 10) * 0.4, np.full(SHAPE, -60.0)], axis=-1)
    distance = np.linalg.norm(xyz, axis=2)
    unit = xyz / distance[..., None]
    return PanelGeometry(
        setup=0,
        index=index,
        shape=SHAPE,
        pixel_size=(0.4, 0.4),
        beam=BEAM,
        sensor_mu=0.0,
        sensor_thickness=0.0,
        s=(unit - np.array(BEAM.s0)).astype(np.float32),
        cos_incidence=np.abs(unit[..., 2]).astype(np.float32),
        distance=distance.astype(np.float32),
    )


def turned(phi):
    c, s = np.cos(np.radians(phi)), np.sin(np.radians(phi))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def image(index, counts, phi=None, width=1.0, to_hkl=None):
    phi = 3.0 + index if phi is None else phi
    return Image(
        experiment=0,
        index=index,
        phi=phi,
        width=width,
        exposure=0.5,
        to_hkl=np.linalg.inv(turned(phi) @ CELL) if to_hkl is None else to_hkl,
        s_shift=np.zeros(3),
        axis=np.array([1.0, 0.0, 0.0]),
        counts=(counts,),
    )


class Thirds(Mapper):
    def __init__(self, oversample=(1, 1, 1)):
        self.grid = Grid("hkl", (1 / 3,) * 3)
        self.oversample = oversample

    @classmethod
    def from_params(cls, params, run):
        return cls()

    def affine(self, image):
        return 3.0 * image.affine()


class ThirdsOneByOne(Thirds):
    """The same voxels by the path for mappings that aren't affine."""

    def affine(self, image):
        return None

    def voxels(self, image, geometry):
        hkl = geometry.s.astype(float) @ image.to_hkl.T
        index = np.floor(3.0 * hkl + 0.5).astype(np.int64)
        return keys_of(index.reshape(-1, 3)).reshape(geometry.shape)


class Ramp(CorrectionModel):
    @classmethod
    def from_params(cls, params, run):
        return cls()

    def panel_response(self, geometry):
        return 0.2 + 0.01 * np.arange(geometry.shape[1])[None, :] * np.ones(SHAPE)

    def image_response(self, image, geometry):
        return 1.0 + 0.1 * image.index if image.index % 2 else self._array(image)

    def _array(self, image):
        return np.full(SHAPE, 1.0 + 0.1 * image.index)


class Glow(BackgroundModel):
    @classmethod
    def from_params(cls, params, run):
        return cls()

    def panel_background(self, geometry, response):
        return 2.0 * response, 0.3

    def image_background(self, image, geometry, response):
        return 0.1 * image.index, 0.01


class Stripe(MaskModel):
    @classmethod
    def from_params(cls, params, run):
        return cls()

    def panel_mask(self, geometry):
        keep = np.ones(SHAPE, bool)
        keep[:, 30:33] = False
        return keep

    def image_mask(self, image, geometry):
        keep = np.ones(SHAPE, bool)
        keep[image.index] = False
        return keep


def exposures(rng, n=5, dtype=np.int32, n_rotation=1):
    for i in range(n):
        counts = rng.poisson(3.0, SHAPE).astype(dtype)
        usable = rng.random(SHAPE) > 0.05
        one = image(i, counts)
        one = replace(one, usable=(usable,))
        parts = (one,)
        if n_rotation > 1:
            parts = tuple(
                image(i, counts, one.phi + (j + 0.5) / n_rotation - 0.5)
                for j in range(n_rotation)
            )
        yield Exposure(one, parts)


def seen(one, usable):
    one = replace(one, usable=(usable,))
    return Exposure(one, (one,))


def integrate(models, images):
    prepared = [prepare_panel(panel(), Readout(0.0, 1.0), models)]
    return Integrator(models, lambda setup: prepared).integrate_block(0, images)


def by_hand(images, mask, response):
    """Dict of voxel index -> sums, from the definitions, in plain NumPy."""
    geometry = panel()
    sums = {}
    together = {}
    for exposure in images:
        one = exposure.image
        keep = exposure.image.usable[0] & mask
        keep[one.index] = False
        hkl = geometry.s.astype(float) @ one.to_hkl.T
        index = np.floor(3 * hkl + 0.5).astype(int)
        e = response * (1 + 0.1 * one.index) * one.exposure
        b = (2.0 * response + 0.1 * one.index) * one.exposure
        v = 0.01 * one.exposure**2
        for y, x in zip(*np.nonzero(keep), strict=True):
            voxel = tuple(index[y, x])
            row = sums.setdefault(voxel, np.zeros(9))
            stays = together.setdefault((y, x), [])
            if not stays or stays[-1][0] != voxel:
                stays.append([voxel, 0.0])
            stays[-1][1] += one.exposure
            row += [
                one.counts[0][y, x],
                1,
                e[y, x],
                b[y, x],
                v,
                one.phi,
                x + 0.5,
                y + 0.5,
                geometry.s_norm[y, x],
            ]
    for stays in together.values():
        for voxel, seconds in stays:
            sums[voxel][4] += 0.3 * seconds**2
    return sums


@pytest.mark.parametrize("mapper", [Thirds, ThirdsOneByOne])
@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_sums_are_those_of_the_definition(mapper, dtype):
    models = Models([Stripe()], [Ramp()], [Glow()], mapper())
    columns, tally = integrate(
        models, exposures(np.random.default_rng(1), 11, dtype=dtype)
    )
    images = list(exposures(np.random.default_rng(1), 11))
    mask = Stripe().panel_mask(panel())
    expected = by_hand(images, mask, Ramp().panel_response(panel()))
    assert np.all(np.diff(columns["key"]) > 0)
    index = [tuple(i) for i in indices_of(columns["key"])]
    assert set(index) == set(expected)
    rows = np.array([expected[i] for i in index])
    assert np.array_equal(columns["counts"], rows[:, 0])
    assert np.array_equal(columns["pixels"], rows[:, 1])
    for i, name in ((2, "exposure"), (3, "background"), (4, "background_variance")):
        assert columns[name] == pytest.approx(rows[:, i], rel=2e-6)
    for i, name in ((5, "phi"), (6, "x"), (7, "y"), (8, "s")):
        assert columns[name] == pytest.approx(rows[:, i] / rows[:, 1], rel=2e-6)
    assert tally["images"] == 11
    assert tally["used"] == rows[:, 1].sum()
    assert tally["pixels"] == 11 * SHAPE[0] * SHAPE[1]


@pytest.mark.parametrize("mapper", [Thirds, ThirdsOneByOne])
def test_images_are_taken_in_chunks_without_trace(monkeypatch, mapper):
    models = Models([Stripe()], [Ramp()], [Glow()], mapper())
    whole, _ = integrate(models, exposures(np.random.default_rng(1), 7))
    monkeypatch.setattr("diffuse_core.chunk.IMAGES", 3)
    parts, tally = integrate(models, exposures(np.random.default_rng(1), 7))
    assert tally["images"] == 7
    for name, values in whole.items():
        assert parts[name] == pytest.approx(values, rel=1e-6)


class Groups(MaskModel):
    """Notes which images it sees together; leaves out a column for each before."""

    def __init__(self, together):
        self.together = together
        self.seen = []

    @classmethod
    def from_params(cls, params, run):
        return cls(0.0)

    def image_masks(self, images, geometry):
        self.seen.append([image.index for image in images])
        masks = np.ones((len(images), *SHAPE), bool)
        for i, mask in enumerate(masks):
            mask[:, :i] = False
        return list(masks)


@pytest.mark.parametrize("mapper", [Thirds, ThirdsOneByOne])
def test_masks_see_images_together_whatever_the_chunks(monkeypatch, mapper):
    """Groups of 3 and of 2 (a third more than 2 images) of 11: chunks hold whole ones.

    Only a group that no chunk holds is divided.
    """
    width = image(0, np.zeros(SHAPE)).width
    found = []
    for most in (12, 7):
        masks = [Groups(3 * width), Groups(2.3 * width)]
        monkeypatch.setattr("diffuse_core.chunk.IMAGES", most)
        models = Models(masks, [], [], mapper())
        images = list(exposures(np.random.default_rng(1), 11))
        columns, tally = integrate(models, images)
        assert masks[0].seen == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]]
        assert masks[1].seen == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10]]
        found.append((columns["counts"].sum(), columns["pixels"].sum()))
        kept = [
            image.usable[0][:, max(i % 3, i % 2) :].sum()
            for i, image in enumerate(exposure.image for exposure in images)
        ]
        assert tally["used"] == sum(kept)
    assert found[0] == found[1]
    masks = [Groups(5 * width)]
    monkeypatch.setattr("diffuse_core.chunk.IMAGES", 4)
    integrate(Models(masks, [], [], mapper()), exposures(np.random.default_rng(1), 6))
    assert masks[0].seen == [[0, 1, 2, 3], [4, 5]]


def test_too_few_masks_are_refused():
    class Half(Groups):
        def image_masks(self, images, geometry):
            return [None] * (len(images) // 2)

    models = Models([Half(1e9)], [], [], Thirds())
    with pytest.raises(PluginError, match="Half.image_masks returned 2 masks for 4"):
        integrate(models, exposures(np.random.default_rng(1), 4))


def test_photons_are_raw_values_less_pedestal_over_gain():
    rng = np.random.default_rng(4)
    models = Models([], [], [], Thirds())
    raw = [
        replace(e, image=replace(e.image, counts=(e.image.counts[0] * 25 + 7,)))
        for e in exposures(rng, 2)
    ]
    prepared = [prepare_panel(panel(), Readout(7.0, 25.0), models)]
    columns, _ = Integrator(models, lambda setup: prepared).integrate_block(0, raw)
    plain, _ = integrate(models, exposures(np.random.default_rng(4), 2))
    assert columns["counts"] == pytest.approx(plain["counts"], rel=1e-12)


def test_oversampling_conserves_counts_and_exposure_and_fills_more_voxels():
    plain, _ = integrate(
        Models([], [Ramp()], [], Thirds()), exposures(np.random.default_rng(2))
    )
    fine, _ = integrate(
        Models([], [Ramp()], [], Thirds((3, 2, 4))),
        exposures(np.random.default_rng(2), n_rotation=4),
    )
    for name in ("counts", "pixels", "exposure"):
        assert fine[name].sum() == pytest.approx(plain[name].sum(), rel=1e-6)
    assert len(fine["key"]) > len(plain["key"])


def test_oversampled_pixel_is_divided_where_the_voxels_meet():
    """One pixel; its sub-pixel centres are sent to voxels by hand."""
    geometry = panel()
    y, x = 40, 60
    counts = np.zeros(SHAPE, np.int32)
    counts[y, x] = 12
    usable = np.zeros(SHAPE, bool)
    usable[y, x] = True
    one = image(0, counts)
    n = 4
    columns, _ = integrate(Models([], [], [], Thirds((n, n, 1))), [seen(one, usable)])
    fine = (np.arange(n) + 0.5) / n - 0.5
    slope_x = (geometry.s[y, x + 1] - geometry.s[y, x - 1]) / 2
    slope_y = (geometry.s[y + 1, x] - geometry.s[y - 1, x]) / 2
    share = {}
    for u in fine:
        for w in fine:
            hkl = one.to_hkl @ (geometry.s[y, x] + u * slope_x + w * slope_y)
            index = tuple(np.floor(3 * hkl + 0.5).astype(int))
            share[index] = share.get(index, 0) + 12 / n**2
    found = dict(
        zip(map(tuple, indices_of(columns["key"])), columns["counts"], strict=True)
    )
    assert found == pytest.approx(share)


def region(floor=0.0, radial=(0.003, 0.0), tangential=(0.002, 0.01), half=0.5):
    return LatticeRegion(
        affine=image(0, None).affine(),
        b=CELL,
        axis=np.array([1.0, 0.0, 0.0]),
        half_width=np.radians(half),
        radial=radial,
        tangential=tangential,
        floor=floor,
        rotations=np.zeros((0, 3, 3), int),
        translations=np.zeros((0, 3), int),
    )


def kept(regions):
    geometry = panel()
    out = np.empty((1, *SHAPE), bool)
    all_true = np.ones(SHAPE, bool)
    keep_pixels(all_true, all_true[None], geometry.s, pack_regions([regions]), out)
    return out[0]


@pytest.mark.parametrize("half", [0.0, 0.5, 3.0])
def test_bragg_region_is_the_ellipsoid_around_the_swept_path(half):
    """Against a dense walk along the path with all lattice points around it."""
    one = region(half=half)
    geometry = panel()
    steps = np.linspace(-one.half_width, one.half_width, 201)
    hkl = geometry.s.reshape(-1, 3) @ one.affine[:, :3].T
    c = hkl @ one.b.T
    length = np.linalg.norm(c, axis=1, keepdims=True)
    v = np.cross(one.axis, c)
    near = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    radial = one.radial[0] ** 2 + (one.radial[1] * length[:, 0]) ** 2
    tangential = one.tangential[0] ** 2 + (one.tangential[1] * length[:, 0]) ** 2
    masked = np.zeros(len(c), bool)
    closest = np.full(len(c), np.inf)
    for t in steps:
        on_path = c + t * v
        centre = np.rint(on_path @ np.linalg.inv(one.b).T)
        for offset in near:
            d = on_path - (centre + offset) @ one.b.T
            along = np.sum(d * c, axis=1) / length[:, 0]
            across2 = np.sum(d * d, axis=1) - along**2
            masked |= along**2 / radial + across2 / tangential < 1
            closest = np.minimum(closest, along**2 / radial + across2 / tangential)
    keep = kept([one])
    differs = keep.ravel() == masked
    # the kernel takes the nearest point of the path, not the one deepest inside an
    # ellipsoid: pixels right at the surface may differ
    assert 0.01 < masked.mean() < 0.9
    assert differs.mean() < 0.01
    assert np.abs(closest[differs] - 1).max(initial=0) < 0.35


def test_floor_is_a_radius_in_fractional_index():
    one = region(floor=0.2, radial=(0.0, 0.0), tangential=(0.0, 0.0), half=0.0)
    geometry = panel()
    hkl = geometry.s.astype(float) @ one.affine[:, :3].T
    d = hkl - np.rint(hkl)
    assert np.array_equal(kept([one]), np.sum(d * d, axis=-1) >= 0.04)


def test_absent_points_are_not_masked():
    """A screw axis along l: 00l only for even l; a centring: h + k even."""
    centred = replace(
        region(floor=0.3, half=0.0),
        rotations=np.eye(3, dtype=int)[None],
        translations=np.array([[6, 6, 0]]),
    )
    geometry = panel()
    hkl = np.rint(geometry.s.astype(float) @ centred.affine[:, :3].T).astype(int)
    without = kept([centred])
    everything = kept([region(floor=0.3, half=0.0)])
    odd = (hkl[..., 0] + hkl[..., 1]) % 2 != 0
    assert without[odd].all()
    assert not everything[odd].all()
    assert np.array_equal(without[~odd], everything[~odd])
    screw = replace(
        region(floor=0.3, half=0.0),
        rotations=np.diag([-1, -1, 1])[None],
        translations=np.array([[0, 0, 6]]),
    )
    axis = (hkl[..., 0] == 0) & (hkl[..., 1] == 0) & (hkl[..., 2] % 2 != 0)
    assert np.array_equal(kept([screw])[~axis], everything[~axis])
    assert kept([screw])[axis].all()


def test_models_that_break_the_contract_are_named():
    class Zero(Ramp):
        def panel_response(self, geometry):
            return 0.0

    class Wrong(Stripe):
        def panel_mask(self, geometry):
            return np.ones((3, 3), bool)

    with pytest.raises(PluginError, match="Zero.*not finite and above 0 on panel 0"):
        integrate(Models([], [Zero()], [], Thirds()), [])
    with pytest.raises(PluginError, match=r"Wrong.*shape \(3, 3\)"):
        integrate(Models([Wrong()], [], [], Thirds()), [])


def test_zero_response_under_a_mask_is_allowed():
    class Shadow(Ramp):
        def panel_response(self, geometry):
            return np.where(Stripe().panel_mask(geometry), 0.5, 0.0)

    columns, _ = integrate(
        Models([Stripe()], [Shadow()], [], Thirds()),
        exposures(np.random.default_rng(3), 2),
    )
    assert (columns["exposure"] > 0).all()


def test_block_without_usable_pixel_gives_an_empty_table():
    one = image(0, np.zeros(SHAPE, np.int32))
    nothing = np.zeros(SHAPE, bool)
    columns, tally = integrate(Models([], [], [], Thirds()), [seen(one, nothing)])
    assert len(columns["key"]) == 0
    assert tally["used"] == 0


def test_large_voxel_ranges_are_divided_into_smaller_tiles():
    """Rotation by 60 degrees in one block: the box of a tile must not explode."""
    images = [
        seen(image(i, np.ones(SHAPE, np.int32), phi=60.0 * i), np.ones(SHAPE, bool))
        for i in range(2)
    ]

    class Fine(Thirds):
        def affine(self, image):
            return 40.0 * image.affine()

    columns, _ = integrate(Models([], [], [], Fine()), images)
    assert columns["counts"].sum() == 2 * SHAPE[0] * SHAPE[1]
