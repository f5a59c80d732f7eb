"""What the masks take away of contaminated voxels, and of clean ones."""

from __future__ import annotations

import copy
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from dxtbx.model import Experiment

from diffuse_core import config, inputs, show
from diffuse_core.boundary import panel_geometry, setups_of
from diffuse_core.grid import keys_of
from diffuse_core.models import RunInputs
from diffuse_core.plan import Block, ImageSource
from diffuse_core.registry import Registry
from diffuse_core.simulate import recipe, run
from diffuse_core.simulate.phil import read_recipe
from diffuse_core.simulate.simulation import Simulation

N_IMAGES = 24
RECIPE = f"""
detector.name = pilatus_300k
scan.n_images = {N_IMAGES}
scale.amplitude = 0
noise {{
  hot_pixels = 0
  dead_pixels = 0
}}
"""
HOT = 100
DIVISIONS = 3


class Contaminated(Simulation):
    """Spots of a second lattice, hot pixels and the shadow of an arm as well."""

    def __init__(self, params):
        super().__init__(params)
        text = RECIPE + "crystal.seed = 77\nbragg.amplitude = 5\n"
        self.second = Simulation(read_recipe(recipe("protein") + text)[0])
        rng = np.random.default_rng(5)
        shape = self.views[0].response.shape
        self.hot = np.zeros(shape)
        at = rng.integers(0, shape[0], HOT), rng.integers(0, shape[1], HOT)
        self.hot[at] = 10 ** rng.uniform(0, 4, HOT)
        y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
        self.shadow = (abs(y - 0.4 * x - 150) < 20) & (x < 250)

    @cache  # noqa: B019
    def parts(self, image):
        """Expected counts: all, and what of it is the contaminants'."""
        both = [self._of(one, image) for one in (self, self.second)]
        spots = sum(whole - smooth for whole, smooth in both)
        smooth = both[0][1]
        seen = np.where(self.shadow, 0.02, 1.0)
        hot = np.where(self.shadow, 0.0, self.hot)
        return seen * (smooth + spots) + hot, seen * spots + hot

    @staticmethod
    def _of(simulation, image):
        without = copy.copy(simulation)
        without.spots = [one.select(one.z < -1e9) for one in simulation.spots]
        whole = Simulation.expected_counts(simulation, image)[0]
        smooth = Simulation.expected_counts(without, image)[0]
        return whole, smooth

    def expected_counts(self, image):
        return [self.parts(image)[0]]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contaminated")
    made = []

    def make(params):
        made.append(Contaminated(params))
        return made[-1]

    patch = pytest.MonkeyPatch()
    patch.setattr(run, "Simulation", make)
    files = run.simulate(recipe("protein") + RECIPE, folder)
    patch.undo()
    patch.chdir(folder)
    yield SimpleNamespace(files=files, simulation=made[0])
    patch.undo()


def models_of(run_inputs):
    """The masks that ship as default, as they are set."""
    registry = Registry.discover({})
    params = config.master_scope(registry, (), ("mask",)).extract()
    models = config.build_models(registry, params, run_inputs, "mask")
    return [(type(model).__name__, model) for model in models]


def with_second_lattice(experiments, crystal):
    one = experiments[0]
    experiments.append(
        Experiment(
            beam=one.beam,
            detector=one.detector,
            goniometer=one.goniometer,
            scan=one.scan,
            crystal=crystal,
            profile=one.profile,
            imageset=one.imageset,
            identifier="second",
        )
    )


def measure(simulated, indexed):
    """Shares of contaminated and of clean voxels that the masks take away.

    A voxel is contaminated if contaminants make more than 10 % of its expected counts
    in all images, or if more than 10 % of its pixels lie in the shadow. It is taken
    away if the pixels that are left aren't contaminated, or none is left; a clean one
    is taken away if none is left.
    """
    files, simulation = simulated.files, simulated.simulation
    experiments, table = inputs.load([str(files.expt_path)], [str(files.refl_path)])
    if indexed:
        with_second_lattice(experiments, simulation.second.crystals[0])
    run_inputs = RunInputs(experiments, table, setups_of(experiments))
    models = models_of(run_inputs)
    geometry = panel_geometry(experiments[0], 0, 0)
    keys, rows = [], []
    n_images = len(experiments[0].imageset)
    source = ImageSource(run_inputs, 1).exposures(Block(0, 0, 0, n_images))
    images = [exposure.image for exposure in source]
    for image in images:
        usable = image.usable[0]
        keep = show.masks(models, [geometry], image, images)[-1].values[0]
        total, bad = simulation.parts(image.index)
        hkl = geometry.s.astype(float) @ image.to_hkl.T
        index = np.floor(DIVISIONS * hkl + 0.5).astype(int)
        keys.append(keys_of(index[usable]))
        columns = [np.ones(total.shape), total, bad, simulation.shadow.astype(float)]
        columns += [keep * column for column in columns]
        rows.append(np.array([column[usable] for column in columns]))
    _, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    sums = [np.bincount(inverse, column) for column in np.concatenate(rows, axis=1)]
    before, after = (is_contaminated(*part) for part in (sums[:4], sums[4:]))
    left = sums[4] > 0
    return SimpleNamespace(
        contaminated=before.sum() / len(before),
        removed=1 - (after & left)[before].mean(),
        lost=1 - left[~before].mean(),
        leak_before=sums[2].sum() / sums[1].sum(),
        leak=sums[6].sum() / sums[5].sum(),
    )


def is_contaminated(pixels, total, contaminant, dark):
    return (contaminant > 0.1 * total) | (dark > 0.1 * pixels)


@pytest.mark.slow
def test_contaminated_voxels_are_removed_and_clean_ones_are_not(simulated):
    """Default masks, two indexed lattices: 99 % and 1 %."""
    found = measure(simulated, indexed=True)
    print(found)
    assert found.contaminated > 0.05
    assert found.leak_before > 0.1
    assert found.removed >= 0.99
    assert found.lost <= 0.01
    assert found.leak < 0.002


@pytest.mark.slow
def test_an_unknown_lattice_is_removed_too(simulated):
    """The second lattice is not indexed: its spots are found in the images alone."""
    found = measure(simulated, indexed=False)
    print(found)
    assert found.removed >= 0.99
    assert found.lost <= 0.01
    assert found.leak < 0.002
