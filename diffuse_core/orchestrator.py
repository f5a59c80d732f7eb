"""The stages in order: the only place that knows it.

experiments -> plan -> blocks -> observations -> merged -> map
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from iotbx.phil import parse

from diffuse_core import boundary, config, inputs
from diffuse_core.compat import oscillation_width
from diffuse_core.errors import ConfigError, InputError, PluginError
from diffuse_core.grid import Grid
from diffuse_core.integrate import Integrator, Models
from diffuse_core.io.provenance import file_record, provenance
from diffuse_core.merge import Merged, Merger
from diffuse_core.models import RunInputs
from diffuse_core.observations import (
    Observations,
    read_meta,
    read_observations,
    write_observations,
)
from diffuse_core.parallel import run_tasks
from diffuse_core.plan import (
    Block,
    ImageSource,
    PanelCache,
    make_blocks,
    shared_images,
    used_experiments,
)
from diffuse_core.registry import Registry, fingerprint

logger = logging.getLogger("dials.diffuse")

RUN_FILE = "run.json"


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
        PluginError: The models here are not those of the main process.
    """

    def __init__(self, spec: RunSpec, registry: Registry | None = None) -> None:
        registry = registry or Registry.discover()
        scope = config.master_scope(registry, (), config.INTEGRATE_KINDS)
        params = config.extract(scope, spec.phil)
        found = chosen_fingerprint(registry, params)
        if found != spec.fingerprint:
            raise PluginError(
                "A worker process found other plug-ins than the main process: install "
                f"the same versions everywhere ({_difference(found, spec.fingerprint)})."
            )
        self.spec = spec
        experiments, reflections = inputs.load(spec.experiments, spec.reflections)
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
        self._integrator = Integrator(self.models, self._panels)

    def finished(self, block: Block) -> dict | None:
        """What was counted in a block whose file is there, of the same inputs and
        parameters; None if it must be integrated."""
        path = block_path(self.spec.folder, block)
        try:
            meta = read_meta(path)
            if meta["signature"] != self._signature(block):
                return None
            return {**meta["tally"], "file": path.name}
        except (InputError, KeyError, ValueError):
            return None

    def integrate(self, block: Block) -> dict:
        """Observations of one block, written to its file; what was counted."""
        path = block_path(self.spec.folder, block)
        columns, tally = self._integrator.integrate_block(
            self.inputs.setups[block.experiment], self._source.exposures(block)
        )
        tally["observations"] = len(columns["key"])
        tally["counts"] = float(columns["counts"].sum())
        experiment = self.inputs.experiments[block.experiment]
        crystal = experiment.crystal
        meta = {
            "signature": self._signature(block),
            "tally": tally,
            "grid": self.models.mapper.grid.to_dict(),
            "block": [block.number, block.experiment, block.start, block.stop],
            "identifier": experiment.identifier,
            "unit_cell": list(crystal.get_unit_cell().parameters()),
            "space_group": crystal.get_space_group().type().hall_symbol(),
            "provenance": self.spec.provenance,
        }
        write_observations(path, Observations(columns, meta))
        return {**tally, "file": path.name}

    def _signature(self, block: Block) -> str:
        images = self.inputs.experiments[block.experiment].imageset
        paths = {images.get_path(i) for i in range(block.start, block.stop)}
        record = {
            "block": [block.experiment, block.start, block.stop],
            "images": [file_record(path) for path in sorted(paths)],
            "phil": self.spec.phil,
            "models": self.spec.fingerprint,
            "program": self.spec.provenance["program"],
            "inputs": self.spec.provenance["inputs"],
        }
        text = json.dumps(record, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


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


def integrate(
    registry: Registry,
    spec: RunSpec,
    params,
    progress: Callable[[int, int], None],
) -> dict:
    """Images to observations: one file per block and `run.json` in the folder.

    Args:
        registry: The plug-ins.
        spec: What to do, as text.
        params: Extracted working PHIL with `input`, `block` and `parallel`.
        progress: Called with (images done, images in all) after every block.

    Returns:
        Figures of the summary.
    """
    run = Run(spec, registry)
    experiments = run.inputs.experiments
    symmetry_of(experiments)
    numbers = used_experiments(experiments, params.input.crystals)
    blocks = make_blocks(
        experiments, numbers, params.block.width, params.input.image_range
    )
    _say_what(run, numbers, blocks)
    Path(spec.folder).mkdir(parents=True, exist_ok=True)
    run_file = Path(spec.folder) / RUN_FILE
    run_file.unlink(missing_ok=True)
    for stale in Path(spec.folder).glob(".block_*.tmp"):
        stale.unlink(missing_ok=True)
    nproc = 1 if params.parallel.engine == "serial" else params.parallel.nproc
    total = sum(b.stop - b.start for b in blocks)
    figures = dict.fromkeys(("images", "pixels", "used", "observations", "counts"), 0)
    files = []

    def note(tally: dict) -> None:
        files.append(tally["file"])
        for name in figures:
            figures[name] += tally[name]

    waiting = []
    for block in blocks:
        tally = run.finished(block)
        if tally is None:
            waiting.append(block)
        else:
            note(tally)
    reused = figures["images"]
    if reused:
        logger.info("%d images were integrated by an earlier run", reused)
    if nproc > 1:
        results = run_tasks(Run, Run.integrate, spec, waiting, nproc)
    else:
        results = run_tasks(lambda _: run, Run.integrate, spec, waiting, 1)
    for tally in results:
        note(tally)
        progress(figures["images"] - reused, total - reused)
    for old in Path(spec.folder).glob("block_*.h5"):
        if old.name not in files:
            old.unlink()
    record = {
        **figures,
        "reused": reused,
        "experiments": len(numbers),
        "blocks": len(blocks),
    }
    temporary = run_file.with_name(f".{RUN_FILE}.{os.getpid()}.tmp")
    temporary.write_text(
        json.dumps({"figures": record, "files": sorted(files)}, indent=1)
    )
    os.replace(temporary, run_file)
    return record


def _say_what(run: Run, numbers: Sequence[int], blocks: Sequence[Block]) -> None:
    experiments = run.inputs.experiments
    stills = sum(boundary.is_still(experiments[n]) for n in numbers)
    logger.info(
        "%d experiment%s (%d scan%s, %d still%s), %d panel%s, %d image%s in %d block%s",
        *_plural(len(numbers)),
        *_plural(len(numbers) - stills),
        *_plural(stills),
        *_plural(len(experiments[numbers[0]].detector)),
        *_plural(sum(b.stop - b.start for b in blocks)),
        *_plural(len(blocks)),
    )
    crowded = [g for g in shared_images(experiments).values() if len(g) > 1]
    if crowded:
        logger.info(
            "%d image set%s hold several crystals: each crystal gets the pixels that "
            "the Bragg masks of all of them keep; the other crystals' diffuse "
            "scattering stays in as a background",
            *_plural(len(crowded)),
        )
    if boundary.lacks_exposure([experiments[n] for n in numbers]):
        logger.warning("Images without an exposure time: 1 s is taken for them")
    for n in numbers:
        if oscillation_width(experiments[n].scan) < 0:
            raise InputError(
                f"Experiment {n} has a negative oscillation width: import the images "
                "again with the rotation axis reversed and a positive width."
            )


def _plural(n: int) -> tuple[int, str]:
    return n, "" if n == 1 else "s"


def symmetry_of(experiments):
    """The space group that all experiments share (cctbx space group).

    Raises:
        InputError: They differ.
    """
    groups = [e.crystal.get_space_group() for e in experiments if e.crystal is not None]
    for number, group in enumerate(groups):
        if group != groups[0]:
            raise InputError(
                f"Experiment 0 has space group {groups[0].info()}, experiment {number} "
                f"{group.info()}: bring them to one setting first (dials.reindex)."
            )
    return groups[0] if groups else None


def check_grid(grid: Grid, space_group) -> None:
    """Refuses a grid that the Laue group would turn into another.

    Raises:
        ConfigError: Axes that the group mixes have unequal steps.
    """
    for i, j in sorted(boundary.mixed_axes(space_group)):
        if grid.steps[i] != grid.steps[j]:
            raise ConfigError(
                f"The divisions of {grid.axes[i]} and {grid.axes[j]} differ, but the "
                f"Laue group of {space_group.info()} turns one axis into the other: "
                "make them equal, or set merging.symmetry=P1."
            )


def merge_folders(
    folders: Sequence[str], params
) -> tuple[Merged, list[np.ndarray] | None, dict]:
    """Observations to the merged table.

    Args:
        folders: Folders of `integrate`.
        params: Extracted working PHIL with `merging`.

    Returns:
        The table, the Laue operators that map it to the rest of space (None: not
        averaged), provenance of the observations.

    Raises:
        InputError: A folder is incomplete, or the folders do not fit together.
        ConfigError: The grid can't be averaged over the Laue group.
    """
    files = [path for folder in folders for path in _block_files(folder)]
    first = read_meta(files[0])
    grid = Grid.from_dict(first["grid"])
    space_group = _merging_group(params, first["space_group"])
    averaged = params.merging.symmetry == "laue" and grid.frame == "hkl"
    unique = None
    if averaged:
        check_grid(grid, space_group)

        def unique(index):
            return boundary.to_asymmetric_unit(space_group, index)

    merger = Merger(unique)
    cells = []
    for path in files:
        table = read_observations(path)
        meta = table.meta
        if meta["grid"] != first["grid"]:
            raise InputError(
                f"{path} is on another grid than {files[0]}: integrate all data with "
                "the same mapping."
            )
        if meta["space_group"] != first["space_group"]:
            raise InputError(
                f"{path} has another space group than {files[0]}: bring all "
                "experiments to one setting first (dials.reindex)."
            )
        cells.append(meta["unit_cell"])
        merger.add(table)
    merged = merger.result(
        grid,
        params.merging.min_pixels,
        unit_cell=boundary.mean_cell(cells, space_group),
        space_group=space_group.type().hall_symbol(),
        symmetry="laue" if averaged else "P1",
    )
    if not len(merged):
        raise InputError(
            "No voxel was measured: the masks leave no pixel, or merging.min_pixels "
            "is too large."
        )
    operators = boundary.laue_operators(space_group) if averaged else None
    return merged, operators, first["provenance"]


def _merging_group(params, hall: str):
    own = boundary.space_group_of_hall(hall)
    if params.merging.space_group is None:
        return own
    return params.merging.space_group.group()


def _block_files(folder: str) -> list[Path]:
    path = Path(folder)
    if not path.is_dir():
        raise InputError(
            f"The folder {folder} does not exist: run dials.diffuse_integrate first."
        )
    try:
        names = json.loads((path / RUN_FILE).read_text())["files"]
    except (OSError, ValueError, KeyError):
        raise InputError(
            f"The folder {folder} holds no complete set of observations: run "
            "dials.diffuse_integrate (again), which continues where it stopped."
        ) from None
    return [path / name for name in names]


def _difference(found, expected) -> str:
    differing = sorted(set(found) ^ set(expected))
    return ", ".join(f"{m[0]} {m[1]} of {m[2]} {m[3]}" for m in differing)
