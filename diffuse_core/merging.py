"""Rows of whole voxels to rows of the merged table: the work on one range of keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from diffuse_core.errors import InputError
from diffuse_core.estimator import voxel_sums
from diffuse_core.grid import Grid
from diffuse_core.half_sets import half_of
from diffuse_core.merge import Merged, finish
from diffuse_core.rows import Rows, Source
from diffuse_core.scale_model import ScaleModel, Scales


@dataclass(frozen=True, eq=False)
class MergingPlan:
    """What a worker needs to merge.

    Attributes:
        grid: The voxels.
        sources: The experiments that `Rows.source` counts in.
        scales: B, G, C and I0, for these sources (`ScaleModel.matched`); None: the
            ratio of sums.
        halves: Kinds of half sets to keep sums of.
        seed: Of the half sets.
        min_pixels: Voxels with fewer pixels are left out.
        about: unit_cell, space_group, symmetry of `Merged`.
    """

    grid: Grid
    sources: list[Source]
    scales: ScaleModel | None = None
    halves: tuple[str, ...] = ()
    seed: int = 0
    min_pixels: int = 1
    about: dict[str, Any] = field(default_factory=dict)


def prepared(plan: MergingPlan) -> MergingPlan:
    """The plan: workers need nothing more."""
    return plan


def merge_rows(plan: MergingPlan, rows: Rows) -> Merged:
    """The merged table of the voxels in some rows.

    Raises:
        InputError: The scales predict an intensity that isn't above 0.
    """
    evaluated = None
    if plan.scales is not None:
        scales: Scales = plan.scales.evaluate(rows)
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
    return finish(
        rows.key[rows.starts[:-1]],
        sums,
        plan.grid,
        plan.min_pixels,
        "ratio" if plan.scales is None else "weighted",
        **plan.about,
    )
