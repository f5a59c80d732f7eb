"""An empty run under a simulated crystal whose diffuse intensity is one number."""

from __future__ import annotations

import pickle
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from dxtbx.model.experiment_list import ExperimentListFactory
from iotbx.phil import parse

from diffuse_core import boundary, config
from diffuse_core.compat import load_experiments
from diffuse_core.errors import ConfigError, InputError
from diffuse_core.integrate import Integrator
from diffuse_core.merge import merge_observations
from diffuse_core.models import RunInputs
from diffuse_core.observations import Observations
from diffuse_core.panels import Models
from diffuse_core.plan import ImageSource, PanelCache, make_blocks
from diffuse_core.plugins.background import images
from diffuse_core.plugins.background.images import model as images_model
from diffuse_core.plugins.background.images.empty_run import EmptyRun
from diffuse_core.registry import Registry
from diffuse_core.simulate import run_simulation
from diffuse_core.testing import check_plugin

INTENSITY = 1e5
SETUP = """
detector { name = test_small
           distance = 60 }
crystal { unit_cell = 20 25 30 90 90 90
          space_group = P1
          orientation = 0.36 0.48 -0.8 -0.8 0.6 0 0.48 0.64 0.6 }
diffuse { halo.amplitude = 0
          cloud.amplitude = 0
          spherical { amplitude = 0
                      constant = %g } }
bragg.enable = False
background { counts_per_pixel = 0.4
             air { amplitude = 2e5
                   b_factor = 20 } }
nproc = 2
"""
CRYSTAL = "scan { n_images = 12\nwidth = 0.33\nexposure = 5 }\nnoise.seed = 11\n"
EMPTY = "scan { n_images = 5\nwidth = 3\nstart = 20\nexposure = 4 }\nnoise.seed = 12\n"


def simulate(folder, intensity, text):
    return run_simulation(SETUP % intensity + text, folder)


def load(path):
    experiments = load_experiments(str(path), check_format=True)
    return RunInputs(experiments, None, boundary.setups_of(experiments))


@pytest.fixture(scope="module")
def crystal(tmp_path_factory):
    result = simulate(tmp_path_factory.mktemp("crystal"), INTENSITY, CRYSTAL)
    return load(result.expt_path)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("empty"), 1e-9, EMPTY)


def make(run, text):
    registry = Registry.discover({})
    scope = config.master_scope(registry, (), config.INTEGRATE_KINDS)
    select = "background.models = images\nmask.models = None\n"
    params = scope.fetch(
        parse(
            select + f"background.images {{ {text} }}\nmapping.hkl_grid.divisions=2 2 2"
        )
    ).extract()
    kinds = [
        config.build_models(registry, params, run, k) for k in config.INTEGRATE_KINDS
    ]
    by_kind = dict(zip(config.INTEGRATE_KINDS, kinds, strict=True))
    return Models(
        by_kind["mask"],
        by_kind["correction"],
        by_kind["background"],
        by_kind["mapping"][0],
    )


def reduce(run, models, width=4.0, carried=True, min_pixels=50):
    """Voxels of the whole scan in blocks of some degrees."""
    integrator = Integrator(models, PanelCache(run, models))
    source = ImageSource(run, 1)
    tables = []
    for block in make_blocks(run.experiments, [0], width):
        columns, _ = integrator.integrate_block(
            0,
            source.exposures(block),
            source.images(block),
            source.earlier(block) if carried else (),
        )
        tables.append(Observations(columns, {}))
    return merge_observations(tables, models.mapper.grid, None, min_pixels)


def pulls(merged):
    return (merged.intensity - INTENSITY) / merged.sigma


class NoVariance(images_model.Images):
    """The model without its correlated term."""

    def panel_background(self, geometry, response):
        return super().panel_background(geometry, response)[0], 0.0


class Independent(images_model.Images):
    """The model with its variance taken as independent in each image."""

    def panel_background(self, geometry, response):
        return 0.0, 0.0

    def image_background(self, image, geometry, response):
        return super().panel_background(geometry, response)


