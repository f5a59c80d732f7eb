"""Stills: every image indexed and integrated by itself, failures counted and left out.

Two ways: dials.find_spots, dials.ssx_index and dials.ssx_integrate, or
dials.stills_process, which does all of it image by image.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dials.array_family import flex
from dxtbx import flumpy
from dxtbx.imageset import ImageSet
from dxtbx.model import ExperimentList

from diffuse_core.compat import load_experiments
from diffuse_core.errors import InputError
from diffuse_core.raw_images import programs, validation
from diffuse_core.raw_images.cells import CellSpread, largest_group
from diffuse_core.raw_images.headers import exposure_of, still_scan
from diffuse_core.raw_images.rotation import Known, Pair, find_spots
from diffuse_core.raw_images.steps import Step, StepError, Steps

logger = logging.getLogger("dials.diffuse")

SSX, STILLS_PROCESS = "ssx", "stills_process"
LENGTH_TOLERANCE, ANGLE_TOLERANCE = 0.05, 3.0
"""Crystals whose cells differ more (relative; deg) are of another kind."""
NO_SPOTS, NOT_INDEXED = "too few spots", "not indexed"
NOT_INTEGRATED, OTHER_CELL = "not integrated", "another unit cell"
WRONG_PLACES = "wrongly indexed"
IN_ONE_FILE = 1000
"""Crystals per file that dials.ssx_integrate writes."""

Image = tuple[str, int]
"""Path of an image file, and number of the image in it."""


@dataclass
class Tally:
    """What became of every image.

    Attributes:
        images: Number of images that were given.
        lost: Reason -> names of the images that were left out for it.
        cells: Of the crystals that were kept.
    """

    images: int
    lost: dict[str, list[str]] = field(default_factory=dict)
    cells: CellSpread | None = None

    def add(self, reason: str, names: Sequence[str]) -> None:
        if names:
            self.lost.setdefault(reason, []).extend(names)

    def text(self) -> str:
        """A sentence: how many images were kept, and why the others were not."""
        n_lost = sum(map(len, self.lost.values()))
        text = f"{self.images - n_lost} of {self.images} stills were indexed"
        reasons = ", ".join(f"{len(names)} {why}" for why, names in self.lost.items())
        return f"{text}; left out: {reasons}" if reasons else text


def reduce_stills(
    steps: Steps, imported: Path, known: Known, nproc: int, program: str, tally: Tally
) -> Pair:
    """The crystals of all stills that can be used.

    Args:
        steps: The runner.
        imported: .expt file with one experiment for each image.
        known: Cell and space group.
        nproc: Number of processes.
        program: 'ssx' or 'stills_process'; 'auto' takes the first of them that indexes
            an image.
        tally: Gets what became of the images.

    Raises:
        StepError: The programs stopped.
        InputError: No image is indexed, or too few agree.
    """
    pairs = _with_either(steps, imported, known, nproc, program, tally)
    return _those_that_agree(steps, pairs, tally)


def _with_either(steps, imported, known, nproc, program, tally) -> list[Pair]:
    ways = [program]
    if program == "auto":
        ways = (
            [SSX, STILLS_PROCESS] if programs.exists("ssx_index") else [STILLS_PROCESS]
        )
        if "stills_process" in steps.user:
            ways = [STILLS_PROCESS]
        elif {"ssx_index", "ssx_integrate"} & set(steps.user):
            ways = [SSX]
    error: Exception | None = None
    for way in ways:
        run = _ssx if way == SSX else _stills_process
        trial = Tally(tally.images)
        try:
            pairs = run(steps, imported, known, nproc, trial)
        except (StepError, InputError) as failure:
            logger.warning("%s", failure)
            error = failure
            continue
        for reason, names in trial.lost.items():
            tally.add(reason, names)
        return pairs
    raise error


def _ssx(steps: Steps, imported: Path, known: Known, nproc: int, tally: Tally):
    spots = find_spots(steps, imported, nproc)
    images = images_of(imported)
    bright = _images_with(spots, images, 10)
    tally.add(NO_SPOTS, _names(images, bright))
    if not bright:
        raise InputError(
            f"None of {len(images)} stills has 10 spots: lower the threshold with "
            "dials.find_spots.spotfinder.threshold..., or look at "
            f"{os.path.relpath(spots)} with dials.image_viewer."
        )
    text = known.phil(
        "indexing.known_symmetry.unit_cell", "indexing.known_symmetry.space_group"
    )
    indexed = steps.run(
        Step(
            "ssx_index",
            "ssx_index",
            [imported, spots],
            {
                "output.experiments": "indexed.expt",
                "output.reflections": "indexed.refl",
            },
            f"{text}nproc = {nproc}\n",
            optional=True,
        )
    )
    found = images_of(indexed[0])
    tally.add(NOT_INDEXED, _names(bright, found))
    if not found:
        raise InputError(_none_indexed("ssx_index", steps, len(images), known))
    written = steps.run(
        Step(
            "ssx_integrate",
            "ssx_integrate",
            indexed,
            {},
            f"nproc = {nproc}\noutput.batch_size = {IN_ONE_FILE}\n",
            patterns=("integrated_*.expt", "integrated_*.refl"),
            optional=True,
        )
    )
    pairs = _pairs(written)
    done = {image for expt, _ in pairs for image in images_of(expt)}
    tally.add(NOT_INTEGRATED, _names(found, done))
    return pairs


def _stills_process(steps, imported, known, nproc, tally) -> list[Pair]:
    text = known.phil(
        "indexing.known_symmetry.unit_cell", "indexing.known_symmetry.space_group"
    )
    written = steps.run(
        Step(
            "stills_process",
            "stills_process",
            [imported],
            {},
            f"{text}mp.nproc = {nproc}\nmp.debug.output_debug_logs = False\n",
            patterns=("idx-*_integrated.expt", "idx-*_integrated.refl"),
            optional=True,
        )
    )
    pairs = _pairs(written)
    images = images_of(imported)
    done = {image for expt, _ in pairs for image in images_of(expt)}
    if not done:
        raise InputError(_none_indexed("stills_process", steps, len(images), known))
    tally.add("not indexed and integrated", _names(images, done))
    return pairs


def _none_indexed(program: str, steps: Steps, images: int, known: Known) -> str:
    advice = (
        "check beam centre, distance and wavelength, or give other "
        if known.unit_cell
        else "give crystal.unit_cell and crystal.space_group, or "
    )
    return (
        f"dials.{program} indexed none of {images} stills (log: "
        f"{steps.log_of(program)}): {advice}parameters with dials.{program}.NAME=VALUE."
    )


def images_of(path: Path) -> list[Image]:
    """The images of the experiments of an .expt file, each once, in order."""
    experiments = load_experiments(str(path), check_format=False)
    return list(dict.fromkeys(images_in_order(experiments)))


def images_in_order(experiments) -> list[Image]:
    """The image of each experiment.

    dials.import gives all stills of a series one image set, in which the first
    experiment has the first image, and so on.
    """
    seen: Counter = Counter()
    found = []
    for experiment in experiments:
        images = experiment.imageset
        key = (tuple(images.paths()), tuple(images.indices()))
        n = min(seen[key], len(images) - 1)
        seen[key] += 1
        one_file = len(set(images.paths())) == 1
        number = int(images.indices()[n]) if one_file else 0
        found.append((os.path.abspath(images.get_path(n)), number))
    return found


def name_of(image: str | Image) -> str:
    """The name of a file, or of an image in a file of many."""
    if isinstance(image, str):
        return os.path.basename(image)
    return f"{os.path.basename(image[0])} image {image[1] + 1}"


def without(steps: Steps, imported: Path, damaged: Sequence[Image]) -> Path:
    """An .expt file like `imported` that lacks some images of files of many."""
    path = steps.folder / "readable.expt"

    def work() -> None:
        experiments = load_experiments(str(imported), check_format=True)
        lost, files = set(damaged), {path for path, _ in damaged}
        kept = ExperimentList()
        for experiment, image in zip(
            experiments, images_in_order(experiments), strict=True
        ):
            if image in lost:
                continue
            if image[0] in files:
                numbers = flex.size_t([image[1]])
                experiment.imageset = ImageSet(experiment.imageset.data(), numbers)
            kept.append(experiment)
        temporary = path.with_name(f".{os.getpid()}.{path.name}")
        kept.as_file(str(temporary))
        os.replace(temporary, path)

    steps.once("readable", [imported, *{Path(p) for p, _ in damaged}], [path], work)
    return path


def _images_with(spots: Path, images: list[Image], least: int) -> list[Image]:
    table = flex.reflection_table.from_file(str(spots))
    counts = Counter(table["id"])
    return [image for n, image in enumerate(images) if counts[n] >= least]


def _names(before: Sequence[Image], after) -> list[str]:
    kept = set(after)
    return [os.path.basename(path) for path, n in before if (path, n) not in kept]


def _pairs(written: Sequence[Path]) -> list[Pair]:
    return [
        (path, path.with_suffix(".refl")) for path in written if path.suffix == ".expt"
    ]


def _those_that_agree(steps: Steps, pairs: Sequence[Pair], tally: Tally) -> Pair:
    """One pair with the crystals whose cells agree.

    Raises:
        InputError: Fewer than half of the crystals agree.
    """
    experiments = ExperimentList()
    tables = []
    for expt, refl in pairs:
        tables.append(flex.reflection_table.from_file(str(refl)))
        tables[-1]["id"] += len(experiments)
        experiments.extend(load_experiments(str(expt), check_format=False))
    images = images_in_order(experiments)
    wrong = set()
    for table in tables:
        mine = set(table["id"]) - {-1}
        found = validation.residuals(experiments, table)
        wrong |= mine & set(validation.wrong_experiments(found, len(experiments)))
    cells = np.array([e.crystal.get_unit_cell().parameters() for e in experiments])
    tally.cells = largest_group(cells, LENGTH_TOLERANCE, ANGLE_TOLERANCE)
    same = tally.cells.same
    if len(same) > 2 and 2 * same.sum() <= len(same):
        raise InputError(
            f"Of {len(same)} indexed stills no more than {same.sum()} agree in their "
            "unit cell: give crystal.unit_cell and crystal.space_group, so that they "
            "are indexed alike."
        )
    good = same & ~np.isin(np.arange(len(same)), sorted(wrong))
    if not good.any():
        raise InputError(
            f"None of the {len(same)} indexed stills has its spots where its crystal "
            "puts them: check beam centre and distance."
        )
    kept = [image for image, fine in zip(images, good, strict=True) if fine]
    cell_fits = [image for image, fine in zip(images, same, strict=True) if fine]
    tally.add(OTHER_CELL, _names(images, cell_fits))
    tally.add(WRONG_PLACES, _names(cell_fits, kept))
    pair = steps.folder / "stills.expt", steps.folder / "stills.refl"
    files = [path for one in pairs for path in one]
    chosen = ExperimentList(
        [e for e, fine in zip(experiments, good, strict=True) if fine]
    )

    def work() -> None:
        for experiment, (path, number) in zip(chosen, kept, strict=True):
            experiment.scan = still_scan(exposure_of(path, number))
        _write(pair, chosen, good, pairs)

    steps.once("stills", files, pair, work)
    return pair


def _write(target: Pair, kept, good: np.ndarray, pairs: Sequence[Pair]) -> None:
    """The experiments that are kept and their reflections, numbered through."""
    new = np.where(good, np.cumsum(good) - 1, -1).astype(np.int32)
    total = flex.reflection_table()
    first = 0
    for expt, refl in pairs:
        table = flex.reflection_table.from_file(str(refl))
        table = table.select(table["id"] >= 0)
        for key in list(table.experiment_identifiers().keys()):
            del table.experiment_identifiers()[key]
        ids = new[flumpy.to_numpy(table["id"]) + first]
        table["id"] = flumpy.from_numpy(ids)
        total.extend(table.select(table["id"] >= 0))
        first += len(load_experiments(str(expt), check_format=False))
    for number, experiment in enumerate(kept):
        total.experiment_identifiers()[number] = experiment.identifier
    temporary = [path.with_name(f".{os.getpid()}.{path.name}") for path in target]
    kept.as_file(str(temporary[0]))
    total.as_file(str(temporary[1]))
    for source, path in zip(temporary, target, strict=True):
        os.replace(source, path)
