"""PHIL: assembles the master scope from the core's and the plug-ins' parameters.

The scope is made by a function, per command, never at import, so a plug-in that
fails can't break an import and tests can use their own registry.
"""

from __future__ import annotations

import re
from importlib import resources

from iotbx.phil import parse

from diffuse_core.descriptors import KINDS, Kind
from diffuse_core.errors import ConfigError, PluginError
from diffuse_core.models import Model, RunInputs
from diffuse_core.registry import RegisteredModel, Registry

INTEGRATE_KINDS = ("mask", "correction", "background", "mapping")


def master_scope(registry: Registry, sections: tuple[str, ...], kinds=()):
    """The libtbx.phil scope of one command.

    Args:
        registry: Where the models come from.
        sections: Top-level scopes of master.phil to include.
        kinds: Kinds of models to include.

    Raises:
        PluginError: A plug-in's PHIL text can't be parsed.
    """
    text = resources.files("diffuse_core.phil").joinpath("master.phil").read_text()
    scope = parse(text)
    scope.objects = [o for o in scope.objects if o.name in sections]
    for name in kinds:
        scope.adopt_scope(_kind_scope(registry, KINDS[name]))
    return scope


def _kind_scope(registry: Registry, kind: Kind):
    models = registry.models(kind.name)
    scope = parse(_selector(kind, models))
    for model in models:
        plugin = model.plugin
        summary = plugin.summary.replace('"', "'")
        try:
            own = parse(
                f'{kind.name} {{\n {plugin.name}\n  .help = "{summary}"\n {{\n'
                f"{plugin.phil}\n }}\n}}",
                process_includes=True,
            )
        except Exception as error:
            raise PluginError(
                f"The PHIL text of the {kind.name} model {plugin.name!r} of "
                f"{model.source} can't be parsed ({error})."
            ) from error
        scope.adopt_scope(own)
    return scope


def _selector(kind: Kind, models: list[RegisteredModel]) -> str:
    helps = "; ".join(f"{m.plugin.name}: {m.plugin.summary}" for m in models)
    helps = helps.replace('"', "'")
    names = " ".join(("*" if m.plugin.default else "") + m.plugin.name for m in models)
    if kind.choose == "ordered":
        default = " ".join(m.plugin.name for m in models if m.plugin.default)
        line = f"{kind.selector} = {default or None}\n .type = strings"
    elif not models:
        line = f"{kind.selector} = None\n .type = choice"
    else:
        multi = "(multi=True)" if kind.choose == "many" else ""
        line = f"{kind.selector} = {names}\n .type = choice{multi}"
    return f'{kind.name} {{\n{line}\n .help = "{helps}"\n}}'


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
    names = names or []
    if len(set(names)) < len(names):
        raise ConfigError(f"{kind_name}.{kind.selector} names a model twice.")
    return [registry.get(kind_name, name) for name in names]


def build_models(
    registry: Registry, params, run: RunInputs, kind_name: str
) -> list[Model]:
    """The selected models of a kind, each made from its own scope."""
    return [
        model.build(getattr(getattr(params, kind_name), model.plugin.name), run)
        for model in selected(registry, params, kind_name)
    ]


_CHOICE = re.compile(r"Not a possible choice for (\w+)\.(\w+): ([^\s(]+)")


def explain(registry: Registry, message: str) -> str:
    """A PHIL error message, with what the registry knows of a model's name."""
    found = _CHOICE.search(message)
    if found:
        kind = KINDS.get(found.group(1))
        if kind and found.group(2) == kind.selector:
            return registry.unknown(kind.name, found.group(3).lstrip("*"))
    return message