def test_intensities_are_unbiased_and_errors_right(crystal, empty):
    """Other exposure, step and noise; the errors need the correlated term."""
    models = make(crystal, f"file = {empty.expt_path}")
    (model,) = models.backgrounds
    merged = reduce(crystal, models)
    mean = np.average(merged.intensity, weights=merged.exposure)
    assert len(merged) > 1500
    assert mean == pytest.approx(INTENSITY, rel=0.005)
    assert pulls(merged).mean() == pytest.approx(0.0, abs=0.1)
    assert 0.95 < pulls(merged).std() < 1.05
    for wrong in (NoVariance, Independent):
        other = Models((), models.corrections, [wrong(model.empty)], models.mapper)
        left_out = reduce(crystal, other)
        np.testing.assert_allclose(left_out.intensity, merged.intensity, rtol=1e-3)
        assert pulls(left_out).std() > 1.3


@pytest.fixture(scope="module")
def fine(tmp_path_factory):
    """Four degrees in steps of 0.1."""
    text = "scan { n_images = 40\nwidth = 0.1\nexposure = 5 }\nnoise.seed = 11\n"
    result = simulate(tmp_path_factory.mktemp("fine"), INTENSITY, text)
    return load(result.expt_path)


@pytest.mark.parametrize("extra", ["", "window = 6"])
def test_errors_are_right_in_every_voxel_whatever_the_blocks(fine, empty, extra):
    """All voxels of the map, in most of which the error of the empty run dominates."""
    models = make(fine, f"file = {empty.expt_path}\n{extra}")
    whole = reduce(fine, models, 4.0, min_pixels=1)
    for width in (1.0, 0.5):
        merged = reduce(fine, models, width, min_pixels=1)
        assert len(merged) == len(whole) > 2000
        np.testing.assert_allclose(
            merged.background_variance, whole.background_variance, rtol=0.03
        )
        mean = np.average(merged.intensity, weights=merged.exposure)
        assert mean == pytest.approx(INTENSITY, rel=0.005)
        assert pulls(merged).mean() == pytest.approx(0.0, abs=0.1)
        assert 0.95 < pulls(merged).std() < 1.05
        dominated = merged.background_variance > merged.counts
        assert dominated.mean() > 0.8
        assert 0.95 < pulls(merged)[dominated].std() < 1.05
    alone = reduce(fine, models, 1.0, carried=False, min_pixels=1)
    assert pulls(alone).std() > 1.3


def test_far_images_before_a_block_are_looked_at_in_steps(fine):
    """Each image before the block counts once, the nearest sixteen on their own."""
    source = ImageSource(fine, 2)
    blocks = make_blocks(fine.experiments, [0], 0.5, image_range=(3, 40))
    assert [block.first for block in blocks] == [2] * 8
    earlier = list(source.earlier(blocks[-1]))
    seconds = [e.image.exposure / 5.0 for e in earlier]
    assert seconds == [1.0] * 32 + [2.0, 1.0]
    assert [e.image.index for e in earlier] == [*range(36, 4, -1), 4, 2]
    assert sum(seconds) == blocks[-1].start - 2
    assert all(not e.image.counts for e in earlier)
    middle, parts = earlier[0].image, earlier[0].sub_images
    offsets = [(part.phi - middle.phi) / middle.width for part in parts]
    assert offsets == pytest.approx([-0.25, 0.25])
    assert list(source.earlier(blocks[0])) == []


def test_few_counts_still_have_a_variance(tmp_path, caplog):
    """Most pixels count nothing in the empty run; the variances add up all the same."""
    caplog.set_level("INFO", "dials.diffuse")
    text = "scan { n_images = 2\nexposure = 0.1 }\nnoise.seed = 5\n"
    result = simulate(tmp_path, 1e-9, text)
    empty = EmptyRun([str(result.expt_path)])
    (panel,) = empty.estimate(empty.frames)
    counts, usable = boundary.read_image(empty.experiments[0], 0)
    assert np.mean(panel.mean[usable[0]] == 0) > 0.5
    assert (panel.variance > 0).all()
    poisson = panel.mean[usable[0]].sum() / 0.2
    assert panel.variance[usable[0]].sum() == pytest.approx(poisson, rel=0.03)
    assert "not usable in the empty run" in caplog.text
    gaps = panel.mean[~usable[0]]
    assert gaps.mean() == pytest.approx(panel.mean[usable[0]].mean(), rel=0.5)


