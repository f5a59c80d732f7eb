"""Rows of whole voxels to rows of the merged table: the work on one range of keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from diffuse_core.errors import InputError
from diffuse_core.estimator import voxel_sums
from diffuse_core.grid import Grid
from diffuse_core.half_sets import half_of
from diffuse_core.merge import Merged, finish
from diffuse_core.outliers import Found, find_outliers
from diffuse_core.rows import Rows, Source, select_rows
from diffuse_core.scale_model import ScaleModel, Scales

OUTLIER_COLUMNS = ("key", "source", "block", "panel", "counts", "phi", "x", "y", "s")


@dataclass(frozen=True, eq=False)
class MergingPlan:
    """What a worker needs to merge.

    Attributes:
        grid: The voxels.
        sources: The experiments that `Rows.source` counts in.
        scales: B, G, C and I0, for these sources (`ScaleModel.matched`); None: the
            ratio of sums.
        outlier_probability: Of a good observation to be left out; None: all are used.
        tolerance: Relative difference of mates beyond chance, for the test of outliers.
        halves: Kinds of half sets to keep sums of.
        seed: Of the half sets.
        min_pixels: Voxels with fewer pixels are left out.
        about: unit_cell, space_group, symmetry of `Merged`.
    """

    grid: Grid
    sources: Sequence[Source]
    scales: ScaleModel | None = None
    outlier_probability: float | None = None
    tolerance: float | None = None
    halves: tuple[str, ...] = ()
    seed: int = 0
    min_pixels: int = 1
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Part:
    """Some voxels of a merged table.

    Attributes:
        merged: The voxels.
        outliers: Rows that were left out: `OUTLIER_COLUMNS`, and bool "high".
        tested: How many rows were tested for being outliers.
    """

    merged: Merged
    outliers: dict[str, np.ndarray]
    tested: int


def prepared(plan: MergingPlan) -> MergingPlan:
    """The plan: workers need nothing more."""
    return plan


def outliers_of(plan: MergingPlan, rows: Rows) -> tuple[Scales, Found]:
    """Scales of rows, and the outliers among them; `plan.scales` isn't None."""
    scales = plan.scales.evaluate(rows)
    found = find_outliers(
        rows, scales, plan.scales.expected, plan.outlier_probability, plan.tolerance
    )
    return scales, found


def merge_rows(plan: MergingPlan, rows: Rows) -> Part:
    """The merged table of the voxels in some rows.

    Raises:
        InputError: The scales predict an intensity that isn't above 0.
    """
    left_out: dict[str, np.ndarray] = {}
    tested = 0
    evaluated = None
    if plan.scales is not None:
        if plan.outlier_probability is None:
            scales = plan.scales.evaluate(rows)
        else:
            scales, found = outliers_of(plan, rows)
            left_out, tested = _listed(rows, found), found.tested
            if not found.keep.all():
                rows = select_rows(rows, found.keep)
                scales = Scales(
                    *(getattr(scales, f.name)[found.keep] for f in fields(Scales))
                )
        expected = plan.scales.expected(rows.s)
        if not (expected > 0).all():
            raise InputError(
                "The expected intensity of the scales is not above 0 everywhere: run "
                "dials.diffuse_scale again."
            )
        evaluated = (scales.crystal, scales.path, scales.offset, expected)
    sums = voxel_sums(
        rows.starts,
        (
            rows.counts,
            rows.exposure,
            rows.background,
            rows.background_variance,
            rows.pixels,
        ),
        evaluated,
        {kind: half_of(rows, kind, plan.seed, plan.sources) for kind in plan.halves},
    )
    merged = finish(
        rows.key[rows.starts[:-1]],
        sums,
        plan.grid,
        plan.min_pixels,
        "ratio" if plan.scales is None else "weighted",
        **plan.about,
    )
    return Part(merged, left_out, tested)


def with_tolerance(plan: MergingPlan, sample: Rows) -> MergingPlan:
    """The plan with a tolerance that a sample of voxels shows.

    It is found once, so that what is an outlier doesn't depend on the ranges of keys in
    which the data are merged.
    """
    _, found = outliers_of(plan, sample)
    return replace(plan, tolerance=found.tolerance)


def _listed(rows: Rows, found: Found) -> dict[str, np.ndarray]:
    out = ~found.keep
    return {
        **{name: getattr(rows, name)[out] for name in OUTLIER_COLUMNS},
        "high": found.upward[out],
    }
