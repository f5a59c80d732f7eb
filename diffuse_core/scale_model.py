"""A fitted scaling model: B, G and C of any observation, and its file.

The file is text (JSON): each component with the class of its basis, the fields that
make it again, and its parameters.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffuse_core.errors import InputError
from diffuse_core.models import Basis
from diffuse_core.rows import Rows, Source

FORMAT = "dials.diffuse scales 1"
SMALLEST = 0.01
"""Factors below, relative to their mean of 1, count as this."""

_CHUNK = 200_000


@dataclass(frozen=True, eq=False)
class Scales:
    """B, G and C of observations: (n,) float64 each."""

    crystal: np.ndarray
    path: np.ndarray
    offset: np.ndarray


@dataclass(frozen=True, eq=False)
class Curve:
    """A function of s (1/A), straight between nodes, constant outside."""

    s: np.ndarray
    values: np.ndarray

    def __call__(self, s: np.ndarray) -> np.ndarray:
        """(n,) float64."""
        return np.interp(s, self.s, self.values)


@dataclass(frozen=True, eq=False)
class FittedComponent:
    """One component and its parameters.

    Attributes:
        name: Name of the model.
        role, columns, exponential: As in `ScalingComponent`.
        used: Indices of the sources that it applies to.
        basis: Its basis.
        parameters: (n_parameters,) float64.
        smoothness: Size of the penalised combinations that was used.
    """

    name: str
    role: str
    columns: tuple[str, ...]
    exponential: bool
    used: tuple[int, ...]
    basis: Basis
    parameters: np.ndarray
    smoothness: float

    def value(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n,) float64: a factor, or for role "offset" an intensity.

        Args:
            columns: Columns of the observations, "source" counting in the model's.
        """
        n = len(columns["source"])
        neutral = 0.0 if self.role == "offset" else 1.0
        result = np.full(n, neutral)
        use = np.isin(columns["source"], self.used)
        points = np.column_stack([columns[c][use] for c in self.columns])
        value = self.basis.basis(points.astype(float)) @ self.parameters
        result[use] = np.exp(value) if self.exponential else value
        return result


