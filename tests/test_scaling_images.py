"""From simulated images to the B, G, C and modules that they were made with."""

from __future__ import annotations

import json

import numpy as np
import pytest

from diffuse_core import config
from diffuse_core.collection import collect
from diffuse_core.command_line import diffuse_integrate, diffuse_scale
from diffuse_core.compat import load_experiments
from diffuse_core.merge_stage import open_reduction
from diffuse_core.registry import Registry
from diffuse_core.rows import DTYPES, Rows
from diffuse_core.scale_model import ScaleModel
from diffuse_core.simulate import recipe, run_simulation
from diffuse_core.simulate.planted import Planted

N_IMAGES, WIDTH = 60, 2.0
CRYSTAL = "crystal { space_group = P432\nunit_cell = 25 25 25 90 90 90 }\n"
"""A cubic crystal: few smooth functions have the symmetry of its mates."""

SETTINGS = """
scan { n_images = 60
       width = 2
       exposure = 20 }
detector.distance = 40
bragg.enable = False
diffuse.halo.width = 0.3 0.3 0.3
scale { amplitude = 0.3
        path.amplitude = 0.3
        offset { amplitude = 4e5
                 b_factor = 10
                 variation = 0.6 }
        modules { spread = 0.03
                  n = 2 2 } }
"""
SCALING = [
    "scaling.components=smooth_scale offset absorption detector",
    "smooth_scale.spacing=4",
    "smooth_scale.smoothness=0.02",
    "offset.intervals=8",
    "offset.spacing=8",
    "offset.smoothness=0.05",
    "absorption.smoothness=0.05",
    "detector.modules=2,2",
    "detector.smoothness=0.05",
]


class Truth:
    """What was planted, at places x, y (pixels) and images (numbers from 0)."""

    def __init__(self, folder) -> None:
        (experiment,) = load_experiments(
            str(folder / "simulated.expt"), check_format=False
        )
        self.panel, self.beam = experiment.detector[0], experiment.beam
        self.planted = Planted.from_file(folder / "truth.json")
        record = json.loads((folder / "truth.json").read_text())
        self.scales = np.array(record["simulation"]["scales"])

    def rays(self, x, y):
        """s1 (n, 3), 1/A."""
        place = [self.panel.get_pixel_lab_coord(p) for p in zip(x, y, strict=True)]
        length = np.linalg.norm(place, axis=1, keepdims=True)
        return place / (length * self.beam.get_wavelength())

    def crystal(self, image):
        """B; between images of a sine, its interpolation is good to 0.1 %."""
        return np.interp(image, np.arange(N_IMAGES), self.scales)

    def path(self, x, y, image):
        """G, with the factors of modules."""
        factor = self.planted.path_factor(self.rays(x, y), (image + 0.5) / N_IMAGES)
        return factor * self.planted.module_factor(0, x, y)

    def offset(self, s, image):
        return self.planted.offset_intensity(s, (image + 0.5) / N_IMAGES)


@pytest.fixture(scope="module")
def scaled(tmp_path_factory):
    """Truth, the model that was found, and all observations."""
    folder = tmp_path_factory.mktemp("scaled")
    text = recipe("rotation_small") + SETTINGS + CRYSTAL
    run_simulation(text, folder / "simulated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        diffuse_integrate.run(
            ["simulated/simulated.expt", "engine=serial", "mask.models=None"]
            + ["block.width=2", "mapping.hkl_grid.divisions=2,2,2"]
        )
        diffuse_scale.run(["diffuse_observations", "engine=serial", *SCALING])
        model = ScaleModel.read("diffuse_scales.json")
        found = collect(["diffuse_observations"])
        scope = config.master_scope(Registry.discover({}), ("merging",))
        reduction, _ = open_reduction(found, config.extract(scope, "").merging)
        with reduction:
            rows = reduction.sample(1.0, 0, 1)
    return Truth(folder / "simulated"), model, rows


def grid(truth):
    """Rows of source 0 on a grid of images and places, and the number of images."""
    at = np.linspace(10, 246, 13)
    image, x, y = (
        v.ravel() for v in np.meshgrid(np.arange(1, N_IMAGES, 2), at, at, indexing="ij")
    )
    s = np.linalg.norm(truth.rays(x, y) - truth.beam.get_s0(), axis=1)
    use = (s > 0.04) & (s < 0.55)
    image, x, y, s = (v[use] for v in (image, x, y, s))
    columns = {name: np.zeros(len(s), dtype) for name, dtype in DTYPES.items()}
    columns.update(phi=WIDTH * (image + 0.5), x=x, y=y, s=s)
    rows = Rows(starts=np.arange(len(s) + 1), **columns)
    return rows, image, len(np.unique(image))


def smooth_in(s, values):
    """The polynomial of degree 6 in s that is nearest to values."""
    basis = np.vander(s / s.max(), 7)
    return basis @ np.linalg.lstsq(basis, values, rcond=None)[0]


@pytest.mark.slow
def test_mates_agree_by_the_scales_that_are_found(scaled):
    """Relative to the truth, B G of every observation is that of its mates."""
    truth, model, rows = scaled
    image = rows.phi / WIDTH - 0.5
    scales = model.evaluate(rows)
    x, y = rows.x.astype(float), rows.y.astype(float)
    true = truth.crystal(image) * truth.path(x, y, image)
    error = np.log(scales.crystal * scales.path / true)
    first, length = rows.starts[:-1], np.diff(rows.starts)
    error -= np.repeat(np.add.reduceat(error, first) / length, length)
    error = error[np.repeat(length > 3, length)]
    print("B G rms between mates", error.std(), "of", np.log(true).std())
    assert len(error) > 100_000 and np.log(true).std() > 0.2
    assert error.std() < 0.01


@pytest.mark.slow
def test_each_of_the_scales_is_found(scaled):
    """Up to what mates share: a function of |s| in G and C, one of phi in G and B."""
    truth, model, _ = scaled
    rows, image, n = grid(truth)
    scales = model.evaluate(rows)
    ratio = np.log(scales.path / truth.path(rows.x, rows.y, image)).reshape(n, -1)
    s = rows.s.reshape(n, -1)[0]
    common = ratio.mean(axis=1)
    radial = smooth_in(s, ratio.mean(axis=0))
    radial -= radial.mean()
    g_error = ratio - common[:, None] - radial
    b = scales.crystal.reshape(n, -1)[:, 0] * np.exp(common)
    b_error = b / truth.scales[1::2]
    b_error = b_error / b_error.mean() - 1.0
    c = (scales.offset / scales.crystal).reshape(n, -1) * np.exp(radial)
    c_true = (truth.offset(rows.s, image) / truth.crystal(image)).reshape(n, -1)
    level = c_true.mean()
    c, c_true = c - c.mean(axis=0), c_true - c_true.mean(axis=0)
    slope = np.sum(c * c_true) / np.sum(c_true**2)
    c_error = (c - c_true) / level
    print("G rms", g_error.std(), "B rms", b_error.std(), "ends", b_error[[0, -1]])
    print("C rms", c_error.std(), "of C, slope", slope)
    assert g_error.std() < 0.012
    assert b_error.std() < 0.01 and np.abs(b_error[[0, -1]]).max() < 0.04
    assert c_error.std() < 0.03 and 0.95 < slope < 1.05
