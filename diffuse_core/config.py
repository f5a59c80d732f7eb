"""PHIL: assembles the master scope from the core's and the plug-ins' parameters.

The scope is made by a function, per command, never at import, so a plug-in that
fails can't break an import and tests can use their own registry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import resources

from iotbx.phil import parse

from diffuse_core.descriptors import KINDS
from diffuse_core.errors import ConfigError
from diffuse_core.model_phil import kind_scope
from diffuse_core.models import Model, RunInputs
from diffuse_core.registry import RegisteredModel, Registry

INTEGRATE_KINDS = ("mask", "correction", "background", "mapping")

_CHOICE = re.compile(r"Not a possible choice for (\w+)\.(\w+): ([^\s(]+)")


def master_scope(
    registry: Registry, sections: Iterable[str] | None, kinds: Iterable[str] = ()
):
    """The libtbx.phil scope of one command.

    Args:
        registry: Where the models come from.
        sections: Top-level scopes of master.phil to include; None: all.
        kinds: Kinds of models to include.
    """
    text = resources.files("diffuse_core.phil").joinpath("master.phil").read_text()
    scope = parse(text)
    if sections is not None:
        wanted = set(sections)
        scope.objects = [o for o in scope.objects if o.name in wanted]
    for name in kinds:
        own = parse("")
        own.adopt(kind_scope(KINDS[name], registry.scopes(name)))
        scope.adopt_scope(own)
    return scope


def extract(scope, text: str):
    """The parameters of a scope with the values of a PHIL text.

    Raises:
        ConfigError: The text can't be parsed, has a parameter that isn't in the scope,
            or a value of the wrong type.
    """
    try:
        working, unused = scope.fetch(parse(text), track_unused_definitions=True)
        params = working.extract()
    except Exception as error:
        raise ConfigError(f"The parameters can't be used ({error}).") from error
    if unused:
        raise ConfigError(
            f"Unknown parameters: {', '.join(item.path for item in unused)}; does a "
            "plug-in that the parameters were written for fail to load?"
        )
    return params


def only_selected(registry: Registry, working, params):
    """The working PHIL without the scopes of models that aren't selected.

    A record of a run that holds no more than this can be given back, and its results
    used again, when plug-ins come and go that it has nothing to do with.

    Args:
        registry: Where the models come from.
        working: Formatted scope of all parameters.
        params: The same, extracted.
    """
    result = working.copy()
    result.objects = [
        _only_selected(registry, item, params) if item.name in KINDS else item
        for item in working.objects
    ]
    return result


def _only_selected(registry: Registry, item, params):
    kind = KINDS[item.name]
    chosen = {model.plugin.name for model in selected(registry, params, kind.name)}
    drop = {model.plugin.name for model in registry.models(kind.name)} - chosen
    objects = []
    for o in item.objects:
        if o.name == kind.selector and kind.choose == "one":
            o = o.customized_copy(words=[w for w in o.words if w.value[0] == "*"])
        if o.name not in drop:
            objects.append(o)
    return item.customized_copy(objects=objects)


def path_values(text: str) -> list[str]:
    """All values of a PHIL text, in order, without repeats: those that may be paths."""
    values = [
        " ".join(word.value for word in item.object.words)
        for item in parse(text).all_definitions()
    ]
    return list(dict.fromkeys(values))


def selected(registry: Registry, params, kind_name: str) -> list[RegisteredModel]:
    """The models of a kind that the user selected.

    Raises:
        ConfigError: A name is unknown, repeated, or exactly one is needed.
    """
    kind = KINDS[kind_name]
    names = getattr(getattr(params, kind_name), kind.selector)
    if kind.choose == "one":
        names = [names] if names else []
        if not names:
            raise ConfigError(
                f"Select one model with {kind_name}.{kind.selector}: "
                f"{', '.join(m.plugin.name for m in registry.models(kind_name))}."
            )
    models = [registry.get(kind_name, name) for name in names]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"{kind_name}.{kind.selector} names a model twice: {' '.join(names)}."
        )
    return models


def build_models(
    registry: Registry, params, run: RunInputs, kind_name: str
) -> list[Model]:
    """The selected models of a kind, each made from its own scope.

    Raises:
        ConfigError: The selection can't be used.
        PluginError: A model breaks its contract.
    """
    return [
        model.build(getattr(getattr(params, kind_name), model.plugin.name), run)
        for model in selected(registry, params, kind_name)
    ]


def explain(registry: Registry, message: str) -> str:
    """A PHIL error message, with what the registry knows of a model's name."""
    found = _CHOICE.search(message)
    kind = KINDS.get(found.group(1)) if found else None
    if kind and found.group(2) == kind.selector:
        return registry.unknown(kind.name, found.group(3).lstrip("*"))
    return message
