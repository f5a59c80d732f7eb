"""The stages in order: the only place that knows it.

experiments -> plan -> blocks -> observations -> merged -> map
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from diffuse_core import boundary
from diffuse_core.errors import ConfigError, InputError
from diffuse_core.grid import Grid
from diffuse_core.merge import Merged, Merger
from diffuse_core.observations import (
    RUN_FILE,
    block_files,
    read_meta,
    read_observations,
)
from diffuse_core.parallel import run_tasks
from diffuse_core.plan import Block, make_blocks, shared_images, used_experiments
from diffuse_core.registry import Registry
from diffuse_core.run import Run, RunSpec

logger = logging.getLogger("dials.diffuse")


def integrate(
    registry: Registry,
    spec: RunSpec,
    params,
    progress: Callable[[int, int], None],
    merging=None,
) -> dict:
    """Images to observations: one file per block and `run.json` in the folder.

    Args:
        registry: The plug-ins.
        spec: What to do, as text.
        params: Extracted working PHIL with `input`, `block` and `parallel`.
        progress: Called with (images done, images in all) after every block.
        merging: Extracted `merging` scope where merging will follow: a grid that
            can't be merged so is refused before anything is integrated.

    Returns:
        Figures of the summary.
    """
    run = Run(spec, registry)
    experiments = run.inputs.experiments
    space_group = symmetry_of(experiments)
    if merging is not None:
        _unique_indices(run.models.mapper.grid, space_group, merging)
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
        files.append(tally["written"])
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
    files = [path for folder in folders for path in block_files(folder)]
    first = read_meta(files[0])
    grid = Grid.from_dict(first["grid"])
    space_group = boundary.space_group_of_hall(first["space_group"])
    space_group, unique = _unique_indices(grid, space_group, params.merging)
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
        symmetry="P1" if unique is None else "laue",
    )
    if not len(merged):
        raise InputError(
            "No voxel was measured: the masks leave no pixel, or merging.min_pixels "
            "is too large."
        )
    operators = None if unique is None else boundary.laue_operators(space_group)
    return merged, operators, first["provenance"]


def _unique_indices(grid: Grid, space_group, merging):
    """The space group to merge in, and what maps voxels to their representatives.

    The latter is None where voxels are not averaged: as the user says, or since the
    Laue group does not act on the grid's axes.
    """
    if merging.space_group is not None:
        space_group = merging.space_group.group()
    if merging.symmetry != "laue" or grid.frame != "hkl":
        return space_group, None
    check_grid(grid, space_group)

    def unique(index: np.ndarray) -> np.ndarray:
        return boundary.to_asymmetric_unit(space_group, index)

    return space_group, unique
