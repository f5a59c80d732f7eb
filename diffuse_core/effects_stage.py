"""The effect of each experiment and block on merged data, from their observations."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields

from diffuse_core import boundary
from diffuse_core.collection import collect
from diffuse_core.group_effects import Effect, group_effects, row_weights
from diffuse_core.merge import Merged
from diffuse_core.merge_stage import read_scales, symmetry_of_merging
from diffuse_core.merging import MergingPlan, outliers_of
from diffuse_core.reduction import Reduction
from diffuse_core.report.figures import estimate
from diffuse_core.rows import Source, select_rows
from diffuse_core.scale_model import Scales

logger = logging.getLogger("dials.diffuse")

SAMPLE = 4_000_000
"""Observations to look at: the voxels of larger data are sampled."""

SIGNIFICANT = 4.0
LISTED = 10


def effects_of_groups(folders: Sequence[str], merging, merged: Merged) -> dict:
    """What every experiment and block does for CC1/2, as JSON can hold it.

    The worst ones are named in the log.

    Args:
        folders: Folders of observations.
        merging: Extracted `merging` scope that they were merged with.
        merged: The merged table.
    """
    found = collect(folders)
    scales = read_scales(merging.scales, found)
    group = boundary.space_group_of_hall(found.space_group)
    symmetry = symmetry_of_merging(found.grid, group, merging)
    reindex = scales.reindex if scales else None
    with Reduction(found, symmetry.unique, reindex, merging.memory) as reduction:
        fraction = min(1.0, SAMPLE / max(reduction.rows, 1))
        rows = reduction.sample(fraction, merging.seed)
    values = expected = None
    if scales is not None and merging.outliers == "poisson":
        plan = MergingPlan(
            found.grid, found.sources, scales, merging.outlier_probability
        )
        values, outliers = outliers_of(plan, rows)
        rows = select_rows(rows, outliers.keep)
        values = Scales(
            *(getattr(values, f.name)[outliers.keep] for f in fields(Scales))
        )
    elif scales is not None:
        values = scales.evaluate(rows)
    if scales is not None:
        expected = scales.expected(rows.s)
    weights = row_weights(rows, values, expected)
    effects = group_effects(rows, found.sources, merged, weights, merging.seed)
    figures = {
        name: [_record(effect, found.sources) for effect in all_of_name]
        for name, all_of_name in effects.items()
    }
    for name, records in figures.items():
        _say_worst(name, records)
    return figures


def _record(effect: Effect, sources: Sequence[Source]) -> dict:
    source = sources[effect.source]
    name = f"experiment {source.number} of {source.folder}"
    if effect.block is not None:
        name = f"block {effect.block}, {name}"
    return {
        "name": name,
        "identifier": source.identifier,
        "folder": source.folder,
        "experiment": source.number,
        "block": effect.block,
        "observations": effect.effect.rows,
        "voxels": effect.effect.voxels,
        **estimate("delta_cc_half", effect.effect.delta),
    }


def _say_worst(name: str, records: Sequence[dict]) -> None:
    """Names the groups without which CC1/2 would be significantly better."""
    bad = []
    for record in records:
        delta, bounds = record["delta_cc_half"], record["delta_cc_half_bounds"]
        if delta is not None and delta < -SIGNIFICANT * (bounds[1] - delta):
            bad.append(record)
    if not bad:
        return
    bad.sort(key=lambda record: record["delta_cc_half"])
    logger.warning(
        "CC1/2 of the anisotropic part would be better without %d of %d %ss:\n%s",
        len(bad),
        len(records),
        name,
        "\n".join(f"  {r['name']}: {-r['delta_cc_half']:+.4f}" for r in bad[:LISTED]),
    )
