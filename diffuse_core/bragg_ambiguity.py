"""Indexing ambiguity decided by dials.cosym from integrated reflections."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dials.array_family import flex  # noqa: F401  (registers the flex types)
from dxtbx import flumpy
from dxtbx.model import ExperimentList

from diffuse_core.ambiguity_stage import Ambiguity, Question, answer
from diffuse_core.bragg_agreement import confirmed
from diffuse_core.compat import load_experiments
from diffuse_core.errors import InputError
from diffuse_core.grid import keys_of
from diffuse_core.inputs import (
    EXPERIMENT_FILES,
    REFLECTION_FILES,
    load,
    load_reflections,
)
from diffuse_core.lattice import MAX_DELTA
from diffuse_core.raw_images.steps import Step, Steps

logger = logging.getLogger("dials.diffuse")

STEP = "ambiguity"
"""Names the files and the log in the folder of the programs of DIALS."""

PARTIALITY = 0.4
"""Reflections of less are left out, as by dials.cosym."""

NOT_WHOLE = 0.2
"""An operator with elements farther than this from whole numbers isn't one."""


@dataclass(frozen=True)
class Bragg:
    """What dials.cosym is to work with.

    Attributes:
        files: .expt and .refl files. Without .expt, the experiments of the
            observations.
        folder: For its files and log.
        user: Program -> PHIL text with the parameters that the user gave.
        nproc: Processes.
    """

    files: Sequence[str]
    folder: str
    user: Mapping[str, str] = field(default_factory=dict)
    nproc: int = 1

    @property
    def reflections(self) -> list[str]:
        return [name for name in self.files if name.endswith(REFLECTION_FILES)]

    @property
    def experiments(self) -> list[str]:
        return [name for name in self.files if name.endswith(EXPERIMENT_FILES)]


def by_bragg(
    asked: Question, observed, kept: Sequence[Path], bragg: Bragg
) -> Ambiguity:
    """The settings that dials.cosym finds, where the intensities confirm them.

    Args:
        asked: The question.
        observed: dxtbx ExperimentList: how the observations were indexed.
        kept: The files that hold them.
        bragg: The reflections.

    Raises:
        DiffuseError: The reflections can't be used, dials.cosym stopped, or nothing is
            decided.
    """
    experiments, table = _given(observed, bragg)
    logger.info(
        "Asking dials.cosym about the Bragg reflections of %d experiments",
        len(experiments),
    )
    steps = Steps(bragg.folder, bragg.user)
    paths = [steps.folder / f"{STEP}_input.{kind}" for kind in ("expt", "refl")]
    sources = {e.identifier: _setting(e.crystal) for e in observed if e.identifier}
    steps.once(
        f"{STEP}_input",
        [*kept, *map(Path, bragg.files)],
        paths,
        lambda: _write(experiments, table, paths),
    )
    text = (
        f'space_group = "{asked.space_group.info()}"\n'
        f"lattice_symmetry_max_delta = {MAX_DELTA}\n"
        f"nproc = {bragg.nproc}\n"
        "output.html = None\noutput.json = None\noutput.log = None\n"
    )
    outputs = {
        "output.experiments": f"{STEP}.expt",
        "output.reflections": f"{STEP}.refl",
    }
    result, _ = steps.run(Step(STEP, "cosym", paths, outputs, text, optional=True))
    changes = {
        e.identifier: np.linalg.inv(_setting(e.crystal)) @ sources[e.identifier]
        for e in load_experiments(str(result), check_format=False)
        if e.identifier in sources
    }
    chosen = chosen_operators(changes, asked)
    choices = _confirmed(asked, experiments, table, sources, chosen)
    if not any(choice.decided for choice in choices):
        raise InputError(
            "The Bragg reflections do not confirm the operators of dials.cosym for any "
            f"of {len(choices)} experiments (its log is {steps.log_of(STEP)}): give "
            "more of them, or set scaling.ambiguity=maps."
        )
    by = "Bragg reflections (dials.cosym)"
    return answer(asked, choices, by, "Give more reflections of them")


def chosen_operators(
    changes: Mapping[str, np.ndarray], asked: Question
) -> dict[str, int]:
    """Experiment -> number of the operator to the setting that most of them have.

    Args:
        changes: Identifier -> (3, 3) matrix from the indices of the experiment to those
            of a setting that all share, which may be another one than theirs.
        asked: The question; experiments whose operator isn't among its are left out.
    """
    laue = {m.tobytes() for m in _columns(asked)}
    found: dict[str, np.ndarray] = {}
    first = None
    for name, change in changes.items():
        first = change if first is None else first
        relative = np.linalg.inv(first) @ change
        whole = np.rint(relative).astype(np.int64)
        if np.abs(relative - whole).max() < NOT_WHOLE:
            found[name] = whole
    count = Counter(whole.tobytes() for whole in found.values())
    distinct = {whole.tobytes(): whole for whole in found.values()}

    def at_home(reference: np.ndarray) -> int:
        back = _inverse(reference)
        return sum(
            count[name] for name, one in distinct.items() if _bytes(back, one) in laue
        )

    if not distinct:
        return {}
    back = _inverse(max(distinct.values(), key=at_home))
    numbers = {
        _bytes(r, matrix): i
        for i, matrix in enumerate(asked.operators.values())
        for r in _columns(asked)
    }
    return {
        name: numbers[_bytes(back, whole)]
        for name, whole in found.items()
        if _bytes(back, whole) in numbers
    }


