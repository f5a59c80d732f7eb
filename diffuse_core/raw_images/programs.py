"""The programs of DIALS that the chain drives, and where their parameters are."""

from __future__ import annotations

import importlib
import importlib.util

# Name on the command line -> module. The PHIL scope of a program is its module's
# `working_phil` (with the program's own defaults) or `phil_scope`.
MODULES = {
    "import": "dials.command_line.dials_import",
    "find_spots": "dials.command_line.find_spots",
    "index": "dials.command_line.index",
    "refine": "dials.command_line.refine",
    "integrate": "dials.command_line.integrate",
    "symmetry": "dials.command_line.symmetry",
    "cosym": "dials.command_line.cosym",
    "scale": "dials.command_line.scale",
    "ssx_index": "dials.command_line.ssx_index",
    "ssx_integrate": "dials.command_line.ssx_integrate",
    "stills_process": "dials.command_line.stills_process",
}


def exists(name: str) -> bool:
    """True if this DIALS has the program."""
    return importlib.util.find_spec(MODULES[name]) is not None


def load(name: str):
    """The program's module; takes seconds."""
    return importlib.import_module(MODULES[name])


def scope_of(module):
    """The PHIL scope that the program parses its arguments with."""
    return getattr(module, "working_phil", None) or module.phil_scope
