"""Packages that are loaded when they are first used, not when they are imported."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_SEARCHED = ("__file__", "__warningregistry__")
"""What the standard library looks for in all modules."""


@contextlib.contextmanager
def postponed(name: str, *submodules: str) -> Iterator[None]:
    """`import` of a package, inside, gives a stand-in that loads it when it is used.

    For modules of others that import at their top what they need in one function. They
    keep the stand-in; who imports the package afterwards gets the package. Does nothing
    where it is loaded already or isn't installed.

    Args:
        name: The package, of the top level.
        submodules: Those that are imported by name, as in `import package.submodule`.
    """
    if name in sys.modules or importlib.util.find_spec(name) is None:
        yield
        return
    package = _StandIn(name)
    ours = {name: package}
    for submodule in submodules:
        ours[f"{name}.{submodule}"] = _StandIn(f"{name}.{submodule}")
        setattr(package, submodule, ours[f"{name}.{submodule}"])
    sys.modules.update(ours)
    try:
        yield
    finally:
        for stand_in in ours.values():
            stand_in.withdraw()


class _StandIn(ModuleType):
    """A module whose attributes are those of the real one, loaded for the first."""

    def withdraw(self) -> None:
        """From now on, `import` finds the real module."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]

    def __getattr__(self, attribute: str) -> Any:
        if attribute in _SEARCHED:
            raise AttributeError(attribute)
        for module in list(sys.modules.values()):
            if isinstance(module, _StandIn):
                module.withdraw()
        return getattr(importlib.import_module(self.__name__), attribute)
