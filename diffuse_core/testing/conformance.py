"""Whether a plug-in keeps the contracts of `diffuse_core.models`."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from scipy import sparse

from diffuse_core import config
from diffuse_core.descriptors import KINDS, ModelPlugin
from diffuse_core.errors import DiffuseError
from diffuse_core.geometry import PanelGeometry
from diffuse_core.model_phil import model_scope
from diffuse_core.models import Image, Model, RunInputs
from diffuse_core.registry import RegisteredModel, Registry, Source
from diffuse_core.testing.calls import Call, calls_of
from diffuse_core.testing.synthetic import N_PANELS, make_geometry, make_image, make_run


def check_plugin(
    module: ModuleType | object,
    *,
    phil: Mapping[str, str] | None = None,
    run: RunInputs | None = None,
    geometries: Sequence[PanelGeometry] | None = None,
    images: Sequence[Image] | None = None,
) -> list[Model]:
    """Every model that a plug-in module offers, made and checked.

    Args:
        module: The module with the hooks.
        phil: Parameters by name of the model, for models that need some.
        run: Experiments and reflections; default: `make_run()`.
        geometries: Panels to try; default: those of `make_geometry`.
        images: Images to try; default: some of `make_image`.

    Raises:
        AssertionError: The plug-in can't be registered, offers no model, or a model
            breaks its contract; the message names the model and what is wrong.
    """
    name = getattr(module, "__name__", type(module).__name__)
    registry = Registry()
    try:
        registry.add(module, Source(name, "plug-in under test", ""))
    except DiffuseError as error:
        raise AssertionError(str(error)) from error
    models = [model for kind in KINDS for model in registry.models(kind)]
    if not models:
        raise AssertionError(f"{name} offers no model.")
    phil = dict(phil or {})
    checked = [
        check_model(
            model.plugin,
            model.kind,
            phil=phil.pop(model.plugin.name, ""),
            run=run,
            geometries=geometries,
            images=images,
        )
        for model in models
    ]
    if phil:
        raise AssertionError(f"{name} offers no model {', '.join(sorted(phil))}.")
    return checked


def check_model(
    plugin: ModelPlugin,
    kind: str,
    *,
    phil: str = "",
    run: RunInputs | None = None,
    geometries: Sequence[PanelGeometry] | None = None,
    images: Sequence[Image] | None = None,
) -> Model:
    """The model, made from its PHIL and checked.

    Args:
        plugin: The descriptor.
        kind: One of `diffuse_core.descriptors.KINDS`.
        phil: Parameters in the model's own scope, for a model that needs some.
        run: Experiments and reflections; default: `make_run()`.
        geometries: Panels to try; default: those of `make_geometry`.
        images: Images to try; default: some of `make_image`.

    Raises:
        AssertionError: The model breaks its contract; the message names it.
    """
    label = f"The {kind} model {plugin.name!r}"
    run = make_run() if run is None else run
    if geometries is None:
        geometries = [make_geometry(panel) for panel in range(N_PANELS)]
    if images is None:
        images = [
            make_image(0),
            make_image(7),
            make_image(7, counts=False),
            make_image(still=True),
        ]
    inputs = [
        getattr(geometry, name)
        for geometry in geometries
        for name in ("s", "s_norm", "direction", "two_theta")
    ] + [array for image in images for array in (image.to_hkl, *image.counts)]
    before = copy.deepcopy(inputs)
    params = _params(label, plugin, phil)
    model = _build(label, plugin, kind, params, run)
    calls = list(calls_of(model, geometries, images))
    results, first = [], []
    for call in calls:
        results.append(_result(label, call))
        first.append(copy.deepcopy(results[-1]))
    for call, result, expected in zip(calls, results, first, strict=True):
        if not _equal(result, expected):
            raise AssertionError(
                f"{label}: an array that {call.what} had returned is changed by later "
                "calls; return a new one."
            )
    others = {
        "a second call": calls,
        "a call of the pickled model": calls_of(
            _pickled(label, model), geometries, images
        ),
        "a call of the same model made again": calls_of(
            _build(label, plugin, kind, params, run), geometries, images
        ),
    }
    for how, again in others.items():
        for call, expected in zip(again, first, strict=True):
            if not _equal(_result(label, call), expected):
                raise AssertionError(
                    f"{label}: {how} gives another result, {call.what}."
                )
    if not _equal(inputs, before):
        raise AssertionError(f"{label} changes its inputs.")
    return model


def _params(label: str, plugin: ModelPlugin, phil: str) -> Any:
    for item in model_scope(plugin, includes=False).all_definitions():
        definition = item.object
        if definition.name != "include" and not (definition.type and definition.help):
            raise AssertionError(
                f"{label}: the parameter {item.path} needs a .type and a .help."
            )
    master = config.parse("")
    master.adopt(model_scope(plugin))
    params = config.extract(master, f"{plugin.name} {{\n{phil}\n}}")
    text = master.format(params).as_str()
    if master.format(config.extract(master, text)).as_str() != text:
        raise AssertionError(f"{label}: its parameters change when written and read.")
    return getattr(params, plugin.name)


def _build(
    label: str, plugin: ModelPlugin, kind: str, params: Any, run: RunInputs
) -> Model:
    source = Source(str(plugin.factory), "plug-in under test", "")
    try:
        return RegisteredModel(kind, plugin, source).build(params, run)
    except DiffuseError as error:
        raise AssertionError(f"{label} can't be made: {error}") from error


def _pickled(label: str, model: Model) -> Model:
    try:
        return pickle.loads(pickle.dumps(model))
    except Exception as error:
        raise AssertionError(f"{label} can't be pickled ({error}).") from error


def _result(label: str, call: Call) -> Any:
    try:
        value = call.run()
        call.check(value)
    except AssertionError as error:
        raise AssertionError(f"{label}: {call.what} {error}.") from error
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if "read-only" in text:
            text += "; inputs belong to the core: work on a copy"
        raise AssertionError(f"{label}: {call.what} fails ({text}).") from error
    return value


def _equal(one: Any, other: Any) -> bool:
    """Whether two results are the same, bit by bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if sparse.issparse(one):
        return one.shape == other.shape and not (one != other).nnz
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    if dataclasses.is_dataclass(one):
        return all(
            _equal(getattr(one, f.name), getattr(other, f.name))
            for f in dataclasses.fields(one)
        )
    return one == other
