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


@dataclass(frozen=True, eq=False)
class Question:
    """In which of several settings each experiment is.

    Attributes:
        names: Identifiers of the experiments, two or more.
        operators: Text such as "k,h,-l" -> (3, 3) int64, hkl' = matrix @ hkl; two or
            more, the identity first.
        space_group: cctbx space group whose Laue group merges them.
        lattice: (m, 3, 3) int64: all operators of the lattice, index @ R.
    """

    names: list[str]
    operators: dict[str, np.ndarray]
    space_group: Any
    lattice: np.ndarray

    @property
    def laue(self) -> UniqueVoxels:
        return UniqueVoxels(np.array(boundary.laue_operators(self.space_group)))


def question(
    found: Collection, space_group, max_delta: float = MAX_DELTA
) -> Question | None:
    """What is to be decided; None if the lattice has no more symmetry than the Laue
    group, or if there is one experiment only.

    Args:
        found: Folders of observations.
        space_group: cctbx space group whose Laue group merges them.
        max_delta: See `diffuse_core.lattice`.
    """
    names = _names(found)
    if found.grid.frame != "hkl" or len(names) < 2:
        return None
    cell = boundary.mean_cell(found.cells, space_group)
    operators = _possible(ambiguities(cell, space_group, max_delta), found.grid)
    if len(operators) < 2:
        return None
    logger.info(
        "The lattice can be indexed in %d ways: %s",
        len(operators),
        "; ".join(operators),
    )
    lattice = lattice_operators(cell, space_group, max_delta)
    return Question(names, operators, space_group, lattice)


def by_maps(asked: Question, found: Collection, seed: int = 0) -> Ambiguity:
    """The settings in which the diffuse maps agree best.

    Args:
        asked: Of these folders.
        found: Folders of observations.
        seed: Of the choice of voxels, where there are too many observations.
    """
    names, operators = asked.names, asked.operators
    logger.info("Comparing the diffuse maps of %d experiments", len(names))
    lattice = UniqueVoxels(_group(asked.lattice))
    crystal, key, columns = _chosen(found, names, lattice, seed, len(operators))
    maps = make_maps(crystal, key, columns, asked.laue, list(operators.values()))
    advice = "Give dials.diffuse_scale their integrated reflections too"
    return answer(asked, choose(maps), "diffuse scattering", advice)


def answer(
    asked: Question, choices: Sequence[Choice], by: str, advice: str
) -> Ambiguity:
    """The answer, said in the log.

    Args:
        asked: The question.
        choices: One for each of its experiments.
        by: What they were compared by.
        advice: What helps those that can't be decided.
    """
    operators = list(asked.operators)
    _say(asked.names, choices, by, advice)
    pairs = list(zip(asked.names, choices, strict=True))
    return Ambiguity(
        {name: operators[c.operator] for name, c in pairs if c.operator},
        {
            "operators": operators,
            "by": by,
            "experiments": [_record(name, c, operators) for name, c in pairs],
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


def _say(names: Sequence[str], choices: Sequence[Choice], by: str, advice: str) -> None:
    doubtful = [n for n, c in zip(names, choices, strict=True) if not c.decided]
    logger.info(
        "%d of %d experiments are reindexed",
        sum(choice.operator > 0 for choice in choices),
        len(choices),
    )
    if doubtful:
        logger.warning(
            "The indexing of %d of %d experiments can't be decided from their %s, and "
            "they stay as they are: %s%s. %s, or leave them out",
            len(doubtful),
            len(names),
            by,
            ", ".join(name or "one without identifier" for name in doubtful[:5]),
            " ..." if len(doubtful) > 5 else "",
            advice,
        )
