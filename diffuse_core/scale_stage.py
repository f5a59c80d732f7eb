"""Scaling: folders of observations to a scaling model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from diffuse_core import boundary, config
from diffuse_core.ambiguity_stage import Ambiguity, by_maps, question
from diffuse_core.bragg_ambiguity import Bragg, by_bragg
from diffuse_core.collection import collect
from diffuse_core.errors import ConfigError, DiffuseError
from diffuse_core.kept_experiments import EXPERIMENTS, experiments_of
from diffuse_core.merge_stage import open_reduction
from diffuse_core.models import RunInputs
from diffuse_core.reduction import no_progress
from diffuse_core.registry import Registry
from diffuse_core.rows import Rows
from diffuse_core.scale_model import ScaleModel
from diffuse_core.scaling import Options, fit_scales

logger = logging.getLogger("dials.diffuse")

FOR_COSYM = 500
"""Experiments beyond which auto asks the maps: dials.cosym takes about 6 minutes for
these, four times as long for twice as many."""


def scale(
    registry: Registry,
    folders: Sequence[str],
    params,
    nproc: int = 1,
    progress: Callable[[int, int], None] = no_progress,
    notes: dict | None = None,
    bragg: Bragg | None = None,
) -> ScaleModel:
    """The scaling model of some folders of observations.

    Args:
        registry: The plug-ins.
        folders: Folders of observations.
        params: Extracted working PHIL with `scaling` and `merging`.
        nproc: Processes that read observations.
        progress: Called with (trials of smoothness done, expected).
        notes: Goes into the provenance.
        bragg: Reflections by which indexing ambiguities are decided.

    Raises:
        InputError: The folders are incomplete or do not fit together.
        ConfigError: A component can't be used.
    """
    found = collect(folders)
    experiments = experiments_of(found.sources)
    run = RunInputs(experiments, None, boundary.setups_of(experiments))
    names = [m.plugin.name for m in config.selected(registry, params, "scaling")]
    components = config.build_models(registry, params, run, "scaling")
    ambiguity = _ambiguity(found, experiments, params, bragg)
    rows = _sample(found, params, nproc, ambiguity.reindex)
    logger.info(
        "Scaling by %s, fitted to %d of %d observations",
        ", ".join(names) or "nothing",
        len(rows),
        sum(file.rows for file in found.files),
    )
    scaling = params.scaling
    options = Options(
        seed=scaling.seed,
        outliers=scaling.outlier_probability if scaling.outliers == "poisson" else 0.0,
    )
    named = list(zip(names, components, strict=True))
    fitted = fit_scales(rows, found.sources, named, options, progress)
    return replace(
        fitted.model,
        reindex=ambiguity.reindex,
        figures={**fitted.model.figures, "ambiguity": ambiguity.figures},
        provenance={**found.provenance, **(notes or {})},
    )


def _ambiguity(found, experiments, params, bragg: Bragg | None) -> Ambiguity:
    way = params.scaling.ambiguity
    if way == "none":
        return Ambiguity()
    given = bragg is not None and bragg.reflections
    if way == "cosym" and not given:
        raise ConfigError(
            "scaling.ambiguity=cosym needs reflections: give the .refl files of "
            "dials.integrate too."
        )
    group = boundary.space_group_of_hall(found.space_group)
    if params.merging.space_group is not None:
        group = params.merging.space_group.group()
    asked = question(found, group)
    if asked is None:
        return Ambiguity()
    if given and way == "auto" and len(asked.names) > FOR_COSYM:
        logger.info(
            "dials.cosym would take long for %d experiments, so the diffuse maps "
            "decide; scaling.ambiguity=cosym runs it all the same",
            len(asked.names),
        )
    elif given and way != "maps":
        folders = sorted({source.folder for source in found.sources})
        kept = [Path(folder) / EXPERIMENTS for folder in folders]
        try:
            return by_bragg(asked, experiments, kept, bragg)
        except DiffuseError as error:
            if way == "cosym":
                raise
            logger.warning("%s The diffuse maps decide instead.", error)
    return by_maps(asked, found, params.scaling.seed)


def _sample(found, params, nproc: int, reindex: Mapping[str, str]) -> Rows:
    reduction, _ = open_reduction(found, params.merging, reindex=reindex)
    with reduction:
        part = min(1.0, params.scaling.observations / max(reduction.rows, 1))
        return reduction.sample(part, params.scaling.seed, nproc)
