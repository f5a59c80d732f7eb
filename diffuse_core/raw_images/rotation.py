"""Rotation scans, and stills at known angles: spots to integrated experiments.

Each step gives a pair of files (.expt, .refl). Refinement, symmetry and scaling improve
a result that is good enough without them: where one fails, the chain goes on with the
files before it and says so.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dials.array_family import flex

from diffuse_core.compat import load_experiments
from diffuse_core.raw_images import rotation_sense
from diffuse_core.raw_images.steps import Step, StepError, Steps

logger = logging.getLogger("dials.diffuse")

Pair = tuple[Path, Path]

FEW_REFLECTIONS = """
integration.profile.fitting = False
profile.gaussian_rs.min_spots.per_degree = 0
profile.gaussian_rs.min_spots.overall = 0
"""


OF_SPOTS = (
    "bbox flags id intensity.sum.value miller_index panel s1 xyzcal.px xyzobs.px.value"
).split()


@dataclass(frozen=True)
class Known:
    """What the user says of the crystal, as PHIL values; None: unknown."""

    unit_cell: str | None = None
    space_group: str | None = None

    def phil(self, cell: str, group: str) -> str:
        """PHIL text that gives them to the parameters of these names."""
        text = ""
        if self.unit_cell:
            text += f"{cell} = {self.unit_cell}\n"
        if self.space_group:
            text += f'{group} = "{self.space_group}"\n'
        return text


def find_spots(steps: Steps, imported: Path, nproc: int) -> Path:
    """Strong spots of imported images."""
    (spots,) = steps.run(
        Step(
            "find_spots",
            "find_spots",
            [imported],
            {"output.reflections": "strong.refl"},
            f"spotfinder.mp.nproc = {nproc}\n",
        )
    )
    return spots


def index(steps: Steps, imported: Path, spots: Path, known: Known, nproc: int) -> Pair:
    """One lattice for all sweeps; where they have none in common, one for each.

    Raises:
        StepError: The sweeps can't be indexed.
        InputError: They can with the rotation axis reversed.
    """
    lattice = known.phil(
        "indexing.known_symmetry.unit_cell", "indexing.known_symmetry.space_group"
    )
    text = f"{lattice}indexing.nproc = {nproc}\n"
    joint = "indexing.joint_indexing = True\n"
    ways = {"index": text}
    if number_of_experiments(imported) > 1:
        apart = "indexing.joint_indexing = False\n"
        ways = {"index": text + joint, "index_apart": text + apart}
    outputs = {
        "output.experiments": "indexed.expt",
        "output.reflections": "indexed.refl",
    }
    failure: StepError | None = None
    for name, phil in ways.items():
        step = Step(name, "index", [imported, spots], outputs, phil, optional=True)
        try:
            pair = _pair(steps.run(step))
        except StepError as error:
            logger.warning("%s", error)
            failure = error
            continue
        rotation_sense.check(steps, imported, spots, phil, pair[1])
        return pair
    rotation_sense.check(steps, imported, spots, phil, None)
    raise failure


def refine(steps: Steps, indexed: Pair, scan_varying: bool) -> Pair:
    """Refined with static models, then with models that vary along the scan.

    dials.refine does both, one after the other, if it is not told anything; where that
    fails static models are tried.
    """
    if scan_varying:
        varying = _or_before(indexed, lambda: _refine(steps, indexed, "refine", "Auto"))
        if varying is not indexed:
            return varying
    return _or_before(
        indexed, lambda: _refine(steps, indexed, "refine_static", "False")
    )


def _refine(steps: Steps, before: Pair, name: str, varying: str) -> Pair:
    outputs = {
        "output.experiments": "refined.expt",
        "output.reflections": "refined.refl",
    }
    text = f"refinement.parameterisation.scan_varying = {varying}\n"
    return _pair(steps.run(Step(name, "refine", before, outputs, text, optional=True)))


def integrate(steps: Steps, refined: Pair, nproc: int) -> Pair:
    """Integrated; without profile fitting where the spots are too few for profiles."""
    outputs = {
        "output.experiments": "integrated.expt",
        "output.reflections": "integrated.refl",
    }
    text = f"integration.mp.nproc = {nproc}\n"
    try:
        return _pair(
            steps.run(
                Step("integrate", "integrate", refined, outputs, text, optional=True)
            )
        )
    except StepError as error:
        logger.warning("%s Trying without profile fitting.", error)
    step = Step("integrate_few", "integrate", refined, outputs, text + FEW_REFLECTIONS)
    return _pair(steps.run(step))


def symmetry(steps: Steps, integrated: Pair, known: Known, nproc: int) -> Pair:
    """With the symmetry of the intensities, all crystals in one setting.

    dials.symmetry for one experiment whose space group isn't known; dials.cosym and
    dials.scale for several.
    """
    if number_of_experiments(integrated[0]) == 1:
        if known.space_group:
            return integrated
        return _or_before(integrated, lambda: _symmetry(steps, integrated))
    one = _or_before(integrated, lambda: _cosym(steps, integrated, known, nproc))
    return _or_before(one, lambda: _scale(steps, one, nproc))


def _symmetry(steps: Steps, before: Pair) -> Pair:
    outputs = {
        "output.experiments": "symmetrized.expt",
        "output.reflections": "symmetrized.refl",
    }
    return _pair(
        steps.run(Step("symmetry", "symmetry", before, outputs, optional=True))
    )


def _cosym(steps: Steps, before: Pair, known: Known, nproc: int) -> Pair:
    group = f'space_group = "{known.space_group}"\n' if known.space_group else ""
    outputs = {
        "output.experiments": "symmetrized.expt",
        "output.reflections": "symmetrized.refl",
    }
    text = f"{group}nproc = {nproc}\n"
    return _pair(
        steps.run(Step("cosym", "cosym", before, outputs, text, optional=True))
    )


def _scale(steps: Steps, before: Pair, nproc: int) -> Pair:
    outputs = {
        "output.experiments": "scaled.expt",
        "output.reflections": "scaled.refl",
    }
    return _pair(
        steps.run(Step("scale", "scale", before, outputs, f"nproc = {nproc}\n"))
    )


def spots_of(steps: Steps, seen: Pair, final: Pair) -> Path:
    """The spots that were seen, for masks: integrated ones don't tell their size.

    Their Miller indices are left out, since symmetry may have changed the setting.

    Args:
        steps: The runner.
        seen: Refined experiments and their spots.
        final: Integrated experiments and their reflections.
    """
    path = steps.folder / "spots.refl"

    def work() -> None:
        table = flex.reflection_table.from_file(str(seen[1]))
        last = load_experiments(str(final[0]), check_format=False).identifiers()
        names = dict(table.experiment_identifiers())
        for number, name in names.items():
            if name not in last:
                table = table.select(table["id"] != number)
                del table.experiment_identifiers()[number]
        for column in set(table.keys()) - set(OF_SPOTS):
            del table[column]
        table["miller_index"] = flex.miller_index(len(table), (0, 0, 0))
        temporary = path.with_name(f".{os.getpid()}.{path.name}")
        table.as_file(str(temporary))
        os.replace(temporary, path)

    steps.once("spots", [seen[1], final[0]], [path], work)
    return path


def _or_before(before: Pair, better: Callable[[], Pair]) -> Pair:
    try:
        return better()
    except StepError as error:
        logger.warning("%s Going on with %s.", error, before[0].name)
        return before


def number_of_experiments(path: Path) -> int:
    """The number of experiments in an .expt file."""
    return len(json.loads(Path(path).read_text())["experiment"])


def _pair(outputs: list[Path]) -> Pair:
    experiments, reflections = outputs
    return experiments, reflections
