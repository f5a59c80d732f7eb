"""Finds plug-ins and holds every model that they offer.

The loader is our own: pluggy's stops at the first entry point that fails to import,
and drops a second distribution that uses the same entry-point name.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pluggy

import diffuse_core
from diffuse_core import hookspecs, models
from diffuse_core.descriptors import KINDS, ModelPlugin, ReportItem
from diffuse_core.errors import ConfigError, PluginError

GROUP = "dials.diffuse"


@dataclass(frozen=True)
class Source:
    """Where a plug-in module came from."""

    module: str
    distribution: str
    version: str

    def __str__(self) -> str:
        version = f" {self.version}" if self.version else ""
        return f"{self.distribution}{version} ({self.module})"


@dataclass(frozen=True)
class Failure:
    """A plug-in that couldn't be used, and why."""

    source: Source
    reason: str


@dataclass(frozen=True, eq=False)
class RegisteredModel:
    """A model and the plug-in that offers it."""

    kind: str
    plugin: ModelPlugin
    source: Source

    def build(self, params, run: models.RunInputs) -> models.Model:
        """The model, made from its own PHIL scope.

        Raises:
            PluginError: The factory isn't a model of its kind.
        """
        factory = self.plugin.load()
        contracts = [getattr(models, KINDS[self.kind].contract)]
        if self.kind == "background":
            contracts.append(models.IntensityBackground)
        if not (inspect.isclass(factory) and issubclass(factory, tuple(contracts))):
            raise PluginError(
                f"The {self.kind} model {self.plugin.name!r} of {self.source} must be "
                f"a subclass of diffuse_core.models.{KINDS[self.kind].contract}."
            )
        return factory.from_params(params, run)

    def fingerprint(self) -> tuple[str, str, str, str, str]:
        """(kind, name, distribution, version, hash of the model's source)."""
        module = importlib.import_module(self.plugin.load().__module__)
        path = getattr(module, "__file__", None)
        code = Path(path).read_bytes() if path else b""
        digest = hashlib.sha256(code).hexdigest()[:12]
        source = self.source
        return (
            self.kind,
            self.plugin.name,
            source.distribution,
            source.version,
            digest,
        )