def test_images_template_and_pattern_are_the_same_run(empty):
    folder = empty.expt_path.parent
    files = [
        str(empty.expt_path),
        str(folder / "simulated_#####.cbf"),
        str(folder / "simulated_*.cbf"),
    ]
    runs = [EmptyRun([name]) for name in files]
    runs.append(EmptyRun(sorted(map(str, folder.glob("*.cbf")))))
    expected = runs[0].estimate(runs[0].frames)[0]
    for run in runs:
        assert [f.phi for f in run.frames] == pytest.approx(
            [21.5, 24.5, 27.5, 30.5, 33.5]
        )
        found = run.estimate(run.frames)[0]
        np.testing.assert_allclose(found.mean, expected.mean)
    again = pickle.loads(pickle.dumps(images_model.Images(runs[0])))
    np.testing.assert_allclose(
        again.empty.estimate(again.empty.frames)[0].mean, expected.mean
    )


def images_at(first, last):
    """A block of two images from angle to angle."""
    width = (last - first) / 2
    phis = first + width / 2, last - width / 2
    return [SimpleNamespace(phi=phi, width=width) for phi in phis]


def test_windows_serve_the_blocks_nearest_to_them(crystal, empty):
    run = EmptyRun([str(empty.expt_path)])
    model = images_model.Images(run, 2.0, window=6.0)
    assert [centre for centre, _ in model.windows] == pytest.approx([23.0, 29.0, 33.5])
    geometry = boundary.panel_geometry(crystal.experiments[0], 0, 0)
    response = np.ones(geometry.shape, np.float32)
    assert model.panel_background(geometry, response) == (0.0, 0.0)
    for first, last, frames in (
        (23.5, 24.5, (0, 1)),
        (26.4, 27, (2, 3)),
        (28, 36, (2, 3, 4)),
        (31.5, 33, (4,)),
        (379, 381, (0, 1)),
    ):
        expected = run.estimate([run.frames[i] for i in frames])[0]
        mean, variance = model.block_background(
            images_at(first, last), geometry, response
        )
        np.testing.assert_allclose(mean, 2 * expected.mean)
        np.testing.assert_allclose(variance, 4 * expected.variance)
    still = [SimpleNamespace(phi=30.0, width=0.0)]
    mean, _ = model.block_background(still, geometry, response)
    expected = run.estimate([run.frames[2], run.frames[3]])[0]
    np.testing.assert_allclose(mean, 2 * expected.mean)
    assert len(model._estimates) == 2
    run.frames[0] = replace(run.frames[0], phi=None)
    with pytest.raises(ConfigError, match="has images without rotation"):
        images_model.Images(run, 1.0, window=6.0)


def test_scale_is_fitted(crystal, tmp_path, caplog):
    """An empty run with 1.25 times the flux; a crystal that scatters at high angles."""
    caplog.set_level("INFO", "dials.diffuse")
    text = "scan { n_images = 4\nexposure = 10 }\nnoise.seed = 6\nbeam.flux = 1.25\n"
    air = "background.counts_per_pixel = 0\n"
    bright = simulate(tmp_path / "bright", 1e-9, text + air)
    bragg = "bragg { enable = True\namplitude = 1\nwidth = 2e-3 }\n"
    only = simulate(tmp_path / "only", 1e-9, CRYSTAL + air + bragg)
    run = load(only.expt_path)
    for extra in ("", "scale_range = 60 4"):
        models = make(run, f"file = {bright.expt_path}\nscale = Auto\n{extra}")
        assert models.backgrounds[0].scale == pytest.approx(0.8, rel=0.02)
    assert "the scale of the empty run is 0." in caplog.text
    models = make(crystal, f"file = {bright.expt_path}\nscale = Auto")
    assert models.backgrounds[0].scale > 1.0


