"""Where plug-ins come from: installed distributions, and modules that a user names.

The loader is our own: pluggy's stops at the first entry point that fails to import,
and drops a second distribution that uses the same entry-point name.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from diffuse_core.errors import DiffuseError

GROUP = "dials.diffuse"
NAMED = "DIALS_DIFFUSE_PLUGINS"
DISABLED = "DIALS_DIFFUSE_DISABLE"


@dataclass(frozen=True)
class Source:
    """Where a plug-in module came from.

    Attributes:
        module: Module, or file, with the hooks.
        distribution: Name of the installed distribution, or `DIALS_DIFFUSE_PLUGINS`.
        version: Version of the distribution; empty for an unpackaged module.
    """

    module: str
    distribution: str
    version: str

    def __str__(self) -> str:
        version = f" {self.version}" if self.version else ""
        return f"{self.distribution}{version} ({self.module})"


@dataclass(frozen=True)
class Candidate:
    """A plug-in that was found, not imported yet."""

    source: Source
    load: Callable[[], ModuleType | object]


def candidates(environ: Mapping[str, str]) -> list[Candidate]:
    """Third-party plug-ins in a fixed order: installed ones by name, then the user's.

    Args:
        environ: `DIALS_DIFFUSE_PLUGINS` names modules or .py files and
            `DIALS_DIFFUSE_DISABLE` names entry points or distributions to leave out,
            separated by commas.
    """
    disabled = set(words(environ.get(DISABLED, "")))
    found = [
        (entry.name, Candidate(_source(entry), entry.load))
        for entry in importlib.metadata.entry_points(group=GROUP)
    ]
    found.sort(key=lambda pair: (pair[0], str(pair[1].source)))
    installed = [
        candidate
        for name, candidate in found
        if not disabled & {name, candidate.source.distribution}
    ]
    return installed + [_named(word) for word in words(environ.get(NAMED, ""))]


def reason(error: BaseException) -> str:
    """Why a plug-in failed, in one line; with the type unless the text is ours."""
    text = " ".join(str(error).split())
    if isinstance(error, DiffuseError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def words(text: str) -> list[str]:
    """The words of a list that is separated by commas."""
    return [word for word in (w.strip() for w in text.split(",")) if word]


def _source(entry: importlib.metadata.EntryPoint) -> Source:
    try:
        return Source(entry.value, str(entry.dist.name), str(entry.dist.version))
    except Exception:  # metadata of others can be damaged in any way
        return Source(entry.value, "unknown distribution", "")


def _named(word: str) -> Candidate:
    return Candidate(Source(word, NAMED, ""), lambda: _import_named(word))


def _import_named(word: str) -> ModuleType:
    if not word.endswith(".py"):
        return importlib.import_module(word)
    path = Path(word).expanduser().resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    name = f"diffuse_user_plugin_{path.stem}_{zlib.crc32(bytes(path)):08x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
