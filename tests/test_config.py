"""PHIL of the models: assembly, selection, round trip, messages."""

from __future__ import annotations

import re

import pytest

from dials.util.options import ArgumentParser
from iotbx.phil import parse
from libtbx.utils import Sorry

from diffuse_core import config
from diffuse_core.descriptors import KINDS, ModelPlugin
from diffuse_core.errors import ConfigError, PluginError
from diffuse_core.hookspecs import hookimpl
from diffuse_core.models import CorrectionModel
from diffuse_core.registry import Registry, Source

FILMS = """
film
  .multiple = True
  .help = "One film."
{
  material = *kapton mylar
    .type = choice
    .help = "Material."
  thickness = 0.05
    .type = float(value_min=0)
    .help = "mm"
}
"""

CELL = """
unit_cell = 10 20 30 90 90 90
  .type = unit_cell
  .help = "A and deg."
path = None
  .type = path
  .help = "A file."
"""


class Film(CorrectionModel):
    def __init__(self, thicknesses):
        self.thicknesses = thicknesses

    @classmethod
    def from_params(cls, params, run):
        return cls([film.thickness for film in params.film])


class Plugins:
    """Two to three models of most kinds, one or two of them defaults."""

    @hookimpl
    def diffuse_mask_models(self):
        yield self.model("bragg", default=True)
        yield self.model("ice", summary='Rings of "ice".', phil=CELL)
        yield self.model("edges", default=True)

    @hookimpl
    def diffuse_correction_models(self):
        yield self.model("films", factory=Film, phil=FILMS)

    @hookimpl
    def diffuse_mapping_models(self):
        yield self.model("grid", default=True)
        yield self.model("shells")

    @hookimpl
    def diffuse_scaling_components(self):
        yield self.model("decay", default=True)
        yield self.model("absorption", default=True)
        yield self.model("offset")

    @staticmethod
    def model(name, **values):
        return ModelPlugin(
            **{"name": name, "factory": "none:Such", "summary": "A model.", **values}
        )


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(Plugins(), Source("plugins", "my-plugins", "1.0"))
    return registry


@pytest.fixture
def scope(registry):
    return config.master_scope(registry, ("block", "output"), KINDS)


def parsed(scope, *args):
    """The parameters of a command line, read by DIALS' own parser."""
    params, _ = ArgumentParser(phil=scope).parse_args(list(args))
    return params


def test_master_scope_has_sections_selectors_and_models(scope):
    assert [o.name for o in scope.objects] == ["block", "output", *KINDS]
    params = scope.extract()
    assert params.block.width == 1.0
    assert params.mask.models == ["bragg", "edges"]
    assert params.correction.models == []
    assert params.background.models == []
    assert params.mapping.model == "grid"
    assert params.scaling.components == ["absorption", "decay"]
    assert params.mask.ice.unit_cell.parameters() == (10, 20, 30, 90, 90, 90)
    assert params.correction.films.film[0].thickness == 0.05


def test_help_names_every_model(scope):
    (mask,) = (o for o in scope.objects if o.name == "mask")
    texts = {o.name: o.help for o in mask.objects}
    assert texts["ice"] == 'Rings of "ice".'
    assert 'bragg: A model. edges: A model. ice: Rings of "ice".' in texts["models"]
    shown = parse(scope.as_str(attributes_level=2))
    assert shown.extract().mask.models == ["bragg", "edges"]


def test_a_command_takes_the_kinds_it_needs(registry):
    scope = config.master_scope(registry, ("merging",), ("scaling",))
    assert [o.name for o in scope.objects] == ["merging", "scaling"]


