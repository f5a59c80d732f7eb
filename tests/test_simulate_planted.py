"""Scales that a simulation plants: in its images, in its file, and found by scaling."""

from __future__ import annotations

import json

import numpy as np
import pytest

from diffuse_core.simulate import recipe
from diffuse_core.simulate.phil import read_recipe
from diffuse_core.simulate.planted import Planted
from diffuse_core.simulate.run import truth_document
from diffuse_core.simulate.simulation import Simulation

BASE = "bragg.enable = False\nbackground.counts_per_pixel = 0.5\n"


def simulation(text: str, base: str = "rotation_small") -> Simulation:
    return Simulation(read_recipe(recipe(base) + BASE + text)[0])


def planted_of(sim: Simulation, folder) -> Planted:
    """What the file of a simulation says."""
    path = folder / "truth.json"
    path.write_text(json.dumps(truth_document(sim)))
    return Planted.from_file(path)


@pytest.mark.parametrize("base", ["rotation_small", "multipanel_small"])
def test_images_hold_what_the_file_says(base, tmp_path):
    plain = simulation("", base)
    sim = simulation(
        "scale { amplitude = 0.2\npath.amplitude = 0.3\noffset.amplitude = 3e5\n"
        "modules.spread = 0.05\n}\n",
        base,
    )
    planted = planted_of(sim, tmp_path)
    image = 3
    t = (image + 0.5) / sim.n_images
    beam = sim.instrument.beam
    seen = []
    for panel, (before, after) in enumerate(
        zip(plain.expected_counts(image), sim.expected_counts(image), strict=True)
    ):
        n_slow, n_fast = before.shape
        response = sim.views[panel].response
        for i, j in [(3, 5), (n_slow // 2, n_fast - 7), (n_slow - 2, n_fast // 3)]:
            x, y = j + 0.5, i + 0.5
            s1 = np.array(sim.instrument.detector[panel].get_pixel_lab_coord((x, y)))
            s1 /= np.linalg.norm(s1) * beam.get_wavelength()
            s = np.linalg.norm(s1 - beam.get_s0())
            g = planted.path_factor(s1, t) * planted.module_factor(panel, x, y)
            c = planted.offset_intensity(s, t)
            intensity = (before[i, j] - 0.5) / response[i, j]
            signal = sim.scales[image] * intensity + c
            expected = 0.5 + g * response[i, j] * signal
            # parallax moves the ray by a fraction of a pixel, and G with it
            assert after[i, j] == pytest.approx(expected, rel=1e-3)
            seen.append((g, c))
    assert np.std([g for g, _ in seen]) > 0.03
    assert min(c for _, c in seen) > 0


def test_functions_stay_within_their_amplitudes_and_follow_their_seeds(tmp_path):
    text = (
        "scale {{ path {{ amplitude = 0.4\nseed = {0} }}\noffset {{ amplitude = 100\n"
    )
    text += "variation = 0.7\nb_factor = 0\nseed = {0} }} }}\n"
    rng = np.random.default_rng(1)
    rays = rng.normal(size=(2000, 3)) * [0.3, 0.3, 0.1] - [0, 0, 1]
    t, s = rng.uniform(0, 1, 2000), rng.uniform(0, 1, 2000)
    found = []
    for seed in (1, 1, 2):
        planted = planted_of(simulation(text.format(seed)), tmp_path)
        g, c = planted.path_factor(rays, t), planted.offset_intensity(s, t)
        assert np.abs(g - 1).max() <= 0.4 and g.std() > 0.05
        assert np.abs(c / 100 - 1).max() <= 0.7 and c.std() > 8
        found.append((g, c))
    for one, again, other in zip(*found, strict=True):
        assert np.array_equal(one, again)
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.9


def test_nothing_is_planted_by_default(tmp_path):
    planted = planted_of(simulation(""), tmp_path)
    assert planted.path_factor(np.ones((4, 3)), 0.3) == 1.0
    assert planted.offset_intensity(np.ones(4), 0.3) == 0.0
    assert np.all(planted.module_factor(0, np.arange(200), np.arange(200)) == 1)
