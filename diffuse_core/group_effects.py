"""What each experiment and each block does for CC1/2 of a merged table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffuse_core.completeness import shells_of
from diffuse_core.grid import indices_of
from diffuse_core.half_sets import half_of
from diffuse_core.leave_out import GroupEffect, LeaveOut
from diffuse_core.merge import Merged
from diffuse_core.merged_statistics import SHELLS, at_lattice_points
from diffuse_core.rows import Rows, Source
from diffuse_core.scale_model import Scales
from diffuse_core.statistics import shell_numbers, spherical_average

MOST_GROUPS = 20_000
"""Groups are not told apart where there are more: six sums by shell for each."""


@dataclass(frozen=True)
class Effect:
    """The effect of one experiment or block.

    Attributes:
        source: Its experiment.
        block: Number of the block in its run, None for the whole experiment.
        effect: What it does.
    """

    source: int
    block: int | None
    effect: GroupEffect


def row_weights(
    rows: Rows, scales: Scales | None, expected: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """w and w y, (n,) each, of every row, as `estimator.voxel_sums` adds them up.

    Args:
        rows: The observations.
        scales: B, G and C; None for the ratio of sums.
        expected: (n,) I0 that predicts variances, where there are scales.
    """
    if scales is None:
        return rows.exposure, rows.counts - rows.background
    x = rows.exposure * scales.path * scales.crystal
    constant = rows.exposure * scales.path * scales.offset
    background = np.maximum(rows.background, 0.0) + rows.background_variance
    rest = (constant + background) / x**2
    w = 1.0 / (expected / x + rest)
    return w, w * (rows.counts - rows.background - constant) / x


def group_effects(
    rows: Rows,
    sources: Sequence[Source],
    merged: Merged,
    weights: tuple[np.ndarray, np.ndarray],
    seed: int,
) -> dict[str, list[Effect]]:
    """Name ("experiment", "block") -> the effects of all, where there are several.

    CC1/2 is that of random halves of the anisotropic part, between lattice points: the
    mean over shells of the merged table.

    Args:
        rows: Whole voxels, all or a sample.
        sources: The experiments that `rows.source` counts in.
        merged: The merged table: gives the shells and the spherical average.
        weights: `row_weights`.
        seed: Of the random halves.
    """
    s = merged.grid.s_norm(merged.index, merged.unit_cell)
    between = ~at_lattice_points(merged.grid, merged.index)
    if not between.any():
        return {}
    average = spherical_average(s[between], merged.intensity[between])
    index = indices_of(rows.key[rows.starts[:-1]])
    here = merged.grid.s_norm(index, merged.unit_cell)
    shell = shell_numbers(here, shells_of(s, SHELLS))
    shell[at_lattice_points(merged.grid, index)] = -1
    half = half_of(rows, "random", seed, sources)
    pairs = rows.source.astype(np.int64) << 32 | rows.block
    of_block, block = np.unique(pairs, return_inverse=True)
    n_experiments = len(np.unique(rows.source))
    found: dict[str, list[Effect]] = {}
    for name, group, count in (
        ("experiment", rows.source, len(sources) if n_experiments > 1 else 0),
        ("block", block, len(of_block) if len(of_block) > n_experiments else 0),
    ):
        if not 1 < count <= MOST_GROUPS:
            continue
        out = LeaveOut(count, SHELLS)
        out.add(rows, half, group, *weights, shell, average(here))
        found[name] = [
            Effect(effect.group, None, effect)
            if name == "experiment"
            else Effect(
                int(of_block[effect.group] >> 32),
                int(of_block[effect.group] & 0xFFFFFFFF),
                effect,
            )
            for effect in out.effects()
        ]
    return found
