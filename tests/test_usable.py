"""Pixels that may be used: always those of dxtbx' own mask, pixel for pixel."""

from __future__ import annotations

import os

import numpy as np
import pytest

from dials.array_family import flex  # noqa: F401  (registers the flex types)
from dxtbx import flumpy
from dxtbx.format.image import ImageBool
from dxtbx.imageset import ImageSet, ImageSetData
from dxtbx.model import Detector, Experiment, Panel
from dxtbx.model.experiment_list import ExperimentListFactory

from diffuse_core import boundary, plan
from diffuse_core.compat import load_experiments, trusted_limits
from diffuse_core.models import RunInputs
from diffuse_core.simulate import run_simulation
from diffuse_core.usable import MOST, Trusted, Usable, counts_of

SHAPES = ((30, 40), (20, 50))
RANGE = (0.0, 1000.5)

REAL = (
    "snase/dials/refined_10.expt",
    "l_cysteine/dials/refined.expt",
    "thaumatin_grid/dials/refined.expt",
    "thermolysin_cspad/dials/refined.expt",
    "lcls_rayonix_kapton/dials/refined.expt",
    "i23_p12m_thaumatin/dials/indexed.expt",
)


def as_dxtbx(experiment, index):
    return [flumpy.to_numpy(m) for m in experiment.imageset.get_mask(index)]


def assert_same_masks(experiment, indices):
    read = boundary.ImageReader(experiment)
    for index in indices:
        counts, usable = read(index)
        expected = as_dxtbx(experiment, index)
        assert len(usable) == len(counts) == len(expected)
        for panel, mask in enumerate(expected):
            assert np.array_equal(usable[panel], mask), (index, panel)


class InMemory:
    """A reader of dxtbx that hands out arrays."""

    def __init__(self, images):
        self.images = images

    def read(self, index):
        return self.images[index]

    def paths(self):
        return [f"image_{i}" for i in range(len(self.images))]

    def master_path(self):
        return ""

    def identifiers(self):
        return self.paths()

    def __len__(self):
        return len(self.images)


def detector():
    found = Detector()
    for number, shape in enumerate(SHAPES):
        panel = Panel()
        panel.set_frame((1, 0, 0), (0, 1, 0), (0, 50.0 * number, -100))
        panel.set_pixel_size((0.1, 0.1))
        panel.set_image_size(shape[::-1])
        panel.set_trusted_range(RANGE)
        found.add_panel(panel)
    found[0].add_mask(3, 5, 9, 12)
    found[1].add_mask(0, 0, 4, 4)
    found[1].add_mask(40, 2, 60, 7)
    return found


def values(rng, shape):
    """Raw values at, next to and far beyond both limits."""
    return rng.choice([-2, -1, 0, 1, 5, 999, 1000, 1001, 1002, 10**6], shape)


@pytest.fixture(params=["int", "double"])
def in_memory(request):
    """Two images of two panels with a mask of the .expt and untrusted rectangles."""
    rng = np.random.default_rng(3)
    images = []
    for _ in range(2):
        panels = []
        for shape in SHAPES:
            raw = values(rng, shape)
            if request.param == "int":
                panels.append(flumpy.from_numpy(raw.astype(np.int32)))
            else:
                raw = raw + rng.choice([0.0, 0.5, 1e-9, -1e-9], shape)
                panels.append(flumpy.from_numpy(raw))
        images.append(tuple(panels))
    data = ImageSetData(InMemory(images), None)
    for index in range(2):
        data.set_detector(detector(), index)
    images = ImageSet(data)
    lookup = tuple(flumpy.from_numpy(rng.random(shape) > 0.1) for shape in SHAPES)
    images.external_lookup.mask.data = ImageBool(lookup)
    return Experiment(imageset=images, detector=images.get_detector(0))


def test_areas_lookup_mask_and_limits_together(in_memory):
    assert_same_masks(in_memory, range(2))


def test_range_of_each_image_is_its_own(in_memory):
    other = detector()
    for panel in other:
        panel.set_trusted_range((0.0, 10.0))
    in_memory.imageset.set_detector(other, 1)
    assert_same_masks(in_memory, range(2))
    read = boundary.ImageReader(in_memory)
    assert read(0)[1][0].sum() > read(1)[1][0].sum()


