"""From simulated images to the B, G, C and modules that they were made with."""

from __future__ import annotations

import numpy as np
import pytest

from dials.algorithms.scaling.model.model import KBScalingModel
from dials.array_family import flex
from dials.util import Sorry
from dxtbx.model import ExperimentList

from diffuse_core import config
from diffuse_core.collection import collect
from diffuse_core.command_line import diffuse_integrate, diffuse_scale
from diffuse_core.merge_stage import open_reduction
from diffuse_core.registry import Registry
from diffuse_core.scale_model import ScaleModel
from diffuse_core.simulate import recipe, run_simulation
from diffuse_core.testing.planted_scales import (
    INTEGRATE,
    RECIPE,
    SCALE,
    PlantedScales,
    compare,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands run."""
    return tmp_path_factory.mktemp("scaled")


@pytest.fixture(scope="module")
def scaled(folder):
    """Truth, the model that was found, and all observations."""
    run_simulation(recipe(RECIPE), folder / "simulated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        diffuse_integrate.run(list(INTEGRATE))
        diffuse_scale.run(list(SCALE))
        model = ScaleModel.read("diffuse_scales.json")
        found = collect(["diffuse_observations"])
        scope = config.master_scope(Registry.discover({}), ("merging",))
        reduction, _ = open_reduction(found, config.extract(scope, "").merging)
        with reduction:
            rows = reduction.sample(1.0, 0, 1)
    return PlantedScales(folder / "simulated"), model, rows


@pytest.mark.slow
def test_mates_agree_by_the_scales_that_are_found(scaled):
    """Relative to the truth, B G of every observation is that of its mates."""
    truth, model, rows = scaled
    scales = model.evaluate(rows)
    x, y, phi = (v.astype(float) for v in (rows.x, rows.y, rows.phi))
    true = truth.crystal(phi) * truth.path(x, y, phi)
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
    compared = compare(truth, model)
    b, g, c = (
        found - true
        for found, true in (compared.crystal, compared.path, compared.offset)
    )
    print("B", b.std(), "ends", b[[0, -1]], "G", g.std(), "C", c.std())
    spreads = [v[1].std() for v in (compared.crystal, compared.path, compared.offset)]
    assert spreads[0] > 0.2 and spreads[1] > 0.08 and spreads[2] > 0.15
    assert b.std() < 0.01 and np.abs(b[[0, -1]]).max() < 0.04
    assert g.std() < 0.012
    assert c.std() < 0.03


@pytest.mark.slow
def test_scales_of_dials_are_taken_by_the_command(scaled, folder, monkeypatch):
    truth, _, rows = scaled
    monkeypatch.chdir(folder)
    arguments = ["diffuse_observations", "scaling.components=dials_scale"]
    arguments += ["engine=serial", "output.scales=dials.json"]
    with pytest.raises(Sorry, match="scaling.dials_scale.experiments=scaled.expt"):
        diffuse_scale.run(arguments)
    parts = {
        name: {"parameters": flex.double([value]), "parameter_esds": None}
        for name, value in (("scale", 2.0), ("decay", 3.0))
    }
    experiments = ExperimentList([truth.experiment])
    experiments[0].scaling_model = KBScalingModel(parts, {"corrections": list(parts)})
    experiments.as_file("scaled.expt")
    diffuse_scale.run([*arguments, "dials_scale.experiments=scaled.expt"])
    found = ScaleModel.read("dials.json").evaluate(rows).crystal
    expected = np.exp(3.0 * rows.s**2 / 2)
    np.testing.assert_allclose(found / expected, found[0] / expected[0], rtol=1e-5)
