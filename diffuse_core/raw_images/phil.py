"""Parameters of the programs of DIALS below `dials.PROGRAM`, loaded when needed.

Importing a program takes seconds: only those whose parameters the user names are.
"""

from __future__ import annotations

import copy
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from iotbx.phil import parse
from libtbx.phil import scope
from libtbx.phil.tokenizer import word

from diffuse_core.raw_images import programs

EXPERT_LEVEL = 2
_PHIL_FILES = (".phil", ".param", ".params", ".eff", ".def")
_SHOW_ALL = re.compile(r"^(-e|--expert[-_]level=?)\s*(\d*)$")


def named_programs(arguments: Sequence[str]) -> list[str]:
    """The programs whose parameters the arguments of a command may name.

    All of them where the user asks to see parameters of the experts' level.
    """
    if _wants_all(arguments):
        return [name for name in programs.MODULES if programs.exists(name)]
    named = set()
    for argument in arguments:
        if argument.endswith(_PHIL_FILES) and os.path.isfile(argument):
            named |= _programs_in_file(Path(argument))
        elif "=" in argument:
            path = argument.split("=")[0].split(".")
            if "dials" in path:
                named |= set(path)
    return [n for n in programs.MODULES if n in named and programs.exists(n)]


def _programs_in_file(path: Path) -> set[str]:
    """Names of the scopes in `dials`; none where the file can't be parsed."""
    try:
        root = parse(path.read_text(errors="replace"))
    except RuntimeError:
        return set()
    return {
        item.path.split(".")[1]
        for item in root.all_definitions()
        if item.path.startswith("dials.")
    }


def _wants_all(arguments: Sequence[str]) -> bool:
    if not {"-c", "--show-config"} & set(arguments):
        return False
    pairs = itertools.pairwise(arguments)
    joined = [*arguments, *(a + b for a, b in pairs)]
    levels = [m.group(2) for m in map(_SHOW_ALL.match, joined) if m and m.group(2)]
    return any(int(level) >= EXPERT_LEVEL for level in levels)


PHIL = """
stills_program = *auto ssx stills_process
  .type = choice
  .help = "How stills are indexed: by dials.find_spots, dials.ssx_index and"
          "dials.ssx_integrate; or by dials.stills_process, image by image. auto: the"
          "one whose parameters are given, else the first of them that succeeds."
"""


def program_scopes(arguments: Sequence[str]):
    """The scope `dials` with one scope for each program that the arguments name."""
    return _scope_of(named_programs(arguments), PHIL)


def scope_of_cosym(arguments: Sequence[str]):
    """The scope `dials` with dials.cosym, if the arguments name it."""
    return _scope_of([n for n in named_programs(arguments) if n == "cosym"], "")


def _scope_of(names: Sequence[str], own_parameters: str):
    result = scope(name="dials")
    for item in parse(own_parameters).objects:
        result.adopt(item)
    for name in names:
        own = scope(
            name=name,
            expert_level=EXPERT_LEVEL,
            help=f"Parameters of dials.{name}, used where the images are reduced.",
        )
        for item in copy.deepcopy(programs.scope_of(programs.load(name))).objects:
            own.adopt(item)
        result.adopt(own)
    root = parse("")
    root.adopt(result)
    return root


def user_parameters(working) -> dict[str, str]:
    """Program -> PHIL text with the parameters that differ from its defaults.

    Paths of files are made absolute, since programs run in a folder of their own.

    Args:
        working: The working PHIL, with the scopes of `program_scopes`.
    """
    found = {}
    for one in working.objects:
        if one.name != "dials":
            continue
        for own in one.objects:
            if own.name not in programs.MODULES:
                continue
            root = parse("")
            root.objects = own.objects
            master = programs.scope_of(programs.load(own.name))
            difference = master.fetch_diff(root)
            for item in difference.all_definitions():
                _make_absolute(item.object)
            text = difference.as_str()
            if text.strip():
                found[own.name] = text
    return found


def _make_absolute(definition) -> None:
    kind = getattr(definition.type, "phil_type", None)
    if kind not in ("path", "str") or len(definition.words) != 1:
        return
    value = definition.words[0].value
    if value and os.path.isfile(value):
        definition.words = [word(value=os.path.abspath(value), quote_token='"')]