@pytest.mark.parametrize("limits", [(0, 3), (-1, 65535), (0.5, 2.5), (-1e-300, 1e10)])
def test_limits_are_those_of_the_dxtbx_at_hand(limits):
    panel = Panel()
    panel.set_trusted_range(limits)
    low, high = trusted_limits(panel)
    near = [np.nextafter(v, w) for v in limits for w in (-np.inf, v, np.inf)]
    data = np.array([*limits, *near, 1.0, -1.0, 0.0, np.nan])[None]
    panel.set_image_size(data.shape[::-1])
    mask = flumpy.to_numpy(panel.get_trusted_range_mask(flumpy.from_numpy(data)))
    assert np.array_equal((data >= low) & (data <= high), mask)


@pytest.mark.parametrize(
    "recipe",
    [
        "detector.name = pilatus_300k",
        "detector.name = pilatus_300k\noutput.format = nxs",
    ],
)
def test_simulated_files(tmp_path, recipe):
    files = run_simulation(f"{recipe}\nscan.n_images = 2", tmp_path)
    (experiment,) = load_experiments(str(files.expt_path), check_format=True)
    assert_same_masks(experiment, range(2))
    mask = boundary.read_image(experiment, 0)[1][0]
    assert 0.5 < mask.mean() < 1


@pytest.mark.parametrize("name", REAL)
def test_real_images(data_dir, name):
    experiments = load_experiments(str(data_dir / name), check_format=True)
    for number in {0, len(experiments) - 1}:
        n = len(experiments[number].imageset)
        assert_same_masks(experiments[number], {0, n - 1})


def test_shadows_that_move_are_those_of_the_format(data_dir):
    """The I23 image has dynamic shadows: dxtbx' own mask."""
    path = data_dir / "i23_p12m_thaumatin/dials/indexed.expt"
    (experiment,) = load_experiments(str(path), check_format=True)
    if not experiment.imageset.has_dynamic_mask():
        (file,) = set(experiment.imageset.paths())
        found = ExperimentListFactory.from_filenames(
            [os.fspath(file)], format_kwargs={"dynamic_shadowing": True}
        )
        experiment = found[0]
    assert experiment.imageset.has_dynamic_mask()
    _, usable = boundary.read_image(experiment, 0)
    assert usable.moving is not None
    assert_same_masks(experiment, [0])


def test_nothing_is_worked_out_unless_asked_for(in_memory, monkeypatch):
    """Reading the images of a block asks dxtbx for no mask at all."""
    images = in_memory.imageset
    monkeypatch.setattr(
        type(images), "get_mask", lambda *_: pytest.fail("a mask was made")
    )
    counts, usable = boundary.read_image(in_memory, 0)
    assert len(usable) == 2
    assert usable.trusted.keep[0].shape == counts[0].shape


def test_reader_is_kept_while_the_images_are_the_same(tmp_path, monkeypatch):
    files = run_simulation("detector.name = pilatus_300k\nscan.n_images = 4", tmp_path)
    experiments = load_experiments(str(files.expt_path), check_format=True)
    source = plan.ImageSource(RunInputs(experiments, None, (0,)), 1)
    blocks = plan.make_blocks(experiments, [0], 0.2)
    seen = [e.image.usable for block in blocks for e in source.exposures(block)]
    assert len(seen) == 4
    assert len({id(usable.trusted.keep[0]) for usable in seen}) == 1


@pytest.mark.parametrize("n", [1, 5, MOST, 2 * MOST + 3])
@pytest.mark.parametrize("readout", [(0.0, 1.0), (7.0, 2.5)])
@pytest.mark.parametrize("shared", [True, False])
def test_counts_of_images_add_up_where_all_may_be_used(n, readout, shared):
    """Against plain sums; longer than a strip, and no multiple of one."""
    rng = np.random.default_rng(n)
    shape = (67, 131)
    raw = [rng.integers(-3, 30, shape).astype(np.int32) for _ in range(n)]
    low, high = -2.0, 28.5
    keep = rng.random(shape) < 0.9
    trusted = Trusted((keep,), ((low, high),))
    usable = [Usable(trusted, (one,)) for one in raw]
    if not shared:
        usable = [(one[0],) for one in usable]
        usable[0] = ()
    counts, valid = np.full(shape, 99.0, np.float32), np.ones(shape, bool)
    negative = counts_of(raw, usable, 0, readout, counts, valid)
    good = [(one >= low) & (one <= high) & keep for one in raw]
    if not shared:
        good[0] = np.ones(shape, bool)
    good = np.logical_and.reduce(good)
    total = (np.sum(raw, axis=0) - n * readout[0]) / readout[1]
    np.testing.assert_array_equal(valid, good)
    np.testing.assert_allclose(counts, np.where(good, total, 0.0), rtol=1e-5, atol=1e-4)
    assert negative == (counts < 0).any()
