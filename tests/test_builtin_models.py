"""Every built-in model of masks, corrections, background, mapping, from real PHIL."""

from __future__ import annotations

import numpy as np
import pytest

from dials.array_family import flex
from iotbx.phil import parse

from diffuse_core import config
from diffuse_core.boundary import image_of, panel_geometry, setups_of
from diffuse_core.compat import load_experiments
from diffuse_core.models import RunInputs
from diffuse_core.registry import Registry

KINDS = ("mask", "correction", "background", "mapping")
DEFAULTS = {
    "mask": {
        "bragg",
        "file",
        "pixel_statistics",
        "poisson_outlier",
        "resolution",
        "untrusted",
    },
    "correction": {"air", "polarization", "sensor", "solid_angle"},
    "background": set(),
    "mapping": {"hkl_grid"},
}


@pytest.fixture(scope="module")
def registry():
    return Registry.discover({})


@pytest.fixture(scope="module")
def scope(registry):
    return config.master_scope(registry, (), KINDS)


@pytest.fixture(
    scope="module",
    params=["thermolysin_cspad/dials/refined", "l_cysteine/dials/refined"],
    ids=["stills", "scans"],
)
def run(request, data_dir):
    path = str(data_dir / request.param)
    experiments = load_experiments(path + ".expt", check_format=False)
    table = flex.reflection_table.from_file(path + ".refl")
    return RunInputs(experiments, table, setups_of(experiments))


def everything(registry):
    lines = []
    for kind in ("mask", "correction", "background"):
        names = " ".join(m.plugin.name for m in registry.models(kind))
        lines.append(f"{kind}.models = {names}")
    return "\n".join(lines)


def test_defaults(registry, scope):
    params = scope.extract()
    for kind, names in DEFAULTS.items():
        found = {m.plugin.name for m in config.selected(registry, params, kind)}
        assert found == names


@pytest.mark.parametrize("fetched", [False, True])
def test_defaults_are_built_and_give_a_sensible_response(registry, scope, run, fetched):
    params = (scope.fetch(parse("")) if fetched else scope).extract()
    models = {kind: config.build_models(registry, params, run, kind) for kind in KINDS}
    geometry = panel_geometry(run.experiments[0], 0, 0)
    image = image_of(run.experiments[0], 0, 0)
    assert all(m.panel_mask(geometry) is None for m in models["mask"])
    assert sum(len(m.lattice_regions(image)) for m in models["mask"]) == 1
    response = np.prod(
        [np.mean(m.panel_response(geometry)) for m in models["correction"]]
    )
    assert 1e-8 < response < 1e-5
    (mapper,) = models["mapping"]
    assert mapper.affine(image).shape == (3, 4)


def test_all_models_are_built_together_and_again_from_their_own_phil(
    registry, scope, run
):
    working = scope.fetch(parse(everything(registry)))
    again = scope.fetch(parse(working.as_str(attributes_level=0)))
    assert again.as_str() == working.as_str()
    for params in (working.extract(), again.extract()):
        for kind in KINDS:
            wanted = registry.models(kind)
            models = config.build_models(registry, params, run, kind)
            assert len(models) == (1 if kind == "mapping" else len(wanted))


@pytest.mark.parametrize("mapping", ["hkl_grid", "q_grid"])
def test_every_mapping_can_be_selected(registry, scope, run, mapping):
    params = scope.fetch(parse(f"mapping.model = {mapping}")).extract()
    (model,) = config.build_models(registry, params, run, "mapping")
    assert model.oversample == (1, 1, 1)
    assert {"hkl_grid": "hkl", "q_grid": "q"}[mapping] == model.grid.frame
