"""One run as text and file names, and as experiments and models in a process."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from iotbx.phil import parse

from diffuse_core import boundary, config, inputs
from diffuse_core.chunk import IMAGES
from diffuse_core.errors import InputError, PluginError
from diffuse_core.integrate import Integrator
from diffuse_core.io.image_files import files_of
from diffuse_core.io.provenance import file_record, program, provenance
from diffuse_core.memory import reuse_freed_memory, worker_memory
from diffuse_core.models import RunInputs
from diffuse_core.observations import phi_range, read_meta, write_parts
from diffuse_core.panels import Models
from diffuse_core.plan import (
    READS_AHEAD,
    Block,
    ImageSource,
    PanelCache,
    check_experiments,
)
from diffuse_core.registry import Registry, fingerprint


@dataclass(frozen=True)
class RunSpec:
    """All that a worker needs to rebuild the run: text and file names.

    Attributes:
        experiments, reflections: Paths of the input files.
        phil: Working PHIL of the models, `config.INTEGRATE_KINDS`.
        folder: Where block files go.
        fingerprint: Of the models, as the main process found them.
        provenance: Goes into every block file.
    """

    experiments: tuple[str, ...]
    reflections: tuple[str, ...]
    phil: str
    folder: str
    fingerprint: tuple[tuple[str, ...], ...]
    provenance: dict


class Run:
    """Experiments, models and block files of one run, in this process.

    Raises:
        PluginError: The programs or models here are not those of the main process.
    """

    def __init__(self, spec: RunSpec, registry: Registry | None = None) -> None:
        versions = program()
        if versions != {name: spec.provenance[name] for name in versions}:
            found = ", ".join(f"{name} {value}" for name, value in versions.items())
            raise PluginError(
                f"A worker process found other programs than the main process ({found}"
                "): install the same versions everywhere, and start workers anew that "
                "ran before a change."
            )
        reuse_freed_memory()
        registry = registry or Registry.discover()
        scope = config.master_scope(registry, (), config.INTEGRATE_KINDS)
        params = config.extract(scope, spec.phil)
        found = chosen_fingerprint(registry, params)
        if found != spec.fingerprint:
            raise PluginError(
                "A worker process found other plug-ins than the main process "
                f"({_difference(found, spec.fingerprint)}): install the same versions "
                "everywhere, and start workers anew that ran before a change."
            )
        self.spec = spec
        experiments, reflections = inputs.load(spec.experiments, spec.reflections)
        check_experiments(experiments)
        self.inputs = RunInputs(
            experiments, reflections, boundary.setups_of(experiments)
        )
        by_kind = {
            kind: config.build_models(registry, params, self.inputs, kind)
            for kind in config.INTEGRATE_KINDS
        }
        self.models = Models(
            by_kind["mask"],
            by_kind["correction"],
            by_kind["background"],
            by_kind["mapping"][0],
        )
        self._panels = PanelCache(self.inputs, self.models)
        self._source = ImageSource(self.inputs, self.models.mapper.oversample[2])
        self._identity = _hash(
            spec.phil,
            spec.fingerprint,
            versions,
            spec.provenance["inputs"],
        )
        self._integrator = Integrator(self.models, self._panels, spec.folder)

    def finished(self, block: Block) -> dict | None:
        """What was counted in a block whose file is there, of the same inputs and
        parameters; None if it must be integrated."""
        path = block_path(self.spec.folder, block)
        try:
            meta = read_meta(path)
            if meta["signature"] != self._signature(block):
                return None
            return {**meta["tally"], "written": path.name}
        except (InputError, KeyError, ValueError):
            return None

    def memory(self, blocks: Sequence[Block]) -> int:
        """Bytes that a worker needs at most, see `memory.worker_memory`."""
        detectors = [e.detector for e in self.inputs.experiments]
        largest = max(detectors, key=boundary.image_size)
        return worker_memory(
            [panel.get_image_size() for panel in largest],
            max(block.stop - block.start for block in blocks),
            IMAGES,
            ahead=READS_AHEAD,
            background=bool(self.models.backgrounds),
            kept=self._source.kept,
        )

    def integrate_all(self, blocks: Sequence[Block]) -> list[tuple[Block, dict]]:
        """Each of these blocks and what was counted in it."""
        return [(block, self.integrate(block)) for block in blocks]

    def integrate(self, block: Block) -> dict:
        """Observations of one block, written to its file; what was counted."""
        path = block_path(self.spec.folder, block)
        signature = self._signature(block)
        rows, tally = self._integrator.integrate_rows(
            self.inputs.setups[block.experiment],
            self._source.exposures(block),
            self._source.images(block),
            self._source.earlier(block),
        )
        tally |= {"observations": 0, "counts": 0.0}
        phi: list[float] = []

        def parts() -> Iterator[dict]:
            for columns in rows.parts():
                tally["observations"] += len(columns["key"])
                tally["counts"] += float(columns["counts"].sum())
                phi.extend(phi_range(columns["phi"]) or ())
                yield columns

        experiment = self.inputs.experiments[block.experiment]
        crystal = experiment.crystal

        def meta() -> dict:
            return {
                "signature": signature,
                "run": self._identity,
                "tally": tally,
                "grid": self.models.mapper.grid.to_dict(),
                "block": [block.number, block.experiment, block.start, block.stop],
                "identifier": experiment.identifier,
                "still": boundary.is_still(experiment),
                "phi": phi_range(np.array(phi)),
                "unit_cell": list(crystal.get_unit_cell().parameters()),
                "space_group": crystal.get_space_group().type().hall_symbol(),
                "provenance": self.spec.provenance,
            }

        write_parts(path, parts(), meta)
        return {**tally, "written": path.name}

    def _signature(self, block: Block) -> str:
        images = self.inputs.experiments[block.experiment].imageset
        paths = {images.get_path(i) for i in range(block.start, block.stop)}
        files = [name for path in sorted(paths) for name in files_of(path)]
        return _hash(
            self._identity,
            [block.experiment, block.start, block.stop, block.first],
            [file_record(name) for name in files],
        )


def chosen_fingerprint(registry: Registry, params) -> tuple[tuple[str, ...], ...]:
    """Fingerprint of all models that the parameters select."""
    return fingerprint(
        model
        for kind in config.INTEGRATE_KINDS
        for model in config.selected(registry, params, kind)
    )


def block_path(folder: str | os.PathLike, block: Block) -> Path:
    return Path(folder) / f"block_{block.number:06d}.h5"


def make_spec(
    registry: Registry,
    params,
    working,
    files: tuple[Sequence[str], Sequence[str]],
) -> RunSpec:
    """The run as text and file names.

    Args:
        registry: The plug-ins.
        params: Extracted working PHIL.
        working: The working PHIL, a libtbx scope.
        files: .expt files, .refl files.
    """
    experiments, reflections = (tuple(map(os.path.abspath, part)) for part in files)
    found = chosen_fingerprint(registry, params)
    models = parse("")
    models.objects = [o for o in working.objects if o.name in config.INTEGRATE_KINDS]
    phil = models.as_str()
    extra = [p for p in config.path_values(phil) if os.path.isfile(p)]
    return RunSpec(
        experiments=experiments,
        reflections=reflections,
        phil=phil,
        folder=os.path.abspath(params.output.observations),
        fingerprint=found,
        provenance=provenance(
            working.as_str(), found, [*experiments, *reflections, *extra]
        ),
    )


def _hash(*parts) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _difference(found, expected) -> str:
    differing = sorted(set(found) ^ set(expected))
    return ", ".join(f"{m[0]} {m[1]} of {m[2]} {m[3]}" for m in differing)
