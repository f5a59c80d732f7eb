"""Holds every model that plug-ins offer, by kind and name."""

from __future__ import annotations

import copy
import difflib
import hashlib
import importlib
import inspect
import json
import os
import sys
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pluggy

import diffuse_core
from diffuse_core import hookspecs, models
from diffuse_core.descriptors import KINDS, ModelPlugin, ReportItem
from diffuse_core.discovery import GROUP, Candidate, Source, candidates, reason
from diffuse_core.errors import ConfigError, DiffuseError, PluginError
from diffuse_core.model_phil import model_scope

BUILT_IN = "dials-diffuse"
"""Distribution of the models that come with the program."""

_MARK = f"{hookspecs.PROJECT}_impl"
_HASHES: weakref.WeakKeyDictionary[ModuleType, str] = weakref.WeakKeyDictionary()

__all__ = [
    "GROUP",
    "DuplicateModelError",
    "Failure",
    "RegisteredModel",
    "Registry",
    "Source",
    "fingerprint",
]


class DuplicateModelError(PluginError):
    """Two plug-ins offer a model of the same kind and name."""


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

    def __str__(self) -> str:
        return f"{self.kind} model {self.plugin.name!r} of {self.source}"

    def factory(self) -> type[models.Model]:
        """The model's class, imported now.

        Raises:
            PluginError: It can't be imported, or isn't a model of its kind.
        """
        contracts = self._contracts()
        factory = self.plugin.load()
        if not (inspect.isclass(factory) and issubclass(factory, contracts)):
            raise PluginError(f"The {self} must be a subclass of {_either(contracts)}.")
        return factory

    def build(self, params, run: models.RunInputs) -> models.Model:
        """The model, made from its own PHIL scope.

        Raises:
            PluginError: The class can't be used, or its `from_params` fails with an
                error that isn't a `DiffuseError`.
        """
        factory = self.factory()
        try:
            model = factory.from_params(params, run)
        except DiffuseError:
            raise
        except Exception as error:
            raise PluginError(
                f"The {self} can't be built ({reason(error)}): correct its parameters, "
                "or tell its authors."
            ) from error
        contracts = self._contracts()
        if not isinstance(model, contracts):
            raise PluginError(
                f"from_params of the {self} must return an instance of "
                f"{_either(contracts)}, not {type(model).__name__}."
            )
        return model

    def fingerprint(self) -> tuple[str, str, str, str, str]:
        """(kind, name, distribution, version, hash of the model's source).

        The hash is that of the file that defines the class, and of the plug-in's whole
        package if it is one; not of what they import from elsewhere. It is taken once
        in the life of a module, so a process that lives on while the files change does
        not pass off the code that it runs as the new one.
        """
        module = sys.modules[self.plugin.load().__module__]
        if module not in _HASHES:
            _HASHES[module] = _hash_of(module, sys.modules.get(self.source.module))
        return (
            self.kind,
            self.plugin.name,
            self.source.distribution,
            self.source.version,
            _HASHES[module],
        )

    def _contracts(self) -> tuple[type, ...]:
        contract = getattr(models, KINDS[self.kind].contract)
        if self.kind == "background":
            return (contract, models.IntensityBackground)
        return (contract,)