def test_an_empty_run_of_another_setup_is_refused(crystal, empty, tmp_path):
    run = EmptyRun([str(empty.expt_path)])
    experiment = crystal.experiments[0]
    name = empty.expt_path.name

    def refused(change, message):
        detector, beam = deepcopy(experiment.detector), deepcopy(experiment.beam)
        change(detector, beam)
        with pytest.raises(ConfigError, match=message) as caught:
            run.check(detector, beam, 2.0, 1.0)
        assert name in str(caught.value)

    def move(detector, beam):
        panel = detector[0]
        fast, slow = panel.get_fast_axis(), panel.get_slow_axis()
        origin = np.array(panel.get_origin()) + [0, 0, 2.5]
        panel.set_frame(fast, slow, tuple(origin))

    def turn(detector, beam):
        detector[0].rotate_around_origin((0, 0, 1), 1.2, deg=True)

    run.check(experiment.detector, experiment.beam, 2.0, 1.0)
    refused(move, "2.50 mm away")
    refused(turn, "turned by 1.20 deg")
    refused(lambda d, b: d[0].set_image_size((256, 200)), r"\(256, 256\) pixels")
    refused(lambda d, b: d[0].set_pixel_size((0.1, 0.1)), "another size")
    refused(lambda d, b: b.set_wavelength(1.02), "1.0000 A, not 1.0200 A")
    refused(lambda d, b: d.add_panel(d[0]), "it has 1 panels, the crystal's run 2")


@pytest.mark.parametrize("name", ["missing.expt", "missing.cbf", "missing_##.cbf"])
def test_files_that_are_not_there_are_named(tmp_path, name):
    with pytest.raises(InputError, match=name):
        EmptyRun([str(tmp_path / name)])


def test_without_files_it_does_nothing_and_says_so(caplog):
    model = check_plugin(images)[0]
    assert model.empty is None
    assert "does nothing without background.images.file" in caplog.text


def test_photons_and_seconds_are_those_of_usable_pixels(empty, monkeypatch):
    """Gain, pedestal, and a pixel that is usable in three of five images."""
    run = EmptyRun([str(empty.expt_path)])
    panel = run.experiments[0].detector[0]
    panel.set_gain(2.0)
    panel.set_pedestal(10.0)

    def read(experiment, index):
        raw = np.full((256, 256), 10 + 2 * (30 + index))
        usable = np.ones(raw.shape, bool)
        if index > 2:
            raw[100, 50], usable[100, 50] = 10**6, False
        return (raw,), (usable,)

    monkeypatch.setattr("diffuse_core.boundary.read_image", read)
    (found,) = run.estimate(run.frames)
    assert found.mean[7, 9] == pytest.approx((30 + 31 + 32 + 33 + 34) / 20)
    assert found.variance[7, 9] == pytest.approx((30 + 31 + 32 + 33 + 34) / 20**2)
    assert found.mean[100, 50] == pytest.approx((30 + 31 + 32) / 12)
    assert found.variance[100, 50] == pytest.approx((30 + 31 + 32) / 12**2)
    (found,) = run.estimate(run.frames[3:])
    assert found.mean[100, 50] == pytest.approx((33 + 34) / 8, rel=0.05)


def test_import_with_a_template_keeps_the_exposure_time(empty, tmp_path):
    """dials.import with a template stores the time of the first image, then zeros."""
    template = empty.expt_path.parent / "simulated_#####.cbf"
    found = ExperimentListFactory.from_templates([str(template)])
    found.as_file(tmp_path / "imported.expt")
    run = EmptyRun([str(tmp_path / "imported.expt")])
    times = [boundary.exposure_time(run.experiments[0], i) for i in range(5)]
    assert times == [4.0] * 5
    assert not boundary.lacks_exposure(run.experiments)
    run.experiments[0].scan.set_exposure_times([0.0] * 5)
    assert boundary.exposure_time(run.experiments[0], 2) == 1.0
    assert boundary.lacks_exposure(run.experiments)
