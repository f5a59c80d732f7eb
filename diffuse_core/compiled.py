"""Whether a numba function is in the cache, so that its first call takes no time."""

from __future__ import annotations

import sys
from pathlib import Path


def is_compiled(function) -> bool:
    """True if the cache holds code that is newer than the function's source.

    Args:
        function: Made by `numba.njit(cache=True)`.
    """
    source = Path(function.py_func.__code__.co_filename)
    version = f"py{sys.version_info.major}{sys.version_info.minor}"
    name = f"{source.stem}.{function.py_func.__qualname__}-*.{version}*.nbi"
    changed = source.stat().st_mtime
    return any(
        index.stat().st_mtime >= changed
        for index in Path(function.stats.cache_path).glob(name)
    )
