"""Simulated images with known truth, reduced by the commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffuse_core.command_line import (
    diffuse,
    diffuse_integrate,
    diffuse_merge,
)
from diffuse_core.grid import keys_of
from diffuse_core.io.files import read_merged
from diffuse_core.simulate import run_simulation
from diffuse_core.simulate.truth import Truth
from diffuse_core.statistics import correlation, spherical_average
from diffuse_core.symmetry import UniqueVoxels

NO_STATISTICS = ("merging.half_sets=None", "merging.leave_one_out=False", "html=None")
SMOOTH = """
detector {
  name = pilatus_1m
  distance = 200
}
scan.n_images = 12
diffuse {
  spherical {
    b_factor = 2
    ring.height = 0
  }
  halo.amplitude = 0
  cloud {
    amplitude = 5e5
    length = 3 6
  }
}
bragg.enable = False
"""
# A smooth truth, so that nothing varies within a voxel; 0.1 counts a pixel and 0.8.
FLUXES = {"faint": 0.0175, "bright": 0.14}


@pytest.fixture(scope="module", params=FLUXES)
def smooth(request, tmp_path_factory):
    """Twelve images of a smooth truth, and their flux."""
    flux = FLUXES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    return run_simulation(f"{SMOOTH}\nbeam.flux = {flux}\n", folder), flux


MEANS = {
    "faint": [(12, 0.05, 0.2), (7, 0.3, 0.8), (3, 1.2, 3.0)],
    "bright": [(3, 8.0, 16.0), (1, 60.0, 150.0)],
}


@pytest.mark.slow
def test_no_bias_from_few_counts_to_many(smooth, request, tmp_path, monkeypatch):
    """Voxels of several sizes: 0.1, 0.5, 2, 10 and 100 counts an observation."""
    monkeypatch.chdir(tmp_path)
    files, flux = smooth
    truth = Truth.from_file(files.truth_path)
    for divisions, low, high in MEANS[request.node.callspec.params["smooth"]]:
        diffuse.run(
            [
                str(files.expt_path),
                "mask.models=resolution",
                "mask.resolution.d_max=15",
                f"mapping.hkl_grid.divisions={divisions},{divisions},{divisions}",
                "output.map=None",
                "parallel.nproc=1",
                *NO_STATISTICS,
            ]
        )
        merged = read_merged("diffuse_merged.nxs")
        mean = merged.counts.sum() / merged.observations.sum()
        assert low < mean < high
        # Two nodes an axis give the mean to 3e-6: the period of the truth is 7 indices.
        intensity = flux * truth.voxel_average(
            merged.grid.centres(merged.index),
            np.array(merged.grid.steps),
            order=2,
        )
        expected = merged.exposure * intensity
        assert abs(merged.counts.sum() / expected.sum() - 1) < 0.005
        relative = merged.intensity / intensity - 1
        assert abs(np.average(relative, weights=expected)) < 0.005
        pull = (merged.intensity - intensity) / merged.sigma
        enough = expected > 20
        print(
            divisions, mean, np.average(relative, weights=expected), pull[enough].std()
        )
        if mean > 2 or divisions == 3:
            assert enough.sum() > 1000
            assert 0.95 < pull[enough].std() < 1.05


CASES = {
    "scan": "stills.n = None",
    "stills": "stills.n = 60",
}


def anisotropic(s, values):
    return values - spherical_average(s, values)(s)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_map_is_as_good_as_the_counting_noise_allows(case, tmp_path, monkeypatch):
    """Against what Poisson counts drawn from the truth itself would give.

    60 images of a Pilatus 1M with halos, clouds, ring and Bragg spots. Voxels centred
    on lattice points are left out: the Bragg mask takes the middle of their halos, and
    the truth is averaged over whole voxels.
    """
    demo = Path(__file__).parents[1] / "examples" / "demo" / "simulate.phil"
    files = run_simulation(demo.read_text() + CASES[case], tmp_path / "simulated")
    monkeypatch.chdir(tmp_path)
    diffuse_integrate.run([str(files.expt_path), str(files.refl_path)])
    tables = {}
    for symmetry in ("laue", "P1"):
        diffuse_merge.run(
            [
                "diffuse_observations",
                f"merging.symmetry={symmetry}",
                "map=None",
                *NO_STATISTICS,
            ]
        )
        tables[symmetry] = read_merged("diffuse_merged.nxs")
    truth = Truth.from_file(files.truth_path)
    averages = averages_of(truth, tables["laue"])
    for merged in tables.values():
        check_map(merged, averages(merged.index))


def averages_of(truth, merged):
    """The truth averaged over voxels, the same for all that symmetry makes equal.

    Four nodes an axis give the mean of the halos to 1e-4.
    """
    unique = UniqueVoxels(truth.laue)
    values = truth.voxel_average(
        merged.grid.centres(merged.index), np.array(merged.grid.steps), order=4
    )
    keys = unique.keys(keys_of(merged.index))[0]
    order = np.argsort(keys)

    def averages(index):
        wanted = unique.keys(keys_of(index))[0]
        found = order[np.searchsorted(keys[order], wanted)]
        assert np.array_equal(keys[found], wanted)
        return values[found]

    return averages


def check_map(merged, truth):
    s = merged.grid.s_norm(merged.index, merged.unit_cell)
    use = (s > 1 / 20) & (merged.index % 3).any(axis=1)
    s, measured, exposure = s[use], merged.intensity[use], merged.exposure[use]
    true = truth[use]
    drawn = np.random.default_rng(3).poisson(true * exposure) / exposure
    found, allowed = (
        correlation(anisotropic(s, map_), anisotropic(s, true))
        for map_ in (measured, drawn)
    )
    print(
        f"CC of the anisotropic part: {found:.4f}, counting noise allows {allowed:.4f}"
    )
    assert found > 0.98 * allowed
    scale = merged.counts[use].sum() / (exposure * true).sum()
    assert abs(scale - 1) < 0.01
    weights = exposure / true
    rest = anisotropic(s, true)
    slope = np.sum(weights * rest * anisotropic(s, measured)) / np.sum(
        weights * rest**2
    )
    assert abs(slope - 1) < 0.02
    pull = (measured - true) / np.sqrt(true / exposure)
    assert 0.95 < pull.std() < 1.05