def test_scopes_are_made_anew(registry):
    first = config.master_scope(registry, (), KINDS)
    first.fetch(parse("mask.models = ice")).extract()
    first.objects.clear()
    assert config.master_scope(registry, (), KINDS).extract().mask.models


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ice", ["ice"]),
        ("ice bragg", ["ice", "bragg"]),
        ("ice+bragg", ["ice", "bragg"]),
        ("ice, bragg", ["ice", "bragg"]),
        ("'ice bragg'", ["ice", "bragg"]),
        ("Ice", ["ice"]),
        ("*ice bragg *edges", ["ice", "edges"]),
        ("None", []),
        ('""', []),
        ("Auto", ["bragg", "edges"]),
        ("default", ["bragg", "edges"]),
        ("default+ice", ["bragg", "edges", "ice"]),
        ("ice default", ["ice", "bragg", "edges"]),
        ("default+bragg", ["edges", "bragg"]),
    ],
)
def test_masks_are_selected_by_name(value, expected, scope, registry):
    params = parsed(scope, f"mask.models={value}")
    assert params.mask.models == expected
    chosen = config.selected(registry, params, "mask")
    assert [model.plugin.name for model in chosen] == expected


def test_the_order_of_scaling_components_is_the_users(scope):
    for order in (["offset", "decay", "absorption"], ["absorption", "offset"]):
        params = parsed(scope, f"scaling.components={' '.join(order)}")
        assert params.scaling.components == order


def test_the_working_phil_reproduces_the_parameters(scope):
    text = """
    block.width = 0.5
    mask { models = default+ice
           ice.unit_cell = 1 2 3 90 90 90 }
    correction { models = films
                 films { film { thickness = 0.1 }
                         film { thickness = 0.2
                                material = mylar } } }
    mapping.model = shells
    scaling.components = offset decay
    """
    params = config.extract(scope, text)
    working = scope.format(params).as_str()
    again = config.extract(scope, working)
    assert scope.format(again).as_str() == working
    assert again.mask.models == ["bragg", "edges", "ice"]
    assert again.mask.ice.unit_cell.parameters() == (1, 2, 3, 90, 90, 90)
    films = again.correction.films.film
    assert [(f.material, f.thickness) for f in films] == [
        ("kapton", 0.1),
        ("mylar", 0.2),
    ]
    assert again.mapping.model == "shells"
    assert again.scaling.components == ["offset", "decay"]


def test_nothing_selected_is_reproduced(scope):
    working = scope.format(config.extract(scope, "mask.models = None")).as_str()
    assert "models = None" in working
    assert config.extract(scope, working).mask.models == []


def test_recorded_defaults_stay_when_the_defaults_change(registry, scope):
    working = scope.format(config.extract(scope, "mask.models = default+ice")).as_str()

    class Another:
        @hookimpl
        def diffuse_mask_models(self):
            yield Plugins.model("another", default=True)

    registry.add(Another(), Source("another", "another", "1.0"))
    later = config.master_scope(registry, ("block", "output"), KINDS)
    assert later.extract().mask.models == ["another", "bragg", "edges"]
    assert config.extract(later, working).mask.models == ["bragg", "edges", "ice"]


def test_a_record_outlives_plugins_that_it_did_not_use(registry, scope):
    params = config.extract(scope, "mask.models = bragg\nmapping.model = shells")
    record = config.only_selected(registry, scope.format(params), params).as_str()
    assert "width = 1" in record
    assert "model = *shells" in record
    for gone in ("ice", "films", "grid", "edges"):
        assert gone not in record

    class Less:
        @hookimpl
        def diffuse_mask_models(self):
            yield Plugins.model("bragg")

        @hookimpl
        def diffuse_mapping_models(self):
            yield Plugins.model("shells")

        @hookimpl
        def diffuse_scaling_components(self):
            yield Plugins.model("decay")
            yield Plugins.model("absorption")

    later = Registry()
    later.add(Less(), Source("less", "less", "1.0"))
    again = config.extract(
        config.master_scope(later, ("block", "output"), KINDS), record
    )
    assert again.mask.models == ["bragg"]
    assert again.mapping.model == "shells"


def test_only_differences_are_shown(scope):
    parser = ArgumentParser(phil=scope)
    parser.parse_args(["mask.models=bragg edges", "mapping.model=grid"])
    assert parser.diff_phil.as_str() == ""
    parser.parse_args(["mask.models=ice", "mapping.model=shells"])
    difference = parser.diff_phil.as_str()
    assert "models = ice" in difference
    assert "*shells" in difference