def _columns(asked: Question) -> list[np.ndarray]:
    """The Laue group as matrices that act on columns of indices."""
    return [np.ascontiguousarray(r.T) for r in asked.laue.operators]


def _inverse(matrix: np.ndarray) -> np.ndarray:
    return np.rint(np.linalg.inv(matrix)).astype(np.int64)


def _bytes(a: np.ndarray, b: np.ndarray) -> bytes:
    return np.ascontiguousarray(a @ b).tobytes()


def _setting(crystal) -> np.ndarray:
    return np.array(crystal.get_A()).reshape(3, 3)


def _given(observed, bragg: Bragg):
    """Experiments with integrated reflections, and these, `id` counting through them.

    Raises:
        InputError: There are fewer than two.
    """
    if bragg.experiments:
        experiments, table = load(bragg.experiments, bragg.reflections, False)
    else:
        experiments = _once_each(observed)
        table = load_reflections(bragg.reflections, experiments)
    table = table.select(table.get_flags(table.flags.integrated, all=False))
    if not len(table):
        raise InputError(
            f"The reflections of {', '.join(bragg.reflections)} are not integrated: "
            "give those of dials.integrate, so that dials.cosym can compare them."
        )
    known = {e.identifier for e in observed}
    ids = flumpy.to_numpy(table["id"])
    kept = ExperimentList()
    new = np.full(len(experiments), -1, np.int32)
    for number in np.unique(ids).tolist():
        if experiments[number].identifier in known - {""}:
            new[number] = len(kept)
            kept.append(experiments[number])
    if len(kept) < 2:
        raise InputError(
            f"The reflections of {', '.join(bragg.reflections)} belong to "
            f"{len(kept)} of the experiments with observations: give those of two or "
            "more."
        )
    table["id"] = flumpy.from_numpy(np.ascontiguousarray(new[ids]))
    return kept, table.select(table["id"] >= 0)


def _once_each(observed):
    """Experiments may be in several folders, with different images."""
    names: set[str] = set()
    kept = ExperimentList()
    for experiment in observed:
        if experiment.identifier and experiment.identifier not in names:
            names.add(experiment.identifier)
            kept.append(experiment)
    return kept


def _write(experiments, table, paths: Sequence[Path]) -> None:
    for number, experiment in enumerate(experiments):
        table.experiment_identifiers()[number] = experiment.identifier
    for content, path in zip((experiments, table), paths, strict=True):
        temporary = path.with_name(f".{os.getpid()}.{path.name}")
        content.as_file(str(temporary))
        os.replace(temporary, path)


def _confirmed(
    asked: Question,
    experiments,
    table,
    sources: Mapping[str, np.ndarray],
    chosen: Mapping[str, int],
):
    """Choice for each experiment of the question."""
    number = {name: i for i, name in enumerate(asked.names)}
    ids = flumpy.to_numpy(table["id"])
    hkl = np.array(table["miller_index"].as_vec3_double()).reshape(-1, 3)
    intensity, use = _intensities(table)
    crystal = np.full(len(table), -1, np.int64)
    index = np.zeros(hkl.shape, np.int64)
    s = np.zeros(len(table))
    for i, experiment in enumerate(experiments):
        part = ids == i
        q = hkl[part] @ _setting(experiment.crystal).T
        back = np.linalg.inv(sources[experiment.identifier])
        index[part] = np.rint(q @ back.T)
        s[part] = np.linalg.norm(q, axis=1)
        crystal[part] = number.get(experiment.identifier, -1)
    use &= (crystal >= 0) & index.any(axis=1)
    return confirmed(
        crystal[use],
        keys_of(index[use]),
        s[use],
        intensity[use],
        asked.laue,
        list(asked.operators.values()),
        [chosen.get(name) for name in asked.names],
    )


def _intensities(table) -> tuple[np.ndarray, np.ndarray]:
    """By profile where there is one, else by summation; and which are of use."""
    intensity = np.zeros(len(table))
    use = np.zeros(len(table), bool)
    for kind, flag in (
        ("sum", table.flags.integrated_sum),
        ("prf", table.flags.integrated_prf),
    ):
        if f"intensity.{kind}.value" in table:
            there = flumpy.to_numpy(table.get_flags(flag))
            values = flumpy.to_numpy(table[f"intensity.{kind}.value"])
            intensity[there] = values[there]
            use |= there
    if "partiality" in table:
        partiality = flumpy.to_numpy(table["partiality"])
        use &= partiality > PARTIALITY
        intensity = intensity / np.where(use, partiality, 1.0)
    if "lp" in table:
        intensity = intensity * flumpy.to_numpy(table["lp"])
    return intensity, use & np.isfinite(intensity)