@dataclass(frozen=True, eq=False)
class ScaleModel:
    """B, G and C as functions of where and when an observation was made.

    Attributes:
        sources: The experiments that were scaled.
        components: In the order of `scaling.components`.
        pedestal: f(s), intensity: B f(s) is added to C. Symmetry mates can't tell it
            from -f(s) in all intensities, so it is a convention (`gauge`).
        expected: Smooth intensity I0(s), > 0, from which variances are predicted.
        gauge: The conventions, in words.
        reindex: Identifier of an experiment -> operator such as "k,h,-l" that brings
            its indices to the common setting.
        figures: What the fit found; JSON-serialisable.
        provenance: Where it comes from.
        lookup: Rows' source -> index in `sources`; None: they are the same.
    """

    sources: tuple[Source, ...]
    components: tuple[FittedComponent, ...]
    pedestal: Curve
    expected: Curve
    gauge: tuple[str, ...] = ()
    reindex: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    lookup: np.ndarray | None = None

    def matched(self, sources: Sequence[Source]) -> ScaleModel:
        """The model for rows whose `source` counts in other sources.

        Experiments are the same if their identifiers are; where those are empty or
        repeated, if the folder and the number are.

        Raises:
            InputError: The model doesn't know an experiment.
        """
        names = [s.identifier for s in self.sources]
        lookup = []
        for source in sources:
            found = [i for i, name in enumerate(names) if name == source.identifier]
            if not source.identifier or len(found) != 1:
                found = [
                    i
                    for i, s in enumerate(self.sources)
                    if (s.folder, s.number) == (source.folder, source.number)
                ]
            if not found:
                raise InputError(
                    f"Experiment {source.number} of {source.folder} has no scale: run "
                    "dials.diffuse_scale on it together with the others."
                )
            lookup.append(found[0])
        return dataclasses.replace(self, lookup=np.array(lookup, np.int64))

    def evaluate(self, rows: Rows) -> Scales:
        """B, G and C of every row; see `matched` for rows of another reduction."""
        n = len(rows)
        scales = Scales(np.ones(n), np.ones(n), np.zeros(n))
        for start in range(0, n, _CHUNK):
            part = slice(start, start + _CHUNK)
            for c in self.components:
                columns = {
                    name: getattr(rows, name)[part] for name in {*c.columns, "source"}
                }
                if self.lookup is not None:
                    columns["source"] = self.lookup[columns["source"]]
                value = c.value(columns)
                if c.role == "offset":
                    scales.offset[part] += value
                elif c.role == "path":
                    scales.path[part] *= np.maximum(value, SMALLEST)
                else:
                    scales.crystal[part] *= np.maximum(value, SMALLEST)
        scales.offset[:] += scales.crystal * self.pedestal(rows.s)
        return scales

    def write(self, path: str | os.PathLike) -> None:
        """Writes the file whole or not at all."""
        record = {
            "format": FORMAT,
            "model": "E[n] = exposure * G * (B * I + C) + background",
            "gauge": list(self.gauge),
            "sources": [dataclasses.asdict(s) for s in self.sources],
            "components": [_component_record(c) for c in self.components],
            "pedestal": _curve_record(self.pedestal),
            "expected": _curve_record(self.expected),
            "reindex": dict(self.reindex),
            "figures": dict(self.figures),
            "provenance": dict(self.provenance),
        }
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(temporary, target)

    @classmethod
    def read(cls, path: str | os.PathLike) -> ScaleModel:
        """Raises InputError if the file isn't there or holds no scales, or a component
        comes from a plug-in that isn't installed."""
        try:
            record = json.loads(Path(path).read_text())
            if record["format"] != FORMAT:
                raise ValueError(record["format"])
        except FileNotFoundError as error:
            raise InputError(
                f"The file {path} does not exist: run dials.diffuse_scale first."
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"The file {path} holds no scales of dials.diffuse_scale."
            ) from error
        return cls(
            sources=tuple(
                Source(**{**s, "phi": tuple(s["phi"])}) for s in record["sources"]
            ),
            components=tuple(_component(path, c) for c in record["components"]),
            pedestal=_curve(record["pedestal"]),
            expected=_curve(record["expected"]),
            gauge=tuple(record["gauge"]),
            reindex=record["reindex"],
            figures=record["figures"],
            provenance=record["provenance"],
        )


def state_of(basis: Basis) -> dict[str, Any]:
    """The fields that make a basis again, as JSON holds them."""
    return {
        f.name: _plain(getattr(basis, f.name))
        for f in dataclasses.fields(basis)
        if f.init
    }


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _component_record(c: FittedComponent) -> dict[str, Any]:
    return {
        "name": c.name,
        "role": c.role,
        "columns": list(c.columns),
        "exponential": c.exponential,
        "used": list(c.used),
        "smoothness": c.smoothness,
        "class": f"{type(c.basis).__module__}:{type(c.basis).__qualname__}",
        "basis": state_of(c.basis),
        "parameters": c.parameters.tolist(),
    }


def _component(path, record: Mapping[str, Any]) -> FittedComponent:
    module, name = record["class"].split(":")
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"The scales in {path} have a component {record['name']!r} of {module}, "
            f"which can't be imported ({error}): install the plug-in."
        ) from error
    if not (isinstance(factory, type) and issubclass(factory, Basis)):
        raise InputError(
            f"The scales in {path} name {record['class']}, which is no basis."
        )
    return FittedComponent(
        name=record["name"],
        role=record["role"],
        columns=tuple(record["columns"]),
        exponential=record["exponential"],
        used=tuple(record["used"]),
        basis=factory(**record["basis"]),
        parameters=np.array(record["parameters"], float),
        smoothness=record["smoothness"],
    )


def _curve_record(curve: Curve) -> dict[str, list[float]]:
    return {"s": curve.s.tolist(), "values": curve.values.tolist()}


def _curve(record: Mapping[str, Any]) -> Curve:
    return Curve(np.array(record["s"], float), np.array(record["values"], float))
