"""Indexing ambiguity: folders of observations to an operator for each experiment."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffuse_core import boundary
from diffuse_core.ambiguity import Choice, choose, make_maps
from diffuse_core.collection import Collection
from diffuse_core.grid import Grid
from diffuse_core.lattice import MAX_DELTA, ambiguities, lattice_operators
from diffuse_core.observations import read_observations
from diffuse_core.reduction import hash_of
from diffuse_core.symmetry import UniqueVoxels

logger = logging.getLogger("dials.diffuse")

PLACES = 10_000_000
"""Observations times operators at most, for 1.2 GB of memory."""

_COLUMNS = ("counts", "background", "background_variance", "exposure", "s")


@dataclass(frozen=True, eq=False)
class Ambiguity:
    """How experiments were indexed.

    Attributes:
        reindex: Identifier of an experiment -> operator such as "k,h,-l" that brings
            its indices to the common setting; only those that need one.
        figures: For the log and the JSON file.
    """

    reindex: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)


def resolve(
    found: Collection, space_group, seed: int = 0, max_delta: float = MAX_DELTA
) -> Ambiguity:
    """The settings in which the diffuse maps of all experiments agree best.

    Nothing is read if the lattice has no more symmetry than the Laue group, or if there
    is one experiment only.

    Args:
        found: Folders of observations.
        space_group: cctbx space group whose Laue group merges them.
        seed: Of the choice of voxels, where there are too many observations.
        max_delta: See `diffuse_core.lattice`.
    """
    names = _names(found)
    if found.grid.frame != "hkl" or len(names) < 2:
        return Ambiguity()
    cell = boundary.mean_cell(found.cells, space_group)
    texts = ambiguities(cell, space_group, max_delta)
    operators = _possible(texts, found.grid)
    if len(operators) < 2:
        return Ambiguity()
    logger.info(
        "The lattice can be indexed in %d ways: %s. Comparing the diffuse maps of %d "
        "experiments",
        len(operators),
        "; ".join(operators),
        len(names),
    )
    lattice = UniqueVoxels(_group(lattice_operators(cell, space_group, max_delta)))
    crystal, key, columns = _chosen(found, names, lattice, seed, len(operators))
    laue = UniqueVoxels(np.array(boundary.laue_operators(space_group)))
    maps = make_maps(crystal, key, columns, laue, list(operators.values()))
    choices = choose(maps)
    _say(names, choices, list(operators))
    return Ambiguity(
        {
            name: list(operators)[choice.operator]
            for name, choice in zip(names, choices, strict=True)
            if choice.operator
        },
        {
            "operators": list(operators),
            "experiments": [
                _record(name, choice, list(operators))
                for name, choice in zip(names, choices, strict=True)
            ],
        },
    )


def _names(found: Collection) -> list[str]:
    """Identifiers; those without one can't be told apart if there are several."""
    names = [source.identifier for source in found.sources]
    if names.count("") > 1:
        logger.warning(
            "%d experiments have no identifier, so their indexing is not compared: "
            "import them with dials.import, which gives them one",
            names.count(""),
        )
        names = [name for name in names if name]
    return sorted(set(names))


def _possible(texts: Sequence[str], grid: Grid) -> dict[str, np.ndarray]:
    """Operators that turn voxels into voxels, and their matrices."""
    result = {}
    for text in texts:
        matrix = boundary.index_operator(text)
        if all(grid.steps[i] == grid.steps[j] for i, j in np.argwhere(matrix)):
            result[text] = matrix
        else:
            logger.warning(
                "Experiments may differ by the indexing operator %s, which can't be "
                "tested on voxels of unequal widths: integrate with equal "
                "mapping.hkl_grid.divisions on the axes that it mixes",
                text,
            )
    return result


def _group(operators: np.ndarray) -> np.ndarray:
    """The operators, if products of them are among them; else the identity.

    The operators of a lattice that lost some (see `lattice_operators`) may be no group.
    """
    there = {r.tobytes() for r in operators}
    closed = all((a @ b).tobytes() in there for a in operators for b in operators)
    return operators if closed else np.eye(3, dtype=np.int64)[None]


def _chosen(
    found: Collection, names: list[str], lattice: UniqueVoxels, seed: int, n: int
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Experiment, key, columns of observations: all of some orbits of the lattice."""
    fraction = PLACES / n / max(1, sum(file.rows for file in found.files))
    number = {name: i for i, name in enumerate(names)}
    parts = []
    for file in found.files:
        crystal = number.get(found.sources[file.source].identifier)
        if crystal is None:
            continue
        columns = read_observations(file.path).columns
        use = columns["exposure"] > 0
        if fraction < 1:
            use &= hash_of(lattice.keys(columns["key"])[0], seed) < fraction
        part = {name: columns[name][use] for name in ("key", *_COLUMNS)}
        part["crystal"] = np.full(len(part["key"]), crystal, np.int32)
        parts.append(part)
    whole = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    crystal, key = whole.pop("crystal"), whole.pop("key")
    return crystal, key, whole


def _record(name: str, choice: Choice, operators: list[str]) -> dict[str, Any]:
    return {
        "identifier": name,
        "operator": operators[choice.operator],
        "decided": choice.decided,
        "best": operators[choice.best],
        "cc": choice.cc if np.isfinite(choice.cc) else None,
        "next": operators[choice.next],
        "next_cc": choice.next_cc if np.isfinite(choice.next_cc) else None,
        "log_likelihood_ratio": choice.gain,
        "standard_errors": choice.lead,
        "voxels": choice.compared,
    }


def _say(names: list[str], choices: list[Choice], operators: list[str]) -> None:
    doubtful = [n for n, c in zip(names, choices, strict=True) if not c.decided]
    for name, choice in zip(names, choices, strict=True):
        logger.log(
            logging.INFO if choice.operator else logging.DEBUG,
            "Experiment %s: %s, CC %.3f (%s: %.3f), ahead by %.1f standard errors",
            name or "without identifier",
            operators[choice.operator] if choice.decided else "not decided",
            choice.cc,
            operators[choice.next],
            choice.next_cc,
            choice.lead,
        )
    logger.info(
        "%d of %d experiments are reindexed",
        sum(choice.operator > 0 for choice in choices),
        len(choices),
    )
    if doubtful:
        logger.warning(
            "The indexing of %d of %d experiments can't be decided from their diffuse "
            "scattering, and they stay as they are: %s%s. Bring all to one setting "
            "with dials.cosym before you integrate, or leave them out",
            len(doubtful),
            len(names),
            ", ".join(name or "one without identifier" for name in doubtful[:5]),
            " ..." if len(doubtful) > 5 else "",
        )
