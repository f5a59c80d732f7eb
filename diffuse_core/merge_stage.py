"""Merging: folders of observations, or merged tables, to one merged table.

The table is written range of voxels by range, so memory does not depend on the number
of observations; see `diffuse_core.reduction`.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from diffuse_core import boundary
from diffuse_core.collection import Collection, collect
from diffuse_core.combine import combine_files
from diffuse_core.errors import ConfigError, InputError
from diffuse_core.grid import Grid
from diffuse_core.io.files import merged_file
from diffuse_core.merging import (
    MergingPlan,
    Part,
    merge_rows,
    prepared,
    with_tolerance,
)
from diffuse_core.reduction import Reduction, no_progress
from diffuse_core.scale_model import ScaleModel
from diffuse_core.symmetry import UniqueVoxels

logger = logging.getLogger("dials.diffuse")


SAMPLE = 300_000
"""Observations from which the tolerance of the test of outliers is estimated."""


@dataclass(frozen=True, eq=False)
class Symmetry:
    """What voxels are averaged over.

    Attributes:
        name: "laue", "anomalous" or "P1".
        space_group: cctbx space group that the merged table names.
        operators: (3, 3) integer matrices R, equivalents are index @ R; None where
            voxels are not averaged.
    """

    name: str
    space_group: object
    operators: list[np.ndarray] | None

    @property
    def unique(self) -> UniqueVoxels:
        """Maps voxels to their representatives."""
        if self.operators is None:
            return UniqueVoxels()
        return UniqueVoxels(np.array(self.operators))


@dataclass(frozen=True, eq=False)
class Merging:
    """What was done.

    Attributes:
        symmetry: What the table was averaged over.
        provenance: As in the file.
        outliers: How many observations were tested, too high, too low; None if none
            was tested.
    """

    symmetry: Symmetry
    provenance: dict
    outliers: dict | None = None


def symmetry_of_merging(grid: Grid, space_group, merging) -> Symmetry:
    """As the user says; P1 where Laue groups do not act on the grid's axes.

    Args:
        grid: The voxels.
        space_group: That of the experiments (cctbx).
        merging: Extracted `merging` scope.

    Raises:
        ConfigError: Axes that the group mixes have unequal steps.
    """
    if merging.space_group is not None:
        space_group = merging.space_group.group()
    if merging.symmetry == "P1" or grid.frame != "hkl":
        return Symmetry("P1", space_group, None)
    return averaging(merging.symmetry, grid, space_group)


def averaging(name: str, grid: Grid, space_group) -> Symmetry:
    """Symmetry by its name; see `symmetry_of_merging`."""
    if name == "P1":
        return Symmetry(name, space_group, None)
    for i, j in sorted(boundary.mixed_axes(space_group)):
        if grid.steps[i] != grid.steps[j]:
            raise ConfigError(
                f"The divisions of {grid.axes[i]} and {grid.axes[j]} differ, but the "
                f"Laue group of {space_group.info()} turns one axis into the other: "
                "make them equal, or set merging.symmetry=P1."
            )
    if name == "laue":
        return Symmetry(name, space_group, boundary.laue_operators(space_group))
    return Symmetry(name, space_group, boundary.point_operators(space_group))


def open_reduction(
    folders: Sequence[str] | Collection,
    merging,
    scratch: str | Path = ".",
    reindex: Mapping[str, str] | None = None,
) -> tuple[Reduction, Symmetry]:
    """The observations of some folders, with the symmetry that the user asks for.

    Args:
        folders: Folders of observations.
        merging: Extracted `merging` scope.
        scratch: Where temporary files go.
        reindex: As of `Reduction`.

    Raises:
        InputError: A folder is incomplete, or the folders do not fit together.
        ConfigError: The grid can't be averaged over the Laue group.
    """
    found = folders if isinstance(folders, Collection) else collect(folders)
    group = boundary.space_group_of_hall(found.space_group)
    symmetry = symmetry_of_merging(found.grid, group, merging)
    reduction = Reduction(found, symmetry.unique, reindex, merging.memory, scratch)
    return reduction, symmetry


def merge_folders(
    folders: Sequence[str],
    merging,
    path: str | Path,
    nproc: int = 1,
    notes: dict | None = None,
    progress: Callable[[int, int], None] = no_progress,
) -> Merging:
    """Merges observations into a file.

    Args:
        folders: Folders of observations.
        merging: Extracted `merging` scope.
        path: The merged table to write.
        nproc: Processes.
        notes: Goes into the provenance.
        progress: As in `Reduction.map`.

    Raises:
        InputError: A folder is incomplete, the folders do not fit together or to the
            scales, or nothing was measured.
        ConfigError: The grid can't be averaged over the Laue group.
    """
    scratch = Path(path).resolve().parent
    scratch.mkdir(parents=True, exist_ok=True)
    found = collect(folders)
    scales = read_scales(merging.scales, found)
    group = boundary.space_group_of_hall(found.space_group)
    symmetry = symmetry_of_merging(found.grid, group, merging)
    provenance = {
        **found.provenance,
        **(notes or {}),
        "sources": _record_of(found),
        "scales": scales and _scales_record(merging.scales),
    }
    tested = scales is not None and merging.outliers == "poisson"
    plan = MergingPlan(
        grid=found.grid,
        sources=found.sources,
        scales=scales,
        outlier_probability=merging.outlier_probability if tested else None,
        halves=tuple(merging.half_sets),
        seed=merging.seed,
        min_pixels=merging.min_pixels,
        about={
            "unit_cell": boundary.mean_cell(found.cells, symmetry.space_group),
            "space_group": symmetry.space_group.type().hall_symbol(),
            "symmetry": symmetry.name,
        },
    )
    reindex = scales.reindex if scales else None
    arguments = (found, symmetry.unique, reindex, merging.memory, scratch)
    with Reduction(*arguments) as reduction:
        if tested:
            fraction = min(1.0, SAMPLE / max(reduction.rows, 1))
            plan = with_tolerance(plan, reduction.sample(fraction, merging.seed, nproc))
        parts = reduction.map(prepared, merge_rows, plan, nproc, progress)
        figures = _write(path, provenance, parts)
    figures["tolerance"] = plan.tolerance
    if tested:
        _say_outliers(figures)
    return Merging(symmetry, provenance, figures if tested else None)


def _write(path: str | Path, provenance: dict, parts: Iterable[Part]) -> dict:
    """Writes the parts; how many rows were tested for outliers and left out."""
    figures = {"tested": 0, "high": 0, "low": 0}
    measured = 0
    with merged_file(path, provenance) as append:
        for part in parts:
            append(part.merged, part.outliers)
            measured += len(part.merged)
            figures["tested"] += part.tested
            if part.outliers:
                high = int(part.outliers["high"].sum())
                figures["high"] += high
                figures["low"] += len(part.outliers["high"]) - high
        if not measured:
            raise InputError(
                "No voxel was measured: the masks leave no pixel, or "
                "merging.min_pixels is too large."
            )
    return figures


def _say_outliers(figures: dict) -> None:
    logger.info(
        "Of %d observations that could be tested, %d too high and %d too low ones were "
        "left out (%.3f %%)",
        figures["tested"],
        figures["high"],
        figures["low"],
        100 * (figures["high"] + figures["low"]) / max(figures["tested"], 1),
    )


def combine_tables(
    paths: Sequence[str],
    merging,
    path: str | Path,
    notes: dict | None = None,
    progress: Callable[[int, int], None] = no_progress,
) -> Merging:
    """Combines merged tables into a file; arguments and errors as of `merge_folders`.

    They are averaged over what they were merged in, whatever `merging` says.
    """
    head, provenance = combine_files(
        *(paths, path, merging.min_pixels, merging.seed, merging.memory),
        *(notes, progress),
    )
    logger.info(
        "Merged tables are combined as they are: symmetry %s, space group %s",
        head.symmetry,
        head.space_group,
    )
    group = boundary.space_group_of_hall(head.space_group)
    return Merging(averaging(head.symmetry, head.grid, group), provenance)


def merge(names: Sequence[str], *arguments, **options) -> Merging:
    """Merges folders of observations, or combines merged tables.

    Raises:
        InputError: There are both.
    """
    files = [name for name in names if Path(name).is_file()]
    if not files:
        return merge_folders(names, *arguments, **options)
    if len(files) < len(names):
        raise InputError(
            f"{files[0]} is a file, and other inputs are folders: give folders of "
            "observations, or merged tables, but not both."
        )
    options.pop("nproc", None)
    return combine_tables(files, *arguments, **options)


def read_scales(path: str | None, found: Collection) -> ScaleModel | None:
    """The scaling model in a file, for the experiments of some folders."""
    if path is None:
        return None
    model = ScaleModel.read(path).matched(found.sources)
    if model.reindex and found.grid.frame != "hkl":
        logger.warning(
            "The scales reindex %d experiments, which a grid that is not in Miller "
            "indices can't follow",
            len(model.reindex),
        )
        return replace(model, reindex={})
    return model


def _scales_record(path: str) -> dict:
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return {"path": os.path.abspath(path), "sha256": digest}


def _record_of(found: Collection) -> list[dict]:
    """The experiments, for the provenance."""
    return [
        {
            "identifier": source.identifier,
            "folder": os.path.abspath(source.folder),
            "number": source.number,
            "still": source.still,
            "phi": list(source.phi),
            "images": list(images),
            "blocks": sum(file.source == number for file in found.files),
        }
        for number, (source, images) in enumerate(
            zip(found.sources, found.images, strict=True)
        )
    ]