class Registry:
    """All models by kind and name.

    Attributes:
        failures: Third-party plug-ins that couldn't be used.
    """

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self._models: dict[str, dict[str, RegisteredModel]] = {k: {} for k in KINDS}
        self._plugins: list[tuple[Source, object, pluggy.PluginManager]] = []

    @classmethod
    def discover(cls, environ: Mapping[str, str] = os.environ) -> Registry:
        """Built-in models, those of installed distributions and those of the user.

        Args:
            environ: `DIALS_DIFFUSE_PLUGINS` names modules or .py files, separated by
                commas; `DIALS_DIFFUSE_DISABLE` names entry points or distributions to
                leave out.

        Raises:
            PluginError: Two plug-ins offer the same model, or a built-in is broken.
        """
        from diffuse_core.plugins import BUILTIN

        registry = cls()
        for name in BUILTIN:
            registry.add(
                importlib.import_module(name),
                Source(name, BUILT_IN, diffuse_core.__version__),
            )
        for candidate in candidates(environ):
            registry._try(candidate)
        return registry

    def add(self, module: ModuleType | object, source: Source) -> None:
        """Takes in all models of one plug-in, or none; a second time does nothing.

        Args:
            module: Module, or object, whose functions are marked with `hookimpl`.
            source: Where it came from.

        Raises:
            PluginError: The plug-in breaks the contract or repeats a name.
        """
        if any(module is known for _, known, _ in self._plugins):
            return
        manager = _manager(module, source)
        found = [
            RegisteredModel(kind, plugin, source)
            for kind in KINDS
            for plugin in _listed(manager, KINDS[kind].hook, source)
        ]
        for i, model in enumerate(found):
            self._check(model, found[:i])
        for model in found:
            self._models[model.kind][model.plugin.name] = model
        self._plugins.append((source, module, manager))

    def models(self, kind: str) -> list[RegisteredModel]:
        """The models of a kind, sorted by name."""
        return [self._models[kind][name] for name in sorted(self._models[kind])]

    def scopes(self, kind: str) -> list[tuple[ModelPlugin, object]]:
        """The models of a kind with their PHIL scopes, includes resolved.

        A third-party model whose includes fail is dropped and becomes a failure.

        Raises:
            PluginError: The scope of a built-in model can't be made.
        """
        found = []
        for model in self.models(kind):
            try:
                found.append((model.plugin, model_scope(model.plugin)))
            except PluginError as error:
                if model.source.distribution == BUILT_IN:
                    raise
                del self._models[kind][model.plugin.name]
                self.failures.append(Failure(model.source, str(error)))
        return found

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
            broken = "; ".join(
                f"{f.source}: {f.reason.rstrip('.')}" for f in self.failures
            )
            text += f"; these plug-ins failed to load: {broken}"
        return text + "."

    def report_sections(self, run: dict) -> list[ReportItem]:
        """The report items of all plug-ins; one that fails becomes a text.

        Args:
            run: The figures of the run; each plug-in gets a copy.
        """
        items = []
        for source, _, manager in self._plugins:
            try:
                items += _report_items(manager, copy.deepcopy(run))
            except Exception as error:
                items.append(
                    ReportItem(
                        title=f"Report of {source}",
                        content=f"This part of the report failed: {reason(error)}",
                    )
                )
        return items

    def _try(self, candidate: Candidate) -> None:
        try:
            self.add(candidate.load(), candidate.source)
        except DuplicateModelError:
            raise
        except (Exception, SystemExit) as error:
            self.failures.append(Failure(candidate.source, reason(error)))

    def _check(self, model: RegisteredModel, before: list[RegisteredModel]) -> None:
        """Refuses what would break every run, whether or not the model is selected."""
        if model.source.distribution != BUILT_IN:
            model_scope(model.plugin, includes=False)
        kind, name = model.kind, model.plugin.name
        if any((other.kind, other.plugin.name) == (kind, name) for other in before):
            raise PluginError(f"The {model} is offered twice.")
        other = self._models[kind].get(name)
        if other is not None:
            raise DuplicateModelError(
                f"The {kind} model {name!r} is offered by both {other.source} and "
                f"{model.source}: uninstall one of them, or leave one out by naming "
                "its distribution in DIALS_DIFFUSE_DISABLE."
            )
        if model.plugin.default and KINDS[kind].choose == "one":
            for other in [*self.models(kind), *before]:
                if other.kind == kind and other.plugin.default:
                    raise PluginError(
                        f"The {model} can't be the default: {other.plugin.name!r} of "
                        f"{other.source} is."
                    )


def _hash_of(module: ModuleType, package: ModuleType | None) -> str:
    files = {Path(getattr(module, "__file__", None) or "")}
    for folder in getattr(package, "__path__", ()):
        files.update(Path(folder).rglob("*.py"))
    code = b"".join(path.read_bytes() for path in sorted(files) if path.is_file())
    return hashlib.sha256(code).hexdigest()[:12]


def fingerprint(chosen: Iterable[RegisteredModel]) -> tuple[tuple[str, ...], ...]:
    """What identifies the models of a run: equal means equal results."""
    return tuple(sorted(model.fingerprint() for model in chosen))


def _either(contracts: tuple[type, ...]) -> str:
    return " or ".join(f"diffuse_core.models.{c.__name__}" for c in contracts)


def _manager(module: ModuleType | object, source: Source) -> pluggy.PluginManager:
    """A plug-in manager with this one plug-in, so none can disturb another."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    hooks = [name for name in vars(hookspecs) if name.startswith("diffuse_")]
    for name in hooks:
        function = getattr(module, name, None)
        if function is not None and not hasattr(function, _MARK):
            raise PluginError(f"{name} of {source} isn't marked with @hookimpl.")
    try:
        manager.register(module, name=str(source))
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(
            f"A hook of {source} can't be used ({' '.join(str(error).split())}); the "
            f"hooks are {', '.join(hooks)}."
        ) from error
    callers = manager.get_hookcallers(module)
    if not callers:
        raise PluginError(
            f"{source} has no function that is marked with @hookimpl, so it offers "
            "nothing."
        )
    for caller in callers:
        if any(implementation.kwargnames for implementation in caller.get_hookimpls()):
            raise PluginError(
                f"{caller.name} of {source} has an argument with a default: it would "
                "never be passed."
            )
    return manager


def _listed(
    manager: pluggy.PluginManager, hook_name: str, source: Source
) -> list[ModelPlugin]:
    hook = getattr(manager.hook, hook_name)
    if not hook.get_hookimpls():
        return []
    results = hook()
    if not results or isinstance(results[0], ModelPlugin):
        raise PluginError(
            f"{hook_name} of {source} must yield, or return a list of, ModelPlugin "
            "objects."
        )
    found = list(results[0])
    for plugin in found:
        if not isinstance(plugin, ModelPlugin):
            raise PluginError(
                f"{hook_name} of {source} must yield ModelPlugin objects, not "
                f"{type(plugin).__name__}."
            )
    return found


def _report_items(manager: pluggy.PluginManager, run: dict) -> list[ReportItem]:
    items = []
    for result in manager.hook.diffuse_report_sections(run=run):
        for item in result:
            if not isinstance(item, ReportItem):
                raise PluginError(
                    "diffuse_report_sections must yield ReportItem objects, not "
                    f"{type(item).__name__}."
                )
            json.dumps(item.content)
            items.append(item)
    return items