def test_a_kind_without_models_can_be_extracted():
    scope = config.master_scope(Registry(), (), KINDS)
    params = config.extract(scope, scope.as_str())
    assert params.mask.models == params.scaling.components == []
    with pytest.raises(ConfigError, match="Select one model with mapping.model"):
        config.selected(Registry(), params, "mapping")


def test_exactly_one_mapping_is_needed(registry, scope):
    params = config.extract(scope, "mapping.model = None")
    with pytest.raises(ConfigError, match=r"with mapping.model: grid, shells\."):
        config.selected(registry, params, "mapping")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mask.models = brag+ice", "no mask model 'brag' (did you mean 'bragg'?)"),
        ("mask.models = bragg ice bragg", "mask.models names a model twice"),
        ("scaling.components = decay+decay", "components names a model twice"),
        ("scaling.components = xyz", "available are absorption, decay, offset"),
    ],
)
def test_a_wrong_selection_is_explained(text, message, registry, scope):
    params = config.extract(scope, text)
    kind = text.split(".")[0]
    with pytest.raises(ConfigError, match=re.escape(message)):
        config.selected(registry, params, kind)


@pytest.mark.parametrize("value", ["shell", "*shell", "grid+shell"])
def test_phils_message_on_a_choice_is_explained(value, registry, scope):
    with pytest.raises(Sorry) as caught:
        parsed(scope, f"mapping.model={value}")
    assert "Not a possible choice" in str(caught.value)
    assert config.explain(registry, str(caught.value)) == (
        "There is no mapping model 'shell' (did you mean 'shells'?): available are "
        "grid, shells."
    )


def test_other_messages_stay_as_they_are(registry, scope):
    with pytest.raises(Sorry) as caught:
        parsed(scope, "correction.films.film.material=mylr")
    message = str(caught.value)
    assert config.explain(registry, message) == message
    assert config.explain(registry, "Something else.") == "Something else."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("block.width = x", 'Error interpreting block.width="x"'),
        ("block {", "can't be used"),
        ("mask.gone.width = 1", "Unknown parameters: mask.gone.width"),
    ],
)
def test_a_text_that_cant_be_used(text, message, scope):
    with pytest.raises(ConfigError, match=re.escape(message)):
        config.extract(scope, text)


def test_values_that_may_be_paths():
    text = "a.file = x.mask\nb { file = y.mask\n size = 1 2 }\nc = x.mask"
    assert config.path_values(text) == ["x.mask", "y.mask", "1 2"]


def test_models_are_built_from_their_own_scopes(registry, scope):
    text = "correction { models = films\nfilms { film { thickness = 0.3 } } }"
    params = config.extract(scope, text)
    (model,) = config.build_models(registry, params, None, "correction")
    assert model.thicknesses == [0.3]
    with pytest.raises(PluginError, match="can't be imported from 'none:Such'"):
        config.build_models(registry, params, None, "mask")


@pytest.mark.parametrize(
    ("target", "expected"),
    [("dials.util.masking.phil_scope", True), ("dials.none_such.phil_scope", False)],
)
def test_an_include_that_fails_costs_only_its_model(target, expected, registry):
    class Including:
        @hookimpl
        def diffuse_mask_models(self):
            yield Plugins.model("included", phil=f"include scope {target}")

    registry.add(Including(), Source("including", "including", "1.0"))
    assert registry.failures == []
    params = config.master_scope(registry, (), ("mask",)).extract()
    assert hasattr(params.mask, "included") == expected
    assert params.mask.models == ["bragg", "edges"]
    if expected:
        assert params.mask.included.border == 0
        assert registry.failures == []
        return
    (failure,) = registry.failures
    assert failure.source.distribution == "including"
    assert "PHIL text of the model 'included' can't be used" in failure.reason
    with pytest.raises(ConfigError, match="failed to load: including 1.0"):
        registry.get("mask", "included")