class Registry:
    """All models by kind and name.

    Attributes:
        failures: Third-party plug-ins that couldn't be loaded.
    """

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self._models: dict[str, dict[str, RegisteredModel]] = {k: {} for k in KINDS}
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)

    @classmethod
    def discover(cls, environ: Mapping[str, str] = os.environ) -> Registry:
        """Built-in models, those of installed distributions and those of the user.

        Args:
            environ: `DIALS_DIFFUSE_PLUGINS` names modules or .py files, separated by
                commas; `DIALS_DIFFUSE_DISABLE` names entry points to skip.

        Raises:
            PluginError: Two plug-ins offer the same model, or a built-in is broken.
        """
        from diffuse_core.plugins import BUILTIN

        registry = cls()
        for name in BUILTIN:
            registry.add(
                importlib.import_module(name),
                Source(name, "dials-diffuse", diffuse_core.__version__),
            )
        disabled = _words(environ.get("DIALS_DIFFUSE_DISABLE", ""))
        for entry in sorted(
            importlib.metadata.entry_points(group=GROUP),
            key=lambda e: (e.name, e.value),
        ):
            if entry.name not in disabled:
                dist = entry.dist
                registry._add_foreign(
                    Source(entry.value, dist.name, dist.version), entry.load
                )
        for word in _words(environ.get("DIALS_DIFFUSE_PLUGINS", "")):
            registry._add_foreign(
                Source(word, "DIALS_DIFFUSE_PLUGINS", ""),
                lambda word=word: _import_unpackaged(word),
            )
        return registry

    def add(self, module: ModuleType | object, source: Source) -> None:
        """Takes in all models of one plug-in module, or none of them.

        Raises:
            PluginError: The plug-in breaks the contract or repeats a name.
        """
        found = []
        try:
            self._manager.register(module, name=str(source))
            self._manager.check_pending()
            for kind in KINDS.values():
                hook = self._manager.subset_hook_caller(
                    kind.hook,
                    [p for p in self._manager.get_plugins() if p is not module],
                )
                for plugin in (p for result in hook() for p in result):
                    found.append(self._check(kind.name, plugin, source))
            for kind_name, plugin in found:
                self._refuse_duplicate(kind_name, plugin, source)
        except Exception:
            if self._manager.is_registered(module):
                self._manager.unregister(module)
            raise
        for kind_name, plugin in found:
            self._models[kind_name][plugin.name] = RegisteredModel(
                kind_name, plugin, source
            )

    def models(self, kind: str) -> list[RegisteredModel]:
        """The models of a kind, sorted by name."""
        return [self._models[kind][name] for name in sorted(self._models[kind])]

    def get(self, kind: str, name: str) -> RegisteredModel:
        """One model.

        Raises:
            ConfigError: There is no such model; the message names the nearest, all
                that exist and the plug-ins that failed.
        """
        try:
            return self._models[kind][name]
        except KeyError:
            raise ConfigError(self.unknown(kind, name)) from None

    def unknown(self, kind: str, name: str) -> str:
        """One sentence for a name that no plug-in offers."""
        names = sorted(self._models[kind])
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        text = (
            f"There is no {kind} model {name!r}{hint}: available are "
            f"{', '.join(names) or 'none'}"
        )
        if self.failures:
            broken = "; ".join(f"{f.source}: {f.reason}" for f in self.failures)
            text += f"; these plug-ins failed to load: {broken}"
        return text + "."

    def report_sections(self, run: dict) -> list[ReportItem]:
        """The report items of all plug-ins; one that fails becomes a text."""
        items = []
        for plugin in sorted(self._manager.get_plugins(), key=_plugin_name):
            hook = self._manager.subset_hook_caller(
                "diffuse_report_sections",
                [p for p in self._manager.get_plugins() if p is not plugin],
            )
            try:
                items += [item for result in hook(run=run) for item in result]
            except Exception as error:
                items.append(
                    ReportItem(
                        title=f"Report of {_plugin_name(plugin)}",
                        content=f"failed: {type(error).__name__}: {error}",
                    )
                )
        return items

    def _add_foreign(self, source: Source, load) -> None:
        try:
            module = load()
        except Exception as error:
            self.failures.append(Failure(source, f"{type(error).__name__}: {error}"))
            return
        try:
            self.add(module, source)
        except DuplicateModelError:
            raise
        except Exception as error:
            self.failures.append(Failure(source, f"{type(error).__name__}: {error}"))

    def _check(self, kind: str, plugin, source: Source) -> tuple[str, ModelPlugin]:
        if not isinstance(plugin, ModelPlugin):
            raise PluginError(
                f"The hook {KINDS[kind].hook} of {source} must yield ModelPlugin "
                f"objects, not {type(plugin).__name__}."
            )
        return kind, plugin

    def _refuse_duplicate(self, kind: str, plugin: ModelPlugin, source: Source) -> None:
        other = self._models[kind].get(plugin.name)
        if other is not None:
            raise DuplicateModelError(
                f"The {kind} model {plugin.name!r} is offered by both {other.source} "
                f"and {source}: uninstall one of them, or name its entry point in "
                "DIALS_DIFFUSE_DISABLE."
            )


class DuplicateModelError(PluginError):
    """Two plug-ins offer a model of the same kind and name."""


def _plugin_name(plugin) -> str:
    return getattr(plugin, "__name__", type(plugin).__name__)


def _words(text: str) -> list[str]:
    return [word for word in (w.strip() for w in text.split(",")) if word]


def _import_unpackaged(word: str) -> ModuleType:
    if not word.endswith(".py"):
        return importlib.import_module(word)
    path = Path(word).resolve()
    name = f"diffuse_user_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def fingerprint(chosen: Iterable[RegisteredModel]) -> tuple[tuple[str, ...], ...]:
    """What identifies the models of a run: equal means equal results."""
    return tuple(sorted(model.fingerprint() for model in chosen))
