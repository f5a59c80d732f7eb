"""PHIL of the models: one scope per model, and the parameter that selects."""

from __future__ import annotations

import re
from collections.abc import Sequence

from iotbx.phil import parse
from libtbx.phil import (
    choice_converters,
    definition,
    scope,
    strings_as_words,
    strings_converters,
    strings_from_words,
)
from libtbx.phil.tokenizer import word

from diffuse_core.descriptors import DEFAULT, Kind, ModelPlugin
from diffuse_core.errors import PluginError


def model_scope(plugin: ModelPlugin, includes: bool = True):
    """The libtbx.phil scope of one model, with its summary as help.

    Args:
        plugin: The model.
        includes: Follow `include` lines, which may import much; otherwise they stay
            as definitions named "include".

    Raises:
        PluginError: The PHIL text can't be parsed, or its defaults break its types.
    """
    try:
        contents = parse(plugin.phil, source_info="its PHIL", process_includes=includes)
        contents.extract()
    except Exception as error:
        raise PluginError(
            f"The PHIL text of the model {plugin.name!r} can't be used "
            f"({' '.join(str(error).split())})."
        ) from error
    own = scope(name=plugin.name, help=plugin.summary)
    for item in contents.objects:
        own.adopt(item)
    return own


def kind_scope(kind: Kind, models: Sequence[tuple[ModelPlugin, scope]]):
    """The scope of a kind: its selector, then the scopes of its models."""
    result = scope(name=kind.name)
    result.adopt(_selector(kind, [plugin for plugin, _ in models]))
    for _, own in models:
        result.adopt(own)
    return result


def _selector(kind: Kind, plugins: Sequence[ModelPlugin]) -> definition:
    default = [p.name for p in plugins if p.default]
    lines = [f"{p.name}: {p.summary}" for p in plugins] or ["No model is installed."]
    if kind.choose == "one" and plugins:
        stars = [("*" if p.default else "") + p.name for p in plugins]
        return definition(
            name=kind.selector,
            words=[word(value=name) for name in stars],
            type=choice_converters(),
            help=" ".join(["One of:", *lines]),
        )
    order = " in this order" if kind.choose == "ordered" else ""
    lines.insert(
        0,
        f"Names{order}, joined by '+' or spaces; '{DEFAULT}' stands for the ones "
        "selected here by default, None for none.",
    )
    return definition(
        name=kind.selector,
        words=_words(default),
        type=_Names(default),
        help=" ".join(lines),
    )


class _Names(strings_converters):
    """PHIL type: names in the order given; always extracted as a list.

    A choice(multi=True) would lose the order, and "a b" without stars would select
    nothing, silently.
    """

    phil_type = "strings"

    def __init__(self, default: Sequence[str] = ()) -> None:
        self.default = tuple(default)

    def fetch(self, source_words, master):
        """The definition with names in one spelling: stars, '+' and defaults resolved.

        Marked names win over unmarked ones, as in a PHIL choice.
        """
        text = " ".join(w.value for w in source_words).lower()
        given = [name for name in re.split(r"[\s,+]+", text) if name]
        marked = [name[1:] for name in given if name.startswith("*")]
        given = [name for name in marked or given if name != "none"]
        found = []
        for name in given:
            if name in (DEFAULT, "auto"):
                found += [d for d in self.default if d not in given]
            else:
                found.append(name)
        return master.customized_copy(words=_words(found))

    def from_words(self, words, master):
        return strings_from_words(words) or []

    def as_words(self, python_object, master):
        return _words(python_object)


def _words(names: Sequence[str] | None) -> list:
    return strings_as_words(list(names) if names else None)
