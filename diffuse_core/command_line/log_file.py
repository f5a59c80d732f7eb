"""The log of a run: on the screen at once, in its file when the run is on its way.

A run that is refused (another one writes to its folder, a parameter can't be used)
leaves the log of an earlier run in the same folder as it was.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from logging.handlers import MemoryHandler
from pathlib import Path

import dials.util.log

_LOGGERS = ("dials", "dxtbx", "xfel", "py.warnings")


def start_log(verbosity: int, path: str | None) -> Callable[[], None]:
    """Starts the log of DIALS on the screen; a function that opens the file.

    The file begins with what was said before. Opening it a second time does nothing.

    Args:
        verbosity: How often -v was given.
        path: The file, which is overwritten; None or empty: no file.
    """
    _end_earlier()
    waiting = MemoryHandler(sys.maxsize, sys.maxsize, flushOnClose=False)
    formatter = dials.util.log.DialsLogfileFormatter(timed=verbosity)
    if path:
        _attach(waiting)
    dials.util.log.config(verbosity=verbosity)
    waiting.setLevel(logging.getLogger("dials").level)

    def open_file() -> None:
        if not path or waiting.target is not None:
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = _File(path, mode="w", encoding="utf-8")
        file.setLevel(waiting.level)
        file.setFormatter(formatter)
        waiting.setTarget(file)
        waiting.flush()
        _detach(waiting)
        _attach(file)

    return open_file


class _File(logging.FileHandler):
    """The log file of a run."""


def _end_earlier() -> None:
    """Ends the log of an earlier run of this process."""
    for handler in logging.getLogger("dials").handlers[:]:
        if isinstance(handler, (MemoryHandler, _File)):
            _detach(handler)
            handler.close()


def _attach(handler: logging.Handler) -> None:
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(handler)


def _detach(handler: logging.Handler) -> None:
    for name in _LOGGERS:
        logging.getLogger(name).removeHandler(handler)
