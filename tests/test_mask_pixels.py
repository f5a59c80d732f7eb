"""Pixel statistics: faults of a detector, fixed shadows, the file that is kept."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from iotbx.phil import parse

from diffuse_core import config, faults, inputs
from diffuse_core.boundary import panel_geometry, setups_of
from diffuse_core.command_line import diffuse
from diffuse_core.compat import load_experiments
from diffuse_core.io.masks import read_mask
from diffuse_core.models import RunInputs
from diffuse_core.plugins.masking import pixel_statistics
from diffuse_core.plugins.masking.pixel_statistics import PixelStatistics, sample_of
from diffuse_core.registry import Registry
from diffuse_core.simulate import recipe, run_simulation
from diffuse_core.simulate.phil import read_recipe
from diffuse_core.simulate.simulation import Simulation
from diffuse_core.testing import check_plugin, make_geometry

LIMIT = -math.log(1e-6)
RECIPE = """
noise {
  hot_pixels = 12
  hot_rate = 12
  dead_pixels = 9
}
"""


@pytest.fixture(scope="module")
def scope():
    return config.master_scope(Registry.discover({}), (), ("mask",))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    text = recipe("rotation_small") + RECIPE
    text += "beam.flux = 5\ndiffuse.halo.amplitude = 1e5\n"
    files = run_simulation(text, tmp_path_factory.mktemp("pixels"))
    params, _ = read_recipe(text)
    return files, Simulation(params).faults[0]


def make(scope, files, text=""):
    experiments, table = inputs.load([str(files.expt_path)], [str(files.refl_path)])
    run = RunInputs(experiments, table, setups_of(experiments))
    params = scope.fetch(parse(f"mask.pixel_statistics {{ {text} }}")).extract()
    return PixelStatistics.from_params(params.mask.pixel_statistics, run), run


def test_hot_and_dead_pixels_are_left_out_and_few_others(
    simulated, scope, tmp_path, monkeypatch
):
    """12 counts on about 10, and 0: too little for one image, plain in twelve."""
    monkeypatch.chdir(tmp_path)
    files, truth = simulated
    model, run = make(scope, files)
    geometry = panel_geometry(run.experiments[0], 0, 0)
    keep = model.panel_mask(geometry)
    bad = np.zeros(keep.shape, bool)
    bad[tuple(truth.hot.T)] = bad[tuple(truth.dead.T)] = True
    assert not keep[bad].any()
    assert (~keep & ~bad & ~truth.gap).mean() < 0.003
    np.testing.assert_array_equal(read_mask("diffuse_pixels.pickle")[0], keep)


def test_the_file_is_used_again_while_nothing_changes(
    simulated, scope, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    files, _ = simulated
    calls = []
    whole = pixel_statistics.first_pass

    def counted(*arguments):
        calls.append(1)
        return whole(*arguments)

    monkeypatch.setattr(pixel_statistics, "first_pass", counted)
    first, run = make(scope, files)
    second, _ = make(scope, files)
    assert len(calls) == 1
    geometry = panel_geometry(run.experiments[0], 0, 0)
    np.testing.assert_array_equal(
        first.panel_mask(geometry), second.panel_mask(geometry)
    )
    make(scope, files, "noisy = 0.3")
    assert len(calls) == 2
    make(scope, files, "prefix = None")
    assert len(calls) == 3
    (tmp_path / "diffuse_pixels.pickle").write_bytes(b"nonsense")
    make(scope, files, "noisy = 0.3")
    assert len(calls) == 4


def test_it_is_a_mask_of_a_run_and_workers_take_the_file(
    simulated, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    files, _ = simulated
    diffuse.run(
        [
            str(files.expt_path),
            "mask.models=pixel_statistics",
            "nproc=2",
            "pictures=None",
        ]
    )
    log = (tmp_path / "dials.diffuse.log").read_text()
    assert log.count("12 images, of") == 1
    assert (tmp_path / "diffuse_pixels.pickle").is_file()


def test_few_images_leave_everything(scope, data_dir, caplog):
    """Peaks stay on their pixels in 15 images of 0.1 degree."""
    path = str(data_dir / "l_cysteine/dials/refined.expt")
    experiments = load_experiments(path, check_format=False)
    run = RunInputs(experiments, None, setups_of(experiments))
    params = scope.extract().mask.pixel_statistics
    params.fewest = 9
    with caplog.at_level(logging.INFO, "dials.diffuse"):
        model = PixelStatistics.from_params(params, run)
    assert "too few" in caplog.text
    assert model.panel_mask(make_geometry(0)) is None


class Files:
    def __init__(self, name, n):
        self.name, self.n = name, n

    def __len__(self):
        return self.n

    def paths(self):
        return [self.name]

    def indices(self):
        return list(range(self.n))


def images(n, width, name="a"):
    scan = SimpleNamespace(get_oscillation=lambda: (0.0, width))
    return SimpleNamespace(imageset=Files(name, n), scan=scan, goniometer=object())


@pytest.mark.parametrize(
    ("n", "width", "most", "expected"),
    [(1800, 0.1, 50, 50), (100, 0.1, 50, 10), (12, 1.0, 50, 12), (30, -0.5, 8, 8)],
)
def test_sample_is_even_and_never_closer_than_a_degree(n, width, most, expected):
    found = sample_of([images(n, width)], [0], most)
    assert len(found) == expected
    index = np.array([i for _, i in found])
    assert index[0] == 0
    assert np.diff(index).min() * abs(width) > 0.99
    assert np.ptp(np.diff(index)) <= max(1, round(1 / abs(width)))


def test_crystals_on_the_same_images_are_read_once():
    one, other = images(12, 1.0), images(5, 1.0, "b")
    assert len(sample_of([one, one, other], [0, 1, 2], 50)) == 17


def sums_of(expected, n=30, seed=1, peaks=False):
    rng = np.random.default_rng(seed)
    sums = faults.PixelSums(expected.shape, LIMIT)
    for _ in range(n):
        counts = rng.poisson(expected)
        if peaks:
            y, x = rng.integers(0, expected.shape[0], (2, 60))
            counts[y, x] += 5000
        sums.add(counts.astype(np.float32), np.ones(expected.shape, bool))
    return sums


def test_peaks_that_pass_are_no_faults():
    found = sums_of(np.full((200, 200), 1.0), peaks=True).faults(0.5)
    assert sum(kind.sum() for kind in found.values()) < 40


def test_noisy_pixels_stick_out_often():
    rng = np.random.default_rng(2)
    sums = faults.PixelSums((100, 100), LIMIT)
    for i in range(30):
        counts = rng.poisson(1.0, (100, 100))
        counts[50, 50] = 40 if i % 3 else 0
        sums.add(counts.astype(np.float32), np.ones((100, 100), bool))
    found = sums.faults(0.5)
    assert found["noisy"][50, 50] or found["hot"][50, 50]
    assert sum(kind.sum() for kind in found.values()) < 12


def fine_geometry(left):
    """96 x 160 pixels of 0.2 mm, perpendicular to the beam, 50 mm away."""
    j, i = np.mgrid[0:96, 0:160] + 0.5
    xyz = np.stack([left + 0.2 * i, 10 - 0.2 * j, np.full(i.shape, -50.0)], axis=-1)
    distance = np.linalg.norm(xyz, axis=2)
    u = xyz / distance[..., None]
    return replace(
        make_geometry(0),
        shape=(96, 160),
        s=(u + [0, 0, 1]).astype(np.float32),
        cos_incidence=(50 / distance).astype(np.float32),
        distance=distance.astype(np.float32),
    )


def test_shadows_are_dark_against_the_rest_of_their_shell():
    """An arm over both panels, polarized intensity, a fall-off with |s|."""
    panels = [fine_geometry(-40.0), fine_geometry(-22.0)]
    rng = np.random.default_rng(3)
    sums, dark = [], []
    for panel in panels:
        beam, out = np.array([0.0, 0.0, -1.0]), np.array([0.0, 1.0, 0.0])
        u = panel.direction
        f = panel.beam.polarization_fraction
        p = (1 - 2 * f) * (1 - (u @ out) ** 2) + f * (1 + (u @ beam) ** 2)
        level = 1e4 * np.exp(-3 * panel.s_norm) * p
        level = level * panel.cos_incidence / panel.distance**2
        shadow = np.zeros(panel.shape, bool)
        shadow[40:48] = True
        one = faults.PixelSums(panel.shape, LIMIT)
        one.counts += rng.poisson(20 * np.where(shadow, 0.1, 1) * level)
        one.images += 20
        sums.append(one)
        dark.append(shadow)
    for found, shadow in zip(faults.shadows(sums, panels, 0.5), dark, strict=True):
        assert found[shadow].all()
        grown = np.zeros(shadow.shape, bool)
        grown[32:56] = True
        assert not found[~grown].any()


def test_contract():
    check_plugin(pixel_statistics)
