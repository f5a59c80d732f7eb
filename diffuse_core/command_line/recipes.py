"""Recipes that serve several commands: what belongs to the other ones is left out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from libtbx.phil import parse


def for_this_command(
    arguments: Sequence[str], scope, everything: Callable[[], Any], folder: str
) -> tuple[list[str], list[str]]:
    """Arguments whose recipes hold no parameters of other commands; the paths of these.

    A recipe that has such parameters is replaced by a copy without them. What no
    command knows stays in, so that it is refused.

    Args:
        arguments: Of the command.
        scope: The command's parameters, a libtbx scope.
        everything: Makes the scope with the parameters of all commands.
        folder: For the copies.
    """
    kept, foreign = [], []
    for argument in arguments:
        if argument.endswith(".phil") and Path(argument).is_file():
            recipe, paths = _split(argument, scope, everything)
            if paths:
                foreign += paths
                own = Path(tempfile.mkdtemp(dir=folder)) / Path(argument).name
                own.write_text(recipe.as_str() + "\n")
                argument = str(own)
        kept.append(argument)
    return kept, list(dict.fromkeys(foreign))


def _split(path: str, scope, everything: Callable[[], Any]):
    """The recipe without parameters of other commands, and their paths.

    A recipe that can't be read is left to the command, which will say why.
    """
    try:
        recipe = parse(file_name=path)
        unknown = _unused(scope, recipe)
        foreign = set(unknown)
        if foreign:
            foreign -= _unused(everything(), recipe).keys()
    except Exception:
        return None, []
    _drop(recipe, foreign)
    return recipe, [path for key, path in unknown.items() if key in foreign]


def _unused(scope, recipe) -> dict[int, str]:
    """Definitions of a recipe that a scope doesn't have: identity -> path."""
    unused = scope.fetch(recipe, track_unused_definitions=True)[1]
    return {id(item.object): item.path for item in unused}


def _drop(scope, identities: set[int]) -> None:
    scope.objects = [o for o in scope.objects if id(o) not in identities]
    for item in scope.objects:
        if item.is_scope:
            _drop(item, identities)
